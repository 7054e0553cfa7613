//! Faultline, brought into a cluster and out of it again.

mod access;
mod agent;
mod apply;
mod controller;
mod error;
mod identity;
mod manifests;
mod object;
mod print;
mod rbac;
mod renew;
mod rotate;
mod secrets;
pub mod settings;
mod uninstall;
mod wait;

use std::{
    collections::BTreeMap,
    time::{Duration, Instant, SystemTime},
};

use serde::Serialize;

pub(super) use access::missing as missing_access;
pub use error::InstallError;
pub use print::{Secrets, print};
pub use renew::renew;
pub use settings::{Images, Settings};
pub use uninstall::{Removed, Uninstall};

use self::{
    apply::Applied,
    identity::Identities,
    object::{Kind, NAMESPACE, Object},
    wait::Wait,
};
use super::{
    Cluster, ClusterChoice,
    connect::Connection,
    error::{Asked, ClusterError},
    names::{COMPONENT_LABEL, CONTROLLER, MADE_BY_INSTALL, MADE_LABEL},
};

/// The labels by which `uninstall` knows what belongs to the installation in a namespace, of what is made later than it.
pub(super) fn labels_of(installation: &str) -> BTreeMap<String, String> {
    let labels = [
        (object::PART_OF_LABEL, object::PART_OF),
        (object::INSTANCE_LABEL, installation),
        (COMPONENT_LABEL, CONTROLLER),
    ];
    labels.map(|(name, value)| (name.to_owned(), value.to_owned())).into()
}

/// Told what is being done, in a few words.
pub type Progress<'a> = &'a (dyn Fn(&str) + Sync);

/// How something is installed.
#[derive(Debug, Clone)]
pub struct How {
    /// Whether the certificate authority is changed although it is good.
    pub rotate: bool,
    /// How long to wait for the agents; `None`: not at all.
    pub wait: Option<Duration>,
}

/// What was done.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Installed {
    /// The namespace.
    pub namespace: String,
    /// Objects that were not there.
    pub created: Vec<String>,
    /// Objects that are different now.
    pub changed: Vec<String>,
    /// Objects that were as they should be.
    pub unchanged: usize,
    /// Identities that were made, and why.
    pub identities: Vec<String>,
    /// What somebody should look at.
    pub warnings: Vec<String>,
}

/// Installs, or brings up to date what is installed, and waits for the agents. Returns the cluster as a place, if it
/// was waited for.
///
/// # Errors
/// When something is refused. If that is known before, nothing is changed.
pub async fn install(
    choice: &ClusterChoice,
    settings: &Settings,
    how: &How,
    progress: Progress<'_>,
) -> Result<(Installed, Option<Cluster>), InstallError> {
    let began = Instant::now();
    let connection = Connection::open(choice).await?;
    let minor = connection.minor_version().await?;
    let objects = manifests::objects(settings, Some(minor));
    check_access(&connection, settings, &objects).await?;
    let mut installed = Installed { namespace: settings.namespace.clone(), ..Installed::default() };
    let namespace = namespace(&connection, settings, &mut installed).await?;
    // What is checked by more than access, such as roles that give more than whoever gives them has.
    for object in objects.iter().filter(|object| !object.kind.is_namespaced) {
        apply::rehearse(&connection, object).await?;
    }
    if let Some(object) = &namespace {
        put(&connection, object, &mut installed).await?;
    }
    let kept = secrets::read(&connection, &settings.namespace).await?;
    let mut identities = Identities::of(kept, how.rotate, SystemTime::now())?;
    installed.identities.append(&mut identities.notes);
    for object in identities.objects(&settings.namespace).iter().chain(&objects) {
        put(&connection, object, &mut installed).await?;
    }
    progress(&format!("{} in namespace {}", installed.counts(), settings.namespace));
    let Some(timeout) = how.wait else { return Ok((installed, None)) };
    let wait = Wait { connection: &connection, choice, settings, began, timeout };
    let cluster = wait.for_agents(progress).await?;
    wait.for_controller(&cluster, progress).await?;
    if identities.is_changing() {
        rotate::finish(&wait, &cluster, &mut identities, progress).await?;
        return Ok((installed, Some(Cluster::connect(&wait.installation()).await?)));
    }
    Ok((installed, Some(cluster)))
}

impl Installed {
    /// How many objects became what.
    pub fn counts(&self) -> String {
        let (created, changed) = (self.created.len(), self.changed.len());
        format!("{created} created, {changed} changed, {} as they were", self.unchanged)
    }
}

async fn put(
    connection: &Connection,
    object: &Object,
    installed: &mut Installed,
) -> Result<(), ClusterError> {
    match apply::apply(connection, object).await? {
        Applied::Created => installed.created.push(object.title()),
        Applied::Changed => installed.changed.push(object.title()),
        Applied::Unchanged => installed.unchanged += 1,
    }
    Ok(())
}

/// The namespace as it is to be applied: nothing, where somebody else made it.
async fn namespace(
    connection: &Connection,
    settings: &Settings,
    installed: &mut Installed,
) -> Result<Option<Object>, ClusterError> {
    const ENFORCE: &str = "pod-security.kubernetes.io/enforce";
    let name = &settings.namespace;
    let there = apply::get(connection, NAMESPACE, None, name).await?;
    let Some(there) = there else {
        return Ok(Some(manifests::namespace(settings).labelled(MADE_LABEL, MADE_BY_INSTALL)));
    };
    let labels = there.metadata.labels.unwrap_or_default();
    if labels.get(MADE_LABEL).is_some_and(|by| by == MADE_BY_INSTALL) {
        return Ok(Some(manifests::namespace(settings).labelled(MADE_LABEL, MADE_BY_INSTALL)));
    }
    if labels.get(ENFORCE).is_some_and(|level| level != "privileged") {
        installed.warnings.push(format!(
            "namespace {name} was made by somebody else and lets no agent run: kubectl label namespace {name} --overwrite \
             {ENFORCE}=privileged"
        ));
    }
    Ok(None)
}

/// # Errors
/// Everything that this user may not do and that this takes.
async fn check_access(
    connection: &Connection,
    settings: &Settings,
    objects: &[Object],
) -> Result<(), InstallError> {
    let namespace = settings.namespace.as_str();
    let mut kinds: Vec<Kind> = Vec::new();
    for kind in objects.iter().map(|object| object.kind).chain([NAMESPACE, object::SECRET]) {
        if !kinds.contains(&kind) {
            kinds.push(kind);
        }
    }
    let mut wanted = Vec::new();
    for kind in kinds {
        for verb in ["get", "create", "patch"] {
            let asked = Asked::new(verb, kind.resource());
            wanted.push(if kind.is_namespaced { asked.within(namespace) } else { asked });
        }
    }
    wanted.push(Asked::new("list", "pods"));
    wanted.push(Asked::new("watch", "pods"));
    if !connection.is_inside() {
        wanted.push(Asked::new("create", "pods/portforward").within(namespace));
    }
    let missing = access::missing(connection, wanted).await?;
    if missing.is_empty() {
        return Ok(());
    }
    Err(InstallError::Access { who: access::whoami(connection).await, missing })
}
