//! Faultline, taken out of a cluster. Whether its nodes are clean is proven before this, by their agents.

use std::time::{Duration, Instant};

use futures::{StreamExt as _, TryStreamExt as _, stream};
use serde::Serialize;
use tokio::time::sleep;

use super::{
    super::{
        ClusterChoice,
        connect::Connection,
        error::{Asked, ClusterError},
        names::{AGENT, COMPONENT_LABEL, MADE_BY_INSTALL, MADE_LABEL},
    },
    Progress, access, apply,
    error::InstallError,
    object::{
        CLUSTER_ROLE, CLUSTER_ROLE_BINDING, CONFIG_MAP, DAEMON_SET, DEPLOYMENT, INSTANCE_LABEL,
        Kind, LEASE, NAMESPACE, NETWORK_POLICY, PART_OF, PART_OF_LABEL, POD, PRIORITY_CLASS, ROLE,
        ROLE_BINDING, SECRET, SERVICE, SERVICE_ACCOUNT,
    },
};

/// How long to wait between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(300);
/// Requests at once.
const CONCURRENT_MAX: usize = 8;
/// How long agents may take to end: their grace, and what Kubernetes takes.
const PODS_MAX: Duration = Duration::from_mins(2);
/// How long objects may take to go.
const OBJECTS_MAX: Duration = Duration::from_secs(30);
/// How long a namespace may take to go.
const NAMESPACE_MAX: Duration = Duration::from_mins(2);

/// What is removed, in this order: who acts first, what they need last.
const KINDS: [Kind; 13] = [
    DEPLOYMENT,
    DAEMON_SET,
    NETWORK_POLICY,
    SERVICE,
    LEASE,
    CONFIG_MAP,
    SECRET,
    ROLE_BINDING,
    ROLE,
    SERVICE_ACCOUNT,
    CLUSTER_ROLE_BINDING,
    CLUSTER_ROLE,
    PRIORITY_CLASS,
];

/// An installation that is to be removed.
#[derive(Debug)]
pub struct Uninstall {
    connection: Connection,
    namespace: String,
}

/// What was removed, and what was not.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Removed {
    /// Objects that are gone.
    pub removed: Vec<String>,
    /// What stays, and why.
    pub left: Vec<String>,
}

impl Uninstall {
    /// Finds the installations of a cluster, of which one may be meant.
    ///
    /// # Errors
    /// When the cluster cannot be asked.
    pub async fn installations(choice: &ClusterChoice) -> Result<Vec<String>, InstallError> {
        let connection = Connection::open(choice).await?;
        let api = apply::api(&connection, DAEMON_SET, None);
        let params = kube::api::ListParams::default().labels(&format!("{COMPONENT_LABEL}={AGENT}"));
        let asked = Asked::new("list", DAEMON_SET.resource());
        let list = connection.answer(asked, api.list(&params)).await?;
        Ok(list.items.into_iter().filter_map(|set| set.metadata.namespace).collect())
    }

    /// Checks that this user may remove the installation in a namespace.
    ///
    /// # Errors
    /// Everything that this user may not do and that this takes.
    pub async fn of(choice: &ClusterChoice, namespace: &str) -> Result<Self, InstallError> {
        let connection = Connection::open(choice).await?;
        let mut wanted = vec![
            Asked::new("get", NAMESPACE.resource()),
            Asked::new("delete", NAMESPACE.resource()),
            Asked::new("get", DAEMON_SET.resource()).within(namespace),
            Asked::new("list", POD.resource()).within(namespace),
        ];
        for kind in KINDS {
            for verb in ["list", "delete"] {
                let asked = Asked::new(verb, kind.resource());
                wanted.push(if kind.is_namespaced { asked.within(namespace) } else { asked });
            }
        }
        let missing = access::missing(&connection, wanted).await?;
        if !missing.is_empty() {
            return Err(InstallError::Access { who: access::whoami(&connection).await, missing });
        }
        Ok(Self { connection, namespace: namespace.into() })
    }

    /// Removes everything that belongs to the installation, and the namespace, if `install` made it.
    ///
    /// # Errors
    /// When the API server refuses. What was removed until then is.
    pub async fn remove(&self, progress: Progress<'_>) -> Result<Removed, InstallError> {
        let mut removed = Removed::default();
        let state_dir = self.state_dir().await?;
        for kind in KINDS {
            for name in self.names(kind).await? {
                let namespace = kind.is_namespaced.then_some(self.namespace.as_str());
                if apply::delete(&self.connection, kind, namespace, &name).await? {
                    removed.removed.push(title(kind, namespace, &name));
                }
            }
            if kind == DAEMON_SET {
                self.until_agents_are_gone(progress, &mut removed).await?;
            }
        }
        self.remove_namespace(progress, &mut removed).await?;
        removed.left.extend(self.until_all_is_gone().await?);
        if let Some(dir) = state_dir {
            removed.left.push(format!(
                "the directory {dir} on each node, which is empty: a pod cannot remove what is mounted into it"
            ));
        }
        Ok(removed)
    }

    fn labels(&self) -> String {
        format!("{PART_OF_LABEL}={PART_OF},{INSTANCE_LABEL}={}", self.namespace)
    }

    async fn names(&self, kind: Kind) -> Result<Vec<String>, ClusterError> {
        let namespace = kind.is_namespaced.then_some(self.namespace.as_str());
        apply::names(&self.connection, kind, namespace, &self.labels()).await
    }

    /// Where agents keep their undo records.
    async fn state_dir(&self) -> Result<Option<String>, ClusterError> {
        let set = apply::get(&self.connection, DAEMON_SET, Some(&self.namespace), AGENT).await?;
        let volumes = set.map(|set| set.data["spec"]["template"]["spec"]["volumes"].clone());
        let volumes = volumes.and_then(|volumes| volumes.as_array().cloned()).unwrap_or_default();
        let state = volumes.into_iter().find(|volume| volume["name"] == "state");
        Ok(state.and_then(|state| Some(state["hostPath"]["path"].as_str()?.to_owned())))
    }

    /// Agents revert what there is and remove what they keep before they end.
    async fn until_agents_are_gone(
        &self,
        progress: Progress<'_>,
        removed: &mut Removed,
    ) -> Result<(), ClusterError> {
        let began = Instant::now();
        let labels = format!("{COMPONENT_LABEL}={AGENT}");
        let mut told = None;
        loop {
            let namespace = Some(self.namespace.as_str());
            let pods = apply::names(&self.connection, POD, namespace, &labels).await?;
            if told != Some(pods.len()) {
                progress(&format!("{} agents still end", pods.len()));
                told = Some(pods.len());
            }
            if pods.is_empty() {
                return Ok(());
            }
            if began.elapsed() > PODS_MAX {
                let why = "its agent did not end; is its node down?";
                removed.left.extend(pods.into_iter().map(|pod| format!("Pod {pod}: {why}")));
                return Ok(());
            }
            sleep(LOOK_EVERY).await;
        }
    }

    async fn remove_namespace(
        &self,
        progress: Progress<'_>,
        removed: &mut Removed,
    ) -> Result<(), ClusterError> {
        let name = &self.namespace;
        let Some(there) = apply::get(&self.connection, NAMESPACE, None, name).await? else {
            return Ok(());
        };
        let labels = there.metadata.labels.unwrap_or_default();
        if labels.get(MADE_LABEL).is_none_or(|by| by != MADE_BY_INSTALL) {
            let why = "`faultline install` did not make it";
            removed.left.push(format!("{}: {why}", title(NAMESPACE, None, name)));
            return Ok(());
        }
        apply::delete(&self.connection, NAMESPACE, None, name).await?;
        progress("the namespace still ends");
        let began = Instant::now();
        while apply::get(&self.connection, NAMESPACE, None, name).await?.is_some() {
            if began.elapsed() > NAMESPACE_MAX {
                let why = format!("it still ends; `kubectl get namespace {name} -o yaml` says why");
                removed.left.push(format!("{}: {why}", title(NAMESPACE, None, name)));
                return Ok(());
            }
            sleep(LOOK_EVERY).await;
        }
        removed.removed.push(title(NAMESPACE, None, name));
        Ok(())
    }

    /// What is deleted goes a moment later, and what belongs to it before it. Returns what does not go.
    async fn until_all_is_gone(&self) -> Result<Vec<String>, ClusterError> {
        let began = Instant::now();
        loop {
            let left = self.still_there().await?;
            if left.is_empty() || began.elapsed() > OBJECTS_MAX {
                return Ok(left);
            }
            sleep(LOOK_EVERY).await;
        }
    }

    /// What the API server still has of it.
    async fn still_there(&self) -> Result<Vec<String>, ClusterError> {
        let looking = KINDS.into_iter().map(|kind| async move {
            let namespace = kind.is_namespaced.then_some(self.namespace.as_str());
            let names = self.names(kind).await?;
            Ok(names.into_iter().map(|name| title(kind, namespace, &name)).collect::<Vec<_>>())
        });
        let found: Vec<Vec<String>> =
            stream::iter(looking).buffered(CONCURRENT_MAX).try_collect().await?;
        Ok(found.into_iter().flatten().map(|title| format!("{title}: it still ends")).collect())
    }
}

fn title(kind: Kind, namespace: Option<&str>, name: &str) -> String {
    match namespace {
        Some(namespace) => format!("{} {namespace}/{name}", kind.name()),
        None => format!("{} {name}", kind.name()),
    }
}
