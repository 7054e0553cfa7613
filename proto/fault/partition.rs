//! `partition`: packets between the target and others are dropped or rejected.
//!
//! In an experiment it is between two groups (`between:`) or one way (`from:`, `to:`). A side is the
//! name of a target, `everything`, or ranges of addresses. Every pod of a side that is a target gets
//! the rules of its own end, so that the cut does not depend on what translates addresses in between.

use std::{collections::BTreeMap, net::IpAddr, time::Duration};

use serde::{Deserialize, Serialize};

use super::{Cidr, Expanded, Fault, FieldForm, FieldInfo, Groups, KindInfo, Scope, exclusive};
use crate::{
    InvalidWire,
    limits::{PEERS_MAX, PORT_RANGES_MAX},
    pb,
    status::wire_enum,
    yaml::{self, Fields, Node, Problems, Spanned, Value},
};

/// How long the first dropped packet may be awaited.
pub const PROOF_WINDOW: Duration = Duration::from_secs(2);

/// For help texts and `faultline inject partition`.
pub const INFO: KindInfo = KindInfo {
    name: "partition",
    about: "Cut the network between pods, or between pods and addresses",
    fields: &[
        FieldInfo {
            name: "between",
            value: "SIDE",
            help: "Both sides of a cut in both directions; given twice",
            form: FieldForm::TwoSides,
        },
        FieldInfo {
            name: "from",
            value: "SIDE",
            help: "One way: packets from here to `to` are cut",
            form: FieldForm::Side,
        },
        FieldInfo {
            name: "to",
            value: "SIDE",
            help: "The other side of `from`",
            form: FieldForm::Side,
        },
        FieldInfo {
            name: "protocol",
            value: "any|tcp|udp|icmp",
            help: "Cut only this protocol [default: any]",
            form: FieldForm::Scalar,
        },
        FieldInfo {
            name: "ports",
            value: "PORT|FIRST-LAST",
            help: "Cut only these ports of tcp or udp [default: all]",
            form: FieldForm::Scalars,
        },
        FieldInfo {
            name: "verdict",
            value: "drop|reject",
            help: "Let packets vanish, or answer them with an error [default: drop]",
            form: FieldForm::Scalar,
        },
        FieldInfo {
            name: "kubelet",
            value: "exempt|cut",
            help: "Whether the pod still answers its own node's kubelet [default: exempt]",
            form: FieldForm::Scalar,
        },
    ],
};

/// Packets between one target and its peers, dropped or rejected. At least one direction is cut.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Partition {
    /// Packets that leave the target for these are cut.
    pub egress: Option<PeerSet>,
    /// Packets that reach the target from these are cut.
    pub ingress: Option<PeerSet>,
    /// Only this protocol.
    pub protocol: Protocol,
    /// Only these ports; empty: all of them.
    pub ports: Vec<PortRange>,
    /// Which port of a packet is compared with `ports`.
    pub port_side: PortSide,
    /// What becomes of a packet.
    pub verdict: Verdict,
    /// Whether the node's own addresses are cut as well.
    pub kubelet: KubeletPath,
}

/// Who is at the other end of a cut.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum PeerSet {
    /// Everybody.
    Everything,
    /// These addresses: at least one range, at most [`PEERS_MAX`], sorted, none twice.
    Cidrs(Vec<Cidr>),
}

/// Ports from `first` to `last`, both included. Neither is 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PortRange {
    /// The first port.
    pub first: u16,
    /// The last port.
    pub last: u16,
}

/// The protocol of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Protocol {
    /// Whatever it is.
    Any,
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// ICMP and `ICMPv6`, neighbour discovery excepted: without that, nothing works and a cut of one
    /// protocol is a cut of all.
    Icmp,
}

/// Which port of a packet decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum PortSide {
    /// Its destination's.
    Destination,
    /// Either: connections to such a port are cut at both of their ends.
    Either,
}

/// What becomes of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Verdict {
    /// It vanishes.
    Drop,
    /// TCP is reset, everything else answered with "administratively prohibited".
    Reject,
}

/// Whether a pod that is cut off still answers its kubelet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum KubeletPath {
    /// Yes: a real partition does not fail local liveness probes.
    Exempt,
    /// No.
    Cut,
}

wire_enum!(Protocol { Any, Tcp, Udp, Icmp });
wire_enum!(PortSide { Destination, Either });
wire_enum!(Verdict { Drop, Reject });

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
    pub(super) fn decode(body: &Node, problems: &mut Problems) -> Option<Self> {
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

    pub(super) fn targets(&self) -> Vec<&Spanned<String>> {
        let (Path::Between(a, b) | Path::OneWay { from: a, to: b }) = &self.path;
        [a, b]
            .into_iter()
            .filter_map(|side| match side {
                Side::Target(name) => Some(name),
                Side::Peers(_) => None,
            })
            .collect()
    }

    pub(super) fn expand(&self, groups: &Groups) -> Result<Vec<Expanded>, String> {
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

fn peer_set(mut cidrs: Vec<Cidr>) -> Result<Option<PeerSet>, String> {
    cidrs.sort_unstable();
    cidrs.dedup();
    if cidrs.len() > PEERS_MAX {
        return Err(format!(
            "{} peers are more than the {PEERS_MAX} of one partition",
            cidrs.len()
        ));
    }
    Ok((!cidrs.is_empty()).then_some(PeerSet::Cidrs(cidrs)))
}

fn has_ports(protocol: Protocol) -> bool {
    matches!(protocol, Protocol::Tcp | Protocol::Udp)
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
    super::target_name(node, problems).map(Side::Target)
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

/// Sorted, overlapping and adjacent ranges made one: the kernel takes no others in a set.
fn merge_ports(mut ports: Vec<PortRange>) -> Vec<PortRange> {
    ports.sort_unstable();
    let mut merged: Vec<PortRange> = Vec::with_capacity(ports.len());
    for range in ports {
        match merged.last_mut() {
            Some(last) if range.first <= last.last.saturating_add(1) => {
                last.last = last.last.max(range.last);
            }
            _ => merged.push(range),
        }
    }
    merged
}

impl TryFrom<pb::Partition> for Partition {
    type Error = InvalidWire;

    fn try_from(wire: pb::Partition) -> Result<Self, InvalidWire> {
        let peers = |field: &'static str, set: Option<pb::PeerSet>| {
            set.map(PeerSet::try_from).transpose().map_err(|e| e.within(field))
        };
        let egress = peers("egress", wire.egress)?;
        let ingress = peers("ingress", wire.ingress)?;
        if egress.is_none() && ingress.is_none() {
            return Err(InvalidWire::new("egress", "no direction is cut"));
        }
        let protocol = Protocol::from_wire(wire.protocol)
            .ok_or_else(|| InvalidWire::new("protocol", "not a protocol this agent knows"))?;
        if wire.ports.len() > PORT_RANGES_MAX {
            let problem = format!("{} are more than {PORT_RANGES_MAX}", wire.ports.len());
            return Err(InvalidWire::new("ports", problem));
        }
        let ports: Vec<PortRange> = wire
            .ports
            .into_iter()
            .enumerate()
            .map(|(i, range)| {
                PortRange::try_from(range).map_err(|e| e.within(&format!("ports[{i}]")))
            })
            .collect::<Result<_, _>>()?;
        if !ports.is_empty() && !has_ports(protocol) {
            return Err(InvalidWire::new("ports", "only tcp and udp have ports"));
        }
        let port_side = PortSide::from_wire(wire.port_side)
            .ok_or_else(|| InvalidWire::new("port_side", "not a side this agent knows"))?;
        let verdict = Verdict::from_wire(wire.verdict)
            .ok_or_else(|| InvalidWire::new("verdict", "not a verdict this agent knows"))?;
        let kubelet = if wire.cut_kubelet { KubeletPath::Cut } else { KubeletPath::Exempt };
        Ok(Self {
            egress,
            ingress,
            protocol,
            ports: merge_ports(ports),
            port_side,
            verdict,
            kubelet,
        })
    }
}

impl From<Partition> for pb::Partition {
    fn from(partition: Partition) -> Self {
        Self {
            egress: partition.egress.map(Into::into),
            ingress: partition.ingress.map(Into::into),
            protocol: pb::Protocol::from(partition.protocol).into(),
            ports: partition
                .ports
                .iter()
                .map(|r| pb::PortRange { first: r.first.into(), last: r.last.into() })
                .collect(),
            port_side: pb::PortSide::from(partition.port_side).into(),
            verdict: pb::Verdict::from(partition.verdict).into(),
            cut_kubelet: partition.kubelet == KubeletPath::Cut,
        }
    }
}

impl TryFrom<pb::PeerSet> for PeerSet {
    type Error = InvalidWire;

    fn try_from(wire: pb::PeerSet) -> Result<Self, InvalidWire> {
        if wire.everything {
            return if wire.cidrs.is_empty() {
                Ok(Self::Everything)
            } else {
                Err(InvalidWire::new("cidrs", "must be empty when `everything` is set"))
            };
        }
        if wire.cidrs.len() > PEERS_MAX {
            let problem = format!("{} are more than {PEERS_MAX}", wire.cidrs.len());
            return Err(InvalidWire::new("cidrs", problem));
        }
        let cidrs: Vec<Cidr> = wire
            .cidrs
            .into_iter()
            .enumerate()
            .map(|(i, cidr)| Cidr::try_from(cidr).map_err(|e| e.within(&format!("cidrs[{i}]"))))
            .collect::<Result<_, _>>()?;
        peer_set(cidrs)
            .map_err(|problem| InvalidWire::new("cidrs", problem))?
            .ok_or_else(|| InvalidWire::new("cidrs", "no peers"))
    }
}

impl From<PeerSet> for pb::PeerSet {
    fn from(peers: PeerSet) -> Self {
        match peers {
            PeerSet::Everything => Self { everything: true, cidrs: Vec::new() },
            PeerSet::Cidrs(cidrs) => {
                Self { everything: false, cidrs: cidrs.into_iter().map(Into::into).collect() }
            }
        }
    }
}

impl TryFrom<pb::PortRange> for PortRange {
    type Error = InvalidWire;

    fn try_from(wire: pb::PortRange) -> Result<Self, InvalidWire> {
        let port = |field: &str, number: u32| match u16::try_from(number) {
            Ok(port) if port > 0 => Ok(port),
            _ => Err(InvalidWire::new(field, format!("expected 1 to 65535, got {number}"))),
        };
        let (first, last) = (port("first", wire.first)?, port("last", wire.last)?);
        if first > last {
            return Err(InvalidWire::new("last", format!("{last} is before {first}")));
        }
        Ok(Self { first, last })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(text: &str) -> Result<Spec, Vec<String>> {
        let documents = yaml::parse(text).expect("YAML");
        let mut problems = Problems::new();
        let spec = Spec::decode(&documents[0], &mut problems);
        let list: Vec<String> = problems.into_sorted().into_iter().map(|p| p.message).collect();
        if list.is_empty() { Ok(spec.expect("no problem, so a spec")) } else { Err(list) }
    }

    fn groups() -> Groups {
        let member = |pod: usize| Member4::member(pod);
        Groups(BTreeMap::from([
            ("a".into(), vec![member(1), member(2)]),
            ("b".into(), vec![member(2), member(3)]),
            ("one".into(), vec![member(1)]),
        ]))
    }

    struct Member4;
    impl Member4 {
        fn member(pod: usize) -> super::super::Member {
            let last = u8::try_from(pod).expect("small");
            super::super::Member { pod, addresses: vec![IpAddr::from([10, 0, 0, last])] }
        }
    }

    fn cut(expanded: &[Expanded], pod: usize) -> &Partition {
        let of_pod = expanded.iter().find(|e| e.pod == pod).expect("the pod is cut");
        let Fault::Partition(partition) = &of_pod.fault else { panic!("a partition") };
        partition
    }

    fn hosts(last: &[u8]) -> Option<PeerSet> {
        let cidrs: Vec<Cidr> = last.iter().map(|l| Cidr::host([10, 0, 0, *l].into())).collect();
        (!cidrs.is_empty()).then_some(PeerSet::Cidrs(cidrs))
    }

    #[test]
    fn between_cuts_both_ways_at_both_ends_and_nobody_from_itself() {
        let expanded = spec("between: [a, b]").expect("valid").expand(&groups()).expect("expands");
        assert_eq!(expanded.len(), 3);
        assert_eq!(cut(&expanded, 1).egress, hosts(&[2, 3]));
        assert_eq!(cut(&expanded, 1).ingress, hosts(&[2, 3]));
        assert_eq!(cut(&expanded, 3).egress, hosts(&[1, 2]));
    }

    #[test]
    fn one_way_cuts_egress_at_one_end_and_ingress_at_the_other() {
        let expanded =
            spec("{from: one, to: b}").expect("valid").expand(&groups()).expect("expands");
        assert_eq!(
            (&cut(&expanded, 1).egress, &cut(&expanded, 1).ingress),
            (&hosts(&[2, 3]), &None)
        );
        assert_eq!((&cut(&expanded, 3).egress, &cut(&expanded, 3).ingress), (&None, &hosts(&[1])));
    }

    #[test]
    fn mistakes_are_all_reported() {
        let text = "between: [a, 10.0.0.1/8]\nports: [70000, 80]\nprotcol: tcp\nverdict: dorp\n";
        let messages = spec(text).expect_err("mistakes");
        assert_eq!(messages.len(), 5, "{messages:#?}");
        assert!(spec("between: [10.0.0.0/8, everything]").is_err());
        assert!(spec("between: [a]").is_err());
        assert!(spec("{from: a}").is_err());
        assert!(spec("{between: [a, b], from: a}").is_err());
    }

    #[test]
    fn the_wire_form_is_the_same_and_is_checked_again() {
        let text = "{between: [a, everything], protocol: tcp, ports: [81, 80, 90-99], verdict: reject, kubelet: cut}";
        let expanded = spec(text).expect("valid").expand(&groups()).expect("expands");
        let partition = cut(&expanded, 1).clone();
        assert_eq!(partition.ports[0], PortRange { first: 80, last: 81 });
        let wire = pb::Partition::from(partition.clone());
        assert_eq!(Partition::try_from(wire.clone()), Ok(partition));
        let broken = |change: fn(&mut pb::Partition)| {
            let mut wire = wire.clone();
            change(&mut wire);
            Partition::try_from(wire).expect_err("broken").field
        };
        assert_eq!(broken(|w| w.protocol = 99), "protocol");
        assert_eq!(broken(|w| w.verdict = 0), "verdict");
        assert_eq!(broken(|w| w.ports[0].last = 70_000), "ports[0].last");
        assert_eq!(broken(|w| w.protocol = pb::Protocol::Icmp.into()), "ports");
        assert_eq!(broken(|w| (w.egress, w.ingress) = (None, None)), "egress");
        let empty = pb::PeerSet { everything: false, cidrs: Vec::new() };
        assert_eq!(PeerSet::try_from(empty).expect_err("no peers").field, "cidrs");
    }
}
