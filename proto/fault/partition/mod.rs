//! `partition`: packets between the target and others are dropped or rejected.
//!
//! In an experiment it is between two groups (`between:`) or one way (`from:`, `to:`). A side is the
//! name of a target, `everything`, or ranges of addresses. Every pod of a side that is a target gets
//! the rules of its own end, so that the cut does not depend on what translates addresses in between.

mod sample;
mod spec;
#[cfg(test)]
mod tests;
mod wire;

use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use spec::Spec;

use super::{Cidr, FieldForm, FieldInfo, KindInfo, Scope};
use crate::{limits::PEERS_MAX, pb, status::wire_enum};

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
    scope: Scope::Pod,
    sample: sample::sample,
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
