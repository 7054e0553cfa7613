//! Which pods are agents, and how each is reached. Pure.

use std::{collections::BTreeSet, sync::Arc};

use k8s_openapi::api::core::v1;

use super::{
    error::ClusterError,
    names::{AGENT, AGENT_PORT, AGENT_PORT_NAME, COMPONENT_LABEL},
};

/// What helps where a runtime cannot give what it has not itself, as in a container with fewer capabilities.
const WITHOUT_CAPABILITY: &str = "; the runtime has fewer capabilities than agents want: `faultline install \
     --without-capability SYS_RESOURCE` leaves out the one that is most often missing, `--privileged` takes what there is";

/// Whether a pod is an agent of any installation.
pub(super) fn is_agent(pod: &v1::Pod) -> bool {
    let labels = pod.metadata.labels.as_ref();
    labels.and_then(|labels| labels.get(COMPONENT_LABEL)).is_some_and(|value| value == AGENT)
}

/// The namespace of the installation.
///
/// # Errors
/// When there is none, or more than one to choose from.
pub(super) fn installation(
    pods: &[Arc<v1::Pod>],
    asked: Option<&str>,
) -> Result<String, ClusterError> {
    let found: BTreeSet<&str> = pods
        .iter()
        .filter(|pod| is_agent(pod))
        .filter_map(|pod| pod.metadata.namespace.as_deref())
        .filter(|namespace| asked.is_none_or(|asked| asked == *namespace))
        .collect();
    match found.into_iter().collect::<Vec<_>>().as_slice() {
        [] => Err(ClusterError::NotInstalled { namespace: asked.map(str::to_owned) }),
        [one] => Ok((*one).to_owned()),
        several => Err(ClusterError::SeveralInstallations {
            namespaces: several.iter().map(|namespace| (*namespace).to_owned()).collect(),
        }),
    }
}

/// The nodes that have an agent that runs, with its pod's address and port.
pub(super) fn running(pods: &[Arc<v1::Pod>], installation: &str) -> Vec<(String, String, u16)> {
    let of = pods.iter().filter(|pod| is_running(pod, installation));
    let mut nodes: Vec<_> =
        of.filter_map(|pod| Some((node(pod)?, address(pod)?, port(pod)))).collect();
    nodes.sort();
    nodes.dedup_by(|a, b| a.0 == b.0);
    nodes
}

/// The name and the port of the agent's pod on a node that runs now.
pub(super) fn running_on(
    pods: &[Arc<v1::Pod>],
    installation: &str,
    on: &str,
) -> Option<(String, u16)> {
    let of = pods.iter().filter(|pod| is_running(pod, installation));
    let mut here = of.filter(|pod| node(pod).as_deref() == Some(on));
    let pod = here.find(|pod| pod.metadata.deletion_timestamp.is_none())?;
    Some((pod.metadata.name.clone()?, port(pod)))
}

fn is_running(pod: &v1::Pod, installation: &str) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    is_agent(pod)
        && pod.metadata.namespace.as_deref() == Some(installation)
        && phase == Some("Running")
}

fn node(pod: &v1::Pod) -> Option<String> {
    pod.spec.as_ref()?.node_name.clone()
}

fn address(pod: &v1::Pod) -> Option<String> {
    pod.status.as_ref()?.pod_ip.clone()
}

fn port(pod: &v1::Pod) -> u16 {
    let containers = pod.spec.iter().flat_map(|spec| &spec.containers);
    let mut ports = containers.flat_map(|container| container.ports.iter().flatten());
    let port = ports.find(|port| port.name.as_deref() == Some(AGENT_PORT_NAME));
    port.and_then(|port| u16::try_from(port.container_port).ok()).unwrap_or(AGENT_PORT)
}

/// Why agents that have a pod are not ready, a line for each, by node.
pub(super) fn not_ready(pods: &[Arc<v1::Pod>], installation: &str) -> Vec<String> {
    let ready = |pod: &v1::Pod| {
        let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
        conditions.into_iter().any(|c| c.type_ == "Ready" && c.status == "True")
    };
    let of_installation = |pod: &&Arc<v1::Pod>| {
        is_agent(pod) && pod.metadata.namespace.as_deref() == Some(installation)
    };
    let waiting = pods.iter().filter(of_installation).filter(|pod| !ready(pod));
    let mut lines: Vec<String> = waiting
        .map(|pod| {
            if let Some(node) = node(pod) {
                format!("{node}: {}", why_not_running(pods, installation, &node))
            } else {
                let conditions = pod.status.iter().flat_map(|s| s.conditions.iter().flatten());
                let why =
                    conditions.filter(|c| c.status == "False").find_map(|c| c.message.clone());
                let name = pod.metadata.name.clone().unwrap_or_default();
                format!("{name} has no node: {}", why.unwrap_or("nobody says why".into()))
            }
        })
        .collect();
    lines.sort();
    lines
}

/// The last line of what a container said, without what its log has around the message.
fn last_words(text: &str) -> String {
    let line = text.trim().lines().last().unwrap_or_default();
    let json: Option<serde_json::Value> = serde_json::from_str(line).ok();
    let message = json.as_ref().and_then(|json| json["fields"]["message"].as_str());
    message.unwrap_or(line).to_owned()
}

/// Why a node has no agent that runs, as far as its pod tells.
pub(super) fn why_not_running(pods: &[Arc<v1::Pod>], installation: &str, on: &str) -> String {
    let mut here = pods.iter().filter(|pod| {
        is_agent(pod)
            && pod.metadata.namespace.as_deref() == Some(installation)
            && node(pod).as_deref() == Some(on)
    });
    let Some(pod) = here.next() else {
        return format!("the DaemonSet in {installation} has no pod there");
    };
    let name = pod.metadata.name.clone().unwrap_or_default();
    let status = pod.status.clone().unwrap_or_default();
    let mut containers = status.container_statuses.iter().flatten();
    let why = containers.find_map(|container| {
        let waiting = container.state.as_ref()?.waiting.clone()?;
        let ended = container.last_state.as_ref().and_then(|last| last.terminated.as_ref());
        // Of one that cannot be started again and again, the runtime's or its own last words say more.
        let message = ended.and_then(|ended| ended.message.clone()).or(waiting.message);
        let message = message.map_or(String::new(), |text| format!(" ({})", last_words(&text)));
        let reason = waiting.reason.unwrap_or_default();
        let hint = if message.contains("apply caps") { WITHOUT_CAPABILITY } else { "" };
        Some(format!(": {reason}{message}{hint}"))
    });
    let phase = status.phase.unwrap_or_else(|| "unknown".into());
    format!("its pod {installation}/{name} is {phase}{}", why.unwrap_or_default())
}
