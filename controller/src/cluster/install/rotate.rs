//! The change of the certificate authority: no pod is restarted for it, and runs that begin meanwhile go on. One that had
//! begun before is refused by agents once the authority of before is trusted no more; its faults end with their leases.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api,
    api::{ListParams, Patch, PatchParams},
};
use serde_json::json;
use tokio::time::sleep;

use super::{
    super::{
        Cluster,
        connect::Connection,
        error::{Asked, ClusterError},
        names::{AGENT, COMPONENT_LABEL},
    },
    Progress, apply,
    error::InstallError,
    identity::Identities,
    wait::{Wait, answering},
};
use crate::place::Credentials;

/// How long to wait between two looks.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// An annotation of agents' pods. A kubelet looks at the Secrets of a pod at once when the pod changes, and otherwise
/// within a minute or two.
const NUDGE_ANNOTATION: &str = "faultline.dev/identities-changed";

/// Goes on with a change that is going on, until it is over.
pub(super) async fn finish(
    wait: &Wait<'_>,
    cluster: &Cluster,
    identities: &mut Identities,
    progress: Progress<'_>,
) -> Result<(), InstallError> {
    if !identities.is_signed(SystemTime::now()) {
        let new = identities.of_new_authority()?;
        until_all_accept(wait, cluster, &new, progress, "trust the new authority").await?;
        identities.sign()?;
        keep(wait.connection, &wait.settings.namespace, identities).await?;
    }
    let new = identities.trusting_new_alone();
    until_all_accept(wait, cluster, &new, progress, "have a certificate of the new authority")
        .await?;
    identities.forget();
    keep(wait.connection, &wait.settings.namespace, identities).await?;
    nudge(wait.connection, &wait.settings.namespace).await?;
    progress("the old authority is trusted no more");
    Ok(())
}

/// Writes the Secrets.
async fn keep(
    connection: &Connection,
    namespace: &str,
    identities: &Identities,
) -> Result<(), ClusterError> {
    for object in identities.objects(namespace) {
        apply::apply(connection, &object).await?;
    }
    Ok(())
}

async fn until_all_accept(
    wait: &Wait<'_>,
    cluster: &Cluster,
    credentials: &Credentials,
    progress: Progress<'_>,
    what: &str,
) -> Result<(), InstallError> {
    nudge(wait.connection, &wait.settings.namespace).await?;
    let mut told = None;
    loop {
        let wanted = cluster.agents().len();
        let (nodes, why) = answering(cluster, credentials).await;
        if told != Some(nodes.len()) {
            progress(&format!("{} of {wanted} agents {what}", nodes.len()));
            told = Some(nodes.len());
        }
        if why.is_empty() && nodes.len() >= wanted {
            return Ok(());
        }
        if wait.is_over() {
            return Err(InstallError::NotRotated { within: wait.timeout, why });
        }
        sleep(LOOK_EVERY).await;
    }
}

/// Has the kubelets look at the agents' Secret now.
async fn nudge(connection: &Connection, namespace: &str) -> Result<(), ClusterError> {
    let api: Api<Pod> = Api::namespaced(connection.client(), namespace);
    let asked = Asked::new("list", "pods").within(namespace);
    let params = ListParams::default().labels(&format!("{COMPONENT_LABEL}={AGENT}"));
    let pods = connection.answer(asked, api.list(&params)).await?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
    let now = now.to_string();
    let patch = Patch::Merge(json!({ "metadata": { "annotations": { NUDGE_ANNOTATION: now } } }));
    for name in pods.items.into_iter().filter_map(|pod| pod.metadata.name) {
        let asked = Asked::new("patch", "pods").within(namespace).named(&name);
        let params = PatchParams::default();
        let patched = connection.answer(asked, api.patch(&name, &params, &patch)).await;
        // One that has gone meanwhile reads its Secret anew when it comes back; and it is only quicker this way.
        if let Err(error) = patched {
            tracing::debug!(%name, ?error, "the kubelet is left to look by itself");
        }
    }
    Ok(())
}
