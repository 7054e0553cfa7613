//! What a partition cuts and what it leaves alone: all that its rules follow from. Plain data.

use std::net::IpAddr;

use faultline_proto::{
    fault::{KubeletPath, Partition, PeerSet, Protocol, Verdict},
    target::Target,
};
use serde::{Deserialize, Serialize};

use super::direction::Direction;
use crate::fault::Refusal;

/// A partition as it is on one node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Content {
    pub(super) partition: Partition,
    /// Addresses that are not cut: the node's own, or none.
    pub(super) exempt: Vec<IpAddr>,
    /// How often it was changed before it became this: part of the names in its table.
    #[serde(default, skip_serializing_if = "is_first")]
    pub(super) generation: u32,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
fn is_first(generation: &u32) -> bool {
    *generation == 0
}

impl Content {
    /// The partition on a node with these addresses.
    ///
    /// # Errors
    /// When no peer would be cut in one of its directions.
    pub(super) fn new(partition: &Partition, node: &[IpAddr]) -> Result<Self, Refusal> {
        let exempt = exempt_addresses(partition, node);
        nobody_is_cut(partition, &exempt)?;
        Ok(Self { partition: partition.clone(), exempt, generation: 0 })
    }

    /// What comes after this one, in the same table.
    pub(super) fn after(self, before: &Self) -> Self {
        Self { generation: before.generation.wrapping_add(1), ..self }
    }

    /// What a chain or set of this one is called.
    pub(super) fn named(&self, name: &str) -> String {
        match self.generation {
            0 => name.to_owned(),
            generation => format!("{name}_{generation}"),
        }
    }

    /// What it does, in one sentence for a person.
    pub(super) fn describe(&self, target: &Target) -> String {
        let verb = match self.partition.verdict {
            Verdict::Drop => "drop",
            Verdict::Reject => "reject",
        };
        let packets = match self.partition.protocol {
            Protocol::Any => "packets",
            Protocol::Tcp => "TCP packets",
            Protocol::Udp => "UDP packets",
            Protocol::Icmp => "ICMP packets",
        };
        let peers = |direction: Direction| {
            direction.peers(&self.partition).map(|peers| match peers {
                PeerSet::Everything => "everybody".to_owned(),
                PeerSet::Cidrs(cidrs) => match cidrs.as_slice() {
                    [only] => only.to_string(),
                    cidrs => format!("{} ranges of addresses", cidrs.len()),
                },
            })
        };
        let who = match (peers(Direction::Output), peers(Direction::Input)) {
            (Some(to), Some(from)) if to == from => format!("to and from {to}"),
            (Some(to), Some(from)) => format!("to {to} and from {from}"),
            (Some(to), None) => format!("to {to}"),
            (None, Some(from)) => format!("from {from}"),
            (None, None) => "of nobody".to_owned(),
        };
        let ports = match self.partition.ports.as_slice() {
            [] => String::new(),
            [only] if only.first == only.last => format!(" on port {}", only.first),
            [only] => format!(" on ports {} to {}", only.first, only.last),
            ports => format!(" on {} ranges of ports", ports.len()),
        };
        let kubelet = match self.partition.kubelet {
            KubeletPath::Exempt => ", its own node exempt",
            KubeletPath::Cut => "",
        };
        format!("{verb} {packets} {who}{ports} in the network of {target}{kubelet}")
    }
}

fn exempt_addresses(partition: &Partition, node: &[IpAddr]) -> Vec<IpAddr> {
    match partition.kubelet {
        KubeletPath::Cut => Vec::new(),
        KubeletPath::Exempt => {
            let mut exempt = node.to_vec();
            exempt.sort_unstable();
            exempt.dedup();
            exempt
        }
    }
}

/// Refuses a direction in which every peer is exempt: it would have no effect.
fn nobody_is_cut(partition: &Partition, exempt: &[IpAddr]) -> Result<(), Refusal> {
    for direction in [Direction::Output, Direction::Input] {
        let Some(PeerSet::Cidrs(cidrs)) = direction.peers(partition) else { continue };
        if cidrs.iter().all(|cidr| cidr.is_host() && exempt.contains(&cidr.address())) {
            return Err(Refusal::NotPossible(
                "every peer is an address of the target's own node, which is exempt unless \
                 `kubelet: cut` is set"
                    .into(),
            ));
        }
    }
    Ok(())
}
