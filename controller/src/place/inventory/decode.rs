//! Decoding an inventory: every mistake is reported where it stands, and what is read is consistent.

use std::{
    collections::{BTreeMap, HashSet},
    net::IpAddr,
    path::Path,
};

use faultline_proto::{
    target::{Container, is_container_id, is_object_name, is_pod_uid},
    yaml::{self, Fields, Node, Problems, Span, Value},
};

use super::{
    super::{AgentEndpoint, Pod, Process},
    Inventory, Tls,
};

/// Reads the text of an inventory, or finds every mistake in it.
pub(super) fn inventory(path: &Path, text: &str) -> Result<Inventory, Problems> {
    let documents = yaml::parse(text)?;
    let mut problems = Problems::new();
    let start = Span { line: 1, column: 1, ..Span::default() };
    let inventory = match documents.as_slice() {
        [document] => decode(document, path, &mut problems),
        [] => {
            problems.add(start, "an inventory must not be empty");
            None
        }
        [_, second, ..] => {
            problems.add(second.span, "an inventory is one document, and here a second begins");
            None
        }
    };
    inventory.filter(|_| problems.is_empty()).ok_or(problems)
}

fn decode(node: &Node, path: &Path, problems: &mut Problems) -> Option<Inventory> {
    let mut fields = Fields::open(node, "an inventory", problems)?;
    let agents = fields.required("agents", problems, list(agent));
    let pods = fields.required("pods", problems, list(pod));
    let tls = fields.required("tls", problems, tls);
    let network = fields.optional("network", problems, process);
    let holders =
        fields.optional("holders", problems, |node, problems| map(node, problems, process));
    let (agents_node, pods_node) = (fields.node("agents"), fields.node("pods"));
    fields.finish(problems);
    let (agents, pods) = (agents?, pods?);
    let nodes: Vec<&str> = agents.iter().map(|agent| agent.node.as_str()).collect();
    check_agents(&nodes, agents_node, problems);
    check_pods(&pods, &nodes, pods_node, problems);
    Some(Inventory {
        file: path.to_owned(),
        agents,
        pods,
        tls: tls?,
        network,
        holders: holders.unwrap_or_default(),
    })
}

fn items(node: Option<&Node>) -> &[Node] {
    match node.map(|node| &node.value) {
        Some(Value::Sequence(items)) => items,
        _ => &[],
    }
}

fn check_agents(nodes: &[&str], node: Option<&Node>, problems: &mut Problems) {
    let mut seen = HashSet::new();
    for (name, item) in nodes.iter().zip(items(node)) {
        if !seen.insert(name) {
            problems.add(item.span, format!("there are two agents of node `{name}`"));
        }
    }
}

fn check_pods(pods: &[Pod], nodes: &[&str], node: Option<&Node>, problems: &mut Problems) {
    let mut names = HashSet::new();
    let mut uids = HashSet::new();
    for (pod, item) in pods.iter().zip(items(node)) {
        if !names.insert((&pod.namespace, &pod.name)) || !uids.insert(&pod.uid) {
            let Pod { namespace, name, .. } = pod;
            problems.add(item.span, format!("the pod {namespace}/{name} or its uid stands twice"));
        }
        if !nodes.contains(&pod.node.as_str()) {
            let at = item.get("node").map_or(item.span, |node| node.span);
            problems
                .add(at, format!("there is no agent of node `{}`", pod.node))
                .expected("expected a node that `agents` has")
                .suggest(&pod.node, nodes.iter().copied());
        }
    }
}

/// A list whose items all are what `decode` reads. Mistakes in one do not hide those in another.
fn list<T>(
    decode: impl Fn(&Node, &mut Problems) -> Option<T>,
) -> impl Fn(&Node, &mut Problems) -> Option<Vec<T>> {
    move |node, problems| {
        let Value::Sequence(items) = &node.value else {
            let found = format!("found {}", node.describe());
            problems.add(node.span, found).expected("expected a list");
            return None;
        };
        let all: Vec<_> = items.iter().map(|item| decode(item, problems)).collect();
        all.into_iter().collect()
    }
}

fn map<T>(
    node: &Node,
    problems: &mut Problems,
    decode: impl Fn(&Node, &mut Problems) -> Option<T>,
) -> Option<BTreeMap<String, T>> {
    let Value::Mapping(entries) = &node.value else {
        let found = format!("found {}", node.describe());
        problems.add(node.span, found).expected("expected `name: value` pairs");
        return None;
    };
    let entries = entries
        .iter()
        .map(|(key, value)| Some((key.as_text()?.to_owned(), decode(value, problems)?)));
    let entries: Vec<_> = entries.collect();
    entries.into_iter().collect()
}

fn plain(node: &Node, problems: &mut Problems) -> Option<String> {
    yaml::text(node, problems).map(|text| text.value)
}

fn name(node: &Node, problems: &mut Problems) -> Option<String> {
    yaml::name(node, problems).map(|name| name.value)
}

fn agent(node: &Node, problems: &mut Problems) -> Option<AgentEndpoint> {
    let mut fields = Fields::open(node, "an agent", problems)?;
    let node = fields.required("node", problems, name);
    let address = fields.required("address", problems, host_port);
    fields.finish(problems);
    Some(AgentEndpoint::direct(node?, address?))
}

/// `host:port`; an IPv6 address stands in brackets.
fn host_port(node: &Node, problems: &mut Problems) -> Option<String> {
    let text = plain(node, problems)?;
    let valid = text.rsplit_once(':').is_some_and(|(host, port)| {
        let bare_v6 = host.contains(':') && !(host.starts_with('[') && host.ends_with(']'));
        !host.is_empty() && !bare_v6 && port.parse::<u16>().is_ok_and(|port| port > 0)
    });
    if valid {
        return Some(text);
    }
    problems
        .add(node.span, format!("`{text}` is not an agent's address"))
        .expected("expected host:port, such as 10.0.0.1:7700 or [fd00::1]:7700");
    None
}

fn pod(node: &Node, problems: &mut Problems) -> Option<Pod> {
    let mut fields = Fields::open(node, "a pod", problems)?;
    let pod_name = fields.required("name", problems, name);
    let namespace = fields.optional("namespace", problems, name);
    let uid = fields.required("uid", problems, |node, problems| {
        checked(node, problems, is_pod_uid, "a UUID or 32 hexadecimal digits, in lower case")
    });
    let on = fields.required("node", problems, name);
    let owner = fields.optional("owner", problems, owner);
    let labels = fields.optional("labels", problems, |node, problems| map(node, problems, label));
    let addresses = fields.optional("addresses", problems, list(address));
    let containers = fields.optional("containers", problems, list(container));
    fields.finish(problems);
    Some(Pod {
        namespace: namespace.unwrap_or_else(|| "default".into()),
        name: pod_name?,
        uid: uid?,
        node: on?,
        owner,
        labels: labels.unwrap_or_default(),
        addresses: addresses.unwrap_or_default(),
        containers: containers.unwrap_or_default(),
        ..Pod::default()
    })
}

/// A name, or `KIND/NAME` as in a cluster.
fn owner(node: &Node, problems: &mut Problems) -> Option<String> {
    let valid = |text: &str| {
        let mut parts = text.splitn(2, '/');
        parts.all(is_object_name)
    };
    checked(node, problems, valid, "NAME or KIND/NAME, such as deployment/api")
}

fn container(node: &Node, problems: &mut Problems) -> Option<Container> {
    let mut fields = Fields::open(node, "a container", problems)?;
    let container = fields.required("name", problems, name);
    let id = fields.required("id", problems, |node, problems| {
        checked(node, problems, is_container_id, "64 hexadecimal digits, in lower case")
    });
    fields.finish(problems);
    Some(Container { name: container?, id: id? })
}

/// A label's value may be empty.
fn label(node: &Node, problems: &mut Problems) -> Option<String> {
    match &node.value {
        Value::Scalar { text, plain: false } if text.is_empty() => Some(String::new()),
        _ => plain(node, problems),
    }
}

fn address(node: &Node, problems: &mut Problems) -> Option<IpAddr> {
    let text = plain(node, problems)?;
    let address = text.parse().ok();
    if address.is_none() {
        problems
            .add(node.span, format!("`{text}` is not an address"))
            .expected("expected an IPv4 or IPv6 address");
    }
    address
}

fn checked(
    node: &Node,
    problems: &mut Problems,
    valid: impl Fn(&str) -> bool,
    expected: &str,
) -> Option<String> {
    let text = plain(node, problems)?;
    if valid(&text) {
        return Some(text);
    }
    problems
        .add(node.span, format!("{} cannot be read here", node.describe()))
        .expected(format!("expected {expected}"));
    None
}

fn tls(node: &Node, problems: &mut Problems) -> Option<Tls> {
    let mut fields = Fields::open(node, "`tls`", problems)?;
    let ca = fields.required("ca", problems, plain);
    let cert = fields.required("cert", problems, plain);
    let key = fields.required("key", problems, plain);
    fields.finish(problems);
    Some(Tls { ca: ca?.into(), cert: cert?.into(), key: key?.into() })
}

fn process(node: &Node, problems: &mut Problems) -> Option<Process> {
    let mut fields = Fields::open(node, "a process", problems)?;
    let pid = fields.required("pid", problems, yaml::count(1..=i32::MAX.unsigned_abs().into()));
    let start_ticks = fields.required("startTicks", problems, yaml::count(0..=u64::MAX));
    fields.finish(problems);
    Some(Process { pid: i32::try_from(pid?).ok()?, start_ticks: start_ticks? })
}

#[cfg(test)]
mod tests {
    use super::*;

    const VALID: &str = "\
agents: [{ node: node1, address: '10.0.0.1:7700' }]
pods:
  - name: api-1
    uid: 01234567-89ab-cdef-0123-456789abcdef
    node: node1
    addresses: [10.1.0.7, 'fd00::7']
    labels: { app: api, tier: '' }
tls: { ca: ca.pem, cert: controller.pem, key: controller-key.pem }
";

    fn read(text: &str) -> Result<Inventory, Problems> {
        inventory(Path::new("inventory.yaml"), text)
    }

    #[track_caller]
    fn problems(text: &str) -> Vec<String> {
        let problems = read(text).expect_err("a mistake").into_sorted();
        problems
            .iter()
            .map(|p| format!("{}:{} {}", p.span.line, p.span.column, p.message))
            .collect()
    }

    #[test]
    fn what_a_person_writes_is_read() {
        let inventory = read(VALID).expect("valid");
        assert_eq!(inventory.pods[0].namespace, "default");
        assert_eq!(inventory.pods[0].labels["tier"], "");
        assert_eq!(inventory.pods[0].addresses.len(), 2);
        assert_eq!(inventory.network, None);
    }

    #[test]
    fn what_a_sandbox_writes_is_read_as_it_was() {
        let mut inventory = read(VALID).expect("valid");
        inventory.network = Process::current();
        inventory.holders =
            [(inventory.pods[0].uid.clone(), Process { pid: 7, start_ticks: 9 })].into();
        inventory.pods[0].containers = vec![Container { name: "main".into(), id: "a1".repeat(32) }];
        let text = serde_json::to_string_pretty(&inventory).expect("plain data");
        assert_eq!(read(&text).expect("valid"), inventory);
    }

    #[test]
    fn every_mistake_is_reported_where_it_stands() {
        assert_eq!(problems(""), ["1:1 an inventory must not be empty"]);
        let wrong = VALID
            .replace("10.0.0.1:7700", "10.0.0.1")
            .replace("uid: 0123", "uid: 012z")
            .replace("node: node1\n", "node: nod1\n")
            .replace("labels:", "lables:")
            .replace("10.1.0.7", "10.1.0.700");
        assert_eq!(
            problems(&wrong),
            [
                "1:34 `10.0.0.1` is not an agent's address",
                "4:10 `012z4567-89ab-cdef-0123-456789abcdef` cannot be read here",
                "6:17 `10.1.0.700` is not an address",
                "7:5 unknown field `lables` in a pod",
            ]
        );
        let wrong = VALID.replace("node: node1\n", "node: nod1\n");
        assert_eq!(problems(&wrong), ["5:11 there is no agent of node `nod1`"]);
        let twice = VALID.replace("tls:", "agents: []\ntls:");
        assert!(problems(&twice)[0].contains("stands twice"), "{:?}", problems(&twice));
    }
}
