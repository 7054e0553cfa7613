//! A partition as an experiment has it, and what it comes to at each pod.

use std::{collections::BTreeMap, net::IpAddr};

use super::{
    KubeletPath, Partition, PeerSet, PortRange, PortSide, Protocol, Verdict, has_ports,
    merge_ports, peer_set,
};
use crate::{
    fault::{Cidr, Expanded, Fault, Groups, Scope, exclusive, target_name},
    limits::PORT_RANGES_MAX,
    yaml::{self, Fields, Node, Problems, Spanned, Value},
};

/// As an experiment has it.
#[derive(Debug, Clone, PartialEq)]
pub struct Spec {
    path: Path,
    protocol: Protocol,
    ports: Vec<PortRange>,
    verdict: Verdict,
    kubelet: KubeletPath,
}

#[derive(Debug, Clone, PartialEq)]
enum Path {
    Between(Side, Side),
    OneWay { from: Side, to: Side },
}

#[derive(Debug, Clone, PartialEq)]
enum Side {
    Target(Spanned<String>),
    Peers(PeerSet),
}

impl Spec {
    pub(in crate::fault) fn decode(body: &Node, problems: &mut Problems) -> Option<Self> {
        let before = problems.len();
        let mut fields = Fields::open(body, "partition", problems)?;
        let path = decode_path(&mut fields, problems);
        let protocol = fields.optional(
            "protocol",
            problems,
            yaml::one_of(&[
                ("any", Protocol::Any),
                ("tcp", Protocol::Tcp),
                ("udp", Protocol::Udp),
                ("icmp", Protocol::Icmp),
            ]),
        );
        let protocol = protocol.unwrap_or(Protocol::Any);
        let ports = fields.optional("ports", problems, decode_ports).unwrap_or_default();
        let verdict = fields.optional(
            "verdict",
            problems,
            yaml::one_of(&[("drop", Verdict::Drop), ("reject", Verdict::Reject)]),
        );
        let kubelet = fields.optional(
            "kubelet",
            problems,
            yaml::one_of(&[("exempt", KubeletPath::Exempt), ("cut", KubeletPath::Cut)]),
        );
        if !ports.is_empty() && !has_ports(protocol) {
            let span = fields.key_span("ports").unwrap_or(fields.span());
            problems.add(span, "only tcp and udp have ports").help("add `protocol: tcp`");
        }
        fields.finish(problems);
        let verdict = verdict.unwrap_or(Verdict::Drop);
        let kubelet = kubelet.unwrap_or(KubeletPath::Exempt);
        (problems.len() == before).then_some(Self {
            path: path?,
            protocol,
            ports,
            verdict,
            kubelet,
        })
    }

    pub(in crate::fault) fn targets(&self) -> Vec<&Spanned<String>> {
        let (Path::Between(a, b) | Path::OneWay { from: a, to: b }) = &self.path;
        [a, b]
            .into_iter()
            .filter_map(|side| match side {
                Side::Target(name) => Some(name),
                Side::Peers(_) => None,
            })
            .collect()
    }

    pub(in crate::fault) fn expand(&self, groups: &Groups) -> Result<Vec<Expanded>, String> {
        let mut ends = Ends::default();
        let port_side = match &self.path {
            Path::Between(a, b) => {
                ends.cut(groups, a, b)?;
                ends.cut(groups, b, a)?;
                PortSide::Either
            }
            Path::OneWay { from, to } => {
                ends.cut(groups, from, to)?;
                PortSide::Destination
            }
        };
        let expanded: Vec<Expanded> = ends
            .of_pod
            .into_iter()
            .filter(|(_, end)| end.egress.is_some() || end.ingress.is_some())
            .map(|(pod, end)| Expanded {
                pod,
                scope: Scope::Pod,
                fault: Fault::Partition(Partition {
                    egress: end.egress,
                    ingress: end.ingress,
                    protocol: self.protocol,
                    ports: self.ports.clone(),
                    port_side,
                    verdict: self.verdict,
                    kubelet: self.kubelet,
                }),
            })
            .collect();
        if expanded.is_empty() {
            return Err("both sides of the partition are the same one pod".into());
        }
        Ok(expanded)
    }
}

/// What is cut at each pod.
#[derive(Default)]
struct Ends {
    of_pod: BTreeMap<usize, End>,
}

#[derive(Default)]
struct End {
    egress: Option<PeerSet>,
    ingress: Option<PeerSet>,
}

impl Ends {
    /// Cuts packets from one side to the other, at those of the two ends that are pods.
    fn cut(&mut self, groups: &Groups, from: &Side, to: &Side) -> Result<(), String> {
        for (pod, peers) in peers_of_each(groups, from, to)? {
            self.of_pod.entry(pod).or_default().egress = peers;
        }
        for (pod, peers) in peers_of_each(groups, to, from)? {
            self.of_pod.entry(pod).or_default().ingress = peers;
        }
        Ok(())
    }
}

/// For each pod of `own`: who of `other` it is cut from. Nobody is cut from itself.
fn peers_of_each(
    groups: &Groups,
    own: &Side,
    other: &Side,
) -> Result<Vec<(usize, Option<PeerSet>)>, String> {
    let Side::Target(own) = own else { return Ok(Vec::new()) };
    let mut result = Vec::new();
    for member in groups.members(&own.value) {
        let peers = match other {
            Side::Peers(peers) => Some(peers.clone()),
            Side::Target(other) => {
                let mut addresses: Vec<IpAddr> = Vec::new();
                for peer in groups.members(&other.value).iter().filter(|p| p.pod != member.pod) {
                    if peer.addresses.is_empty() {
                        let name = &other.value;
                        return Err(format!("a pod of `{name}` has no address yet"));
                    }
                    addresses.extend(&peer.addresses);
                }
                peer_set(addresses.into_iter().map(Cidr::host).collect())?
            }
        };
        result.push((member.pod, peers));
    }
    Ok(result)
}

fn decode_path(fields: &mut Fields<'_>, problems: &mut Problems) -> Option<Path> {
    let between = fields.node("between");
    let (from, to) = (fields.node("from"), fields.node("to"));
    let path = match (between, from, to) {
        (Some(node), None, None) => {
            let Value::Sequence(sides) = &node.value else {
                problems
                    .add(node.span, format!("found {}", node.describe()))
                    .expected("expected the two sides: [a, b]");
                return None;
            };
            let [a, b] = sides.as_slice() else {
                problems
                    .add(node.span, format!("found {} sides", sides.len()))
                    .expected("expected the two sides: [a, b]");
                return None;
            };
            let (a, b) = (decode_side(a, problems), decode_side(b, problems));
            Path::Between(a?, b?)
        }
        (None, Some(from), Some(to)) => {
            let (from, to) = (decode_side(from, problems), decode_side(to, problems));
            Path::OneWay { from: from?, to: to? }
        }
        _ => {
            let help = "write `between: [a, b]` for both ways, or `from: a` and `to: b` for one";
            problems.add(fields.span(), "partition needs its two sides").help(help);
            return None;
        }
    };
    let (Path::Between(a, b) | Path::OneWay { from: a, to: b }) = &path;
    if matches!((a, b), (Side::Peers(_), Side::Peers(_))) {
        exclusive(fields.span(), "at least one side of a partition must be a target", problems);
        return None;
    }
    Some(path)
}

fn decode_side(node: &Node, problems: &mut Problems) -> Option<Side> {
    if let Value::Sequence(items) = &node.value {
        let cidrs: Option<Vec<Cidr>> =
            items.iter().map(|item| yaml::cidr(item, problems)).collect();
        return match peer_set(cidrs?) {
            Ok(Some(peers)) => Some(Side::Peers(peers)),
            Ok(None) => {
                problems.add(node.span, "this side is empty");
                None
            }
            Err(message) => {
                problems.add(node.span, message);
                None
            }
        };
    }
    let text = node.as_text().unwrap_or_default();
    if text == "everything" {
        return Some(Side::Peers(PeerSet::Everything));
    }
    if text.contains(['/', ':']) || text.parse::<IpAddr>().is_ok() {
        return Some(Side::Peers(PeerSet::Cidrs(vec![yaml::cidr(node, problems)?])));
    }
    target_name(node, problems).map(Side::Target)
}

fn decode_ports(node: &Node, problems: &mut Problems) -> Option<Vec<PortRange>> {
    let items = match &node.value {
        Value::Sequence(items) => items.as_slice(),
        _ => std::slice::from_ref(node),
    };
    if items.is_empty() || items.len() > PORT_RANGES_MAX {
        problems
            .add(node.span, format!("found {} ports or ranges of them", items.len()))
            .expected(format!("expected 1 to {PORT_RANGES_MAX}"));
        return None;
    }
    let mut ports = Vec::new();
    for item in items {
        let text = item.as_text().unwrap_or_default();
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let port = |text: &str| text.trim().parse::<u16>().ok().filter(|port| *port > 0);
        match (port(first), port(last)) {
            (Some(first), Some(last)) if first <= last => ports.push(PortRange { first, last }),
            _ => {
                problems
                    .add(item.span, format!("{} is not a port", item.describe()))
                    .expected("expected a port from 1 to 65535, or a range such as 8000-8100");
            }
        }
    }
    Some(merge_ports(ports))
}
