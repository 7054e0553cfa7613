//! `sandbox:` — what the sandbox is made of. How it is built is the sandbox's own business.

use std::{collections::BTreeMap, time::Duration};

use faultline_proto::{
    limits::{MEMORY_LEVEL_BYTES_MAX, MEMORY_LEVEL_BYTES_MIN},
    probe::decode_command,
    yaml::{self, Fields, Node, Problems, Spanned, nearest},
};

use super::{
    AGENT_RESTART_DEFAULT, REPLICAS_MAX, SANDBOX_NODES_DEFAULT, SANDBOX_NODES_MAX, SandboxPod,
    SandboxSpec, Workload, targets::decode_labels,
};

/// Entries of `pods`.
const PODS_MAX: usize = 100;
/// The longest that an agent may stay dead.
const AGENT_RESTART_MAX: Duration = Duration::from_hours(1);

impl SandboxSpec {
    /// What stands where an experiment says nothing: an echo pod on each of `nodes` nodes, called
    /// `echo-1`, `echo-2`, … in the namespace `default`, with the label `app: echo`.
    pub fn echo(nodes: u32) -> Self {
        Self {
            nodes,
            pods: vec![SandboxPod {
                name: "echo".into(),
                namespace: "default".into(),
                labels: BTreeMap::from([("app".into(), "echo".into())]),
                replicas: Some(nodes),
                node: None,
                workload: Workload::Echo,
                memory_limit_bytes: None,
            }],
            restart_agents_after: Some(AGENT_RESTART_DEFAULT),
        }
    }

    /// The sandbox to build: the experiment's own or the default one, with as many nodes as the
    /// command line says where it says.
    ///
    /// # Errors
    /// When a pod is on a node that there would not be: a sentence for a person.
    pub fn resolve(own: Option<&Self>, nodes: Option<u32>) -> Result<Self, String> {
        let own = own.cloned().unwrap_or_default();
        let Some(nodes) = nodes.filter(|nodes| *nodes != own.nodes) else { return Ok(own) };
        if own.pods == Self::echo(own.nodes).pods {
            let restart_agents_after = own.restart_agents_after;
            return Ok(Self { restart_agents_after, ..Self::echo(nodes) });
        }
        let names = node_names(nodes);
        for pod in &own.pods {
            if let Some(node) = &pod.node
                && !names.contains(&node.value)
            {
                return Err(format!(
                    "the pod `{}` is to run on {}, and a sandbox of {nodes} nodes has none of that name",
                    pod.name, node.value
                ));
            }
        }
        Ok(Self { nodes, ..own })
    }
}

impl Default for SandboxSpec {
    fn default() -> Self {
        Self::echo(SANDBOX_NODES_DEFAULT)
    }
}

impl SandboxPod {
    /// The names of the pods this comes to: its own, or with replicas `NAME-1`, `NAME-2`, …
    pub fn names(&self) -> Vec<String> {
        match self.replicas {
            None => vec![self.name.clone()],
            Some(replicas) => (1..=replicas).map(|n| format!("{}-{n}", self.name)).collect(),
        }
    }
}

/// The names of a sandbox's nodes: `node1`, `node2`, …
fn node_names(nodes: u32) -> Vec<String> {
    (1..=nodes).map(|n| format!("node{n}")).collect()
}

/// Reports a node that the sandbox does not have. Without a sandbox nothing is known of nodes.
pub(super) fn check_node(name: &Spanned<String>, nodes: Option<u32>, problems: &mut Problems) {
    let Some(nodes) = nodes else { return };
    let names = node_names(nodes);
    if names.contains(&name.value) {
        return;
    }
    let problem =
        problems.add(name.span, format!("the sandbox has no node called `{}`", name.value));
    problem.expected(match nodes {
        1 => "its only node is node1".into(),
        _ => format!("its nodes are node1 to node{nodes}"),
    });
    if let Some(nearest) = nearest(&name.value, names.iter().map(String::as_str)) {
        problem.help(format!("did you mean `{nearest}`?"));
    }
}

/// Decodes the section.
pub(super) fn decode(node: &Node, problems: &mut Problems) -> Option<SandboxSpec> {
    let before = problems.len();
    let mut fields = Fields::open(node, "sandbox", problems)?;
    let nodes = fields.optional("nodes", problems, yaml::count(1..=SANDBOX_NODES_MAX.into()));
    let bad_nodes = nodes.is_none() && fields.key_span("nodes").is_some();
    let nodes = nodes.and_then(|n| u32::try_from(n).ok()).unwrap_or(SANDBOX_NODES_DEFAULT);
    let agents = fields.optional("agents", problems, decode_agents);
    let known_nodes = (!bad_nodes).then_some(nodes);
    let mut names: BTreeMap<(String, String), usize> = BTreeMap::new();
    let pod = |node: &Node, problems: &mut Problems| {
        let (name, pod) = decode_pod(node, known_nodes, problems)?;
        for pod_name in pod.names() {
            let line = names.insert((pod.namespace.clone(), pod_name.clone()), name.span.line);
            if let Some(line) = line {
                problems
                    .add(name.span, format!("two pods are called `{pod_name}`"))
                    .expected(format!("the first comes from line {line}"));
                break;
            }
        }
        Some(pod)
    };
    let pods = fields.optional("pods", problems, yaml::list(1..=PODS_MAX, "pods", pod));
    fields.finish(problems);
    let restart_agents_after = agents.unwrap_or(Some(AGENT_RESTART_DEFAULT));
    (problems.len() == before).then(|| SandboxSpec {
        pods: pods.unwrap_or_else(|| SandboxSpec::echo(nodes).pods),
        nodes,
        restart_agents_after,
    })
}

/// `None` within: never.
#[allow(clippy::option_option, reason = "the outer one is whether it could be read")]
fn decode_agents(node: &Node, problems: &mut Problems) -> Option<Option<Duration>> {
    let mut fields = Fields::open(node, "agents", problems)?;
    let after = fields.required("restartAfter", problems, |node, problems| {
        if node.as_text() == Some("never") {
            return Some(None);
        }
        yaml::duration(Duration::ZERO..=AGENT_RESTART_MAX)(node, problems).map(Some)
    });
    fields.finish(problems);
    after
}

fn decode_pod(
    node: &Node,
    nodes: Option<u32>,
    problems: &mut Problems,
) -> Option<(Spanned<String>, SandboxPod)> {
    let before = problems.len();
    let mut fields = Fields::open(node, "a pod of the sandbox", problems)?;
    let name = fields.required("name", problems, yaml::name);
    let namespace = fields.optional("namespace", problems, yaml::name);
    let labels = fields.optional("labels", problems, decode_labels);
    let replicas = fields.optional("replicas", problems, yaml::count(1..=REPLICAS_MAX.into()));
    let on_node = fields.optional("node", problems, |node, problems| {
        let name = yaml::name(node, problems)?;
        check_node(&name, nodes, problems);
        Some(name)
    });
    let workload = fields.required("workload", problems, decode_workload);
    let bytes = MEMORY_LEVEL_BYTES_MIN..=MEMORY_LEVEL_BYTES_MAX;
    let memory_limit = fields.optional("memoryLimit", problems, yaml::size(bytes));
    fields.finish_with(problems, |key| match key {
        "command" => Some("write `workload: { command: [PROGRAM, ARGUMENT] }`".into()),
        "image" => Some("a sandbox has no images: name a program with `workload`".into()),
        "limits" | "resources" | "memory" => Some("write `memoryLimit: 256MiB`".into()),
        _ => None,
    });
    if problems.len() > before {
        return None;
    }
    let name = name?;
    let pod = SandboxPod {
        name: name.value.clone(),
        namespace: namespace.map_or_else(|| "default".into(), |name| name.value),
        labels: labels.unwrap_or_default(),
        replicas: replicas.and_then(|n| u32::try_from(n).ok()),
        node: on_node,
        workload: workload?,
        memory_limit_bytes: memory_limit,
    };
    Some((name, pod))
}

fn decode_workload(node: &Node, problems: &mut Problems) -> Option<Workload> {
    if let Some(text) = node.as_text() {
        if text == "echo" {
            return Some(Workload::Echo);
        }
        let problem = problems.add(node.span, format!("{} is not a workload", node.describe()));
        problem.expected("expected echo, or a command: { command: [PROGRAM, ARGUMENT] }");
        problem.suggest(text, ["echo"]);
        return None;
    }
    let mut fields = Fields::open(node, "workload", problems)?;
    let command = fields.required("command", problems, decode_command);
    fields.finish(problems);
    command.map(Workload::Command)
}
