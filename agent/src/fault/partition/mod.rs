//! `partition`: packets between a pod and its peers are dropped or rejected.
//!
//! In the kernel it is one nftables table `faultline_<id>` in the pod's network namespace, made and
//! deleted in one transaction each. Its rules act while elements of its set `lease` live, which have
//! a timeout: when nobody renews them, the cut ends with no process of ours alive. What is left then
//! is a table without effect, which the start-up sweep removes.
//!
//! Not like a broken cable: a packet that is dropped on its way out is dropped in the sender's own
//! host, and `send(2)` of a datagram then says `EPERM`. TCP takes it as a loss.

mod amend;
mod candidates;
mod content;
mod direction;
mod live;
mod proof;
mod rules;
mod table;
mod transaction;

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use faultline_proto::{boottime::BootTime, fault::Partition, id::FaultId, target::Target};
use serde::{Deserialize, Serialize};

pub use self::table::{Found, found_in, remove_from};
use self::{
    content::Content,
    live::{LivePartition, lease_over},
    table::{is_ours, owner, remove_table},
};
use super::{Injection, Live, Refusal};
use crate::{
    kernel::{
        KernelError, clock,
        netns::{NetNs, NetNsId},
        nft::{self, Nft},
        packet::{Needs, Sender},
    },
    node_info::Feature,
    resolve::Resolved,
};

/// Whether this node has what a partition needs: tried in a namespace made for it.
pub fn feature() -> Feature {
    let probed = nft::probe();
    Feature {
        name: "nf_tables",
        available: probed.is_ok(),
        detail: probed.map_or_else(|e| e.to_string(), |()| "tried in a scratch namespace".into()),
    }
}

/// A partition of one pod, planned.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PartitionInjection {
    id: FaultId,
    target: Target,
    net_ns: NetNsId,
    /// Where the namespace was found: a hint for finding it again quickly.
    net_ns_path: PathBuf,
    #[serde(flatten)]
    content: Content,
    /// What it did before it was changed to what it does now. Both can be in the kernel: this is on
    /// disk before the kernel is told. In the records of agents that could not change it is missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    amended_from: Option<Content>,
    /// Open sockets inside the namespace, in the process that made the plan. A shortcut: whatever
    /// they are used for can be done without them.
    #[serde(skip)]
    at_hand: AtHand,
}

/// Shared by the copies of a plan, so that a revert of one lets go of the namespace for all.
#[derive(Debug, Clone, Default)]
struct AtHand(Arc<Mutex<Option<Arc<Inside>>>>);

/// A namespace, and sockets that were opened in it.
#[derive(Debug)]
struct Inside {
    net_ns: NetNs,
    nft: Mutex<Nft>,
    /// For the proof; taken by the injection.
    sender: Mutex<Option<Sender>>,
}

impl AtHand {
    fn get(&self) -> Option<Arc<Inside>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set(&self, inside: Option<Arc<Inside>>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = inside;
    }
}

impl Inside {
    /// Without `needs`, it is for taking back and for looking only.
    fn open(net_ns: NetNs, needs: Option<Needs>) -> Result<Self, KernelError> {
        let (nft, sender) =
            net_ns.enter(|| Ok((Nft::open()?, needs.map(Sender::open).transpose()?)))?;
        Ok(Self { net_ns, nft: Mutex::new(nft), sender: Mutex::new(sender) })
    }

    /// A panic while it was held leaves a socket with unread answers, which are told by number.
    fn nft(&self) -> MutexGuard<'_, Nft> {
        self.nft.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn sender(&self) -> MutexGuard<'_, Option<Sender>> {
        self.sender.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl PartitionInjection {
    /// Plans a partition: looks, and touches nothing.
    ///
    /// # Errors
    /// When the pod has the node's own network, the kernel lacks nftables or what is needed of it, no
    /// peer would be cut, or a table has the name that the fault's would have.
    pub fn plan(id: FaultId, partition: &Partition, resolved: &Resolved) -> Result<Self, Refusal> {
        let target = &resolved.target;
        if resolved.host_network {
            let why = "has the node's own network: cutting it would cut the node and its agent";
            return Err(Refusal::NotPossible(format!("{target} {why}")));
        }
        let content = Content::new(partition, &resolved.node_addresses)?;
        nft::probe().map_err(|error| Refusal::Unsupported {
            needs: "nftables",
            why: with_source(&error),
        })?;

        let net_ns = resolved.net_ns.try_clone()?;
        let (net_ns_id, net_ns_path) = (net_ns.id(), net_ns.path().to_owned());
        let inside = Inside::open(net_ns, Some(proof::needs(partition)))?;
        let name = id.object_name();
        let existing = inside.nft().table(&name)?;
        match existing {
            Some(table) if is_ours(&table, id) => {
                let what = format!("is in the network namespace of {target} already");
                return Err(Refusal::Conflict { with: id, what });
            }
            Some(_) => {
                let what =
                    format!("the nftables table {name} in the network namespace of {target}");
                return Err(Refusal::Foreign { what });
            }
            None => {}
        }
        let at_hand = AtHand::default();
        at_hand.set(Some(Arc::new(inside)));
        Ok(Self {
            id,
            target: target.clone(),
            net_ns: net_ns_id,
            net_ns_path,
            content,
            amended_from: None,
            at_hand,
        })
    }

    /// What will be done, in one sentence for a person.
    pub fn describe(&self) -> String {
        self.content.describe(&self.target)
    }

    /// Open sockets in the target's namespace; `None` when that has gone.
    fn inside(&self) -> Result<Option<Arc<Inside>>, KernelError> {
        if let Some(inside) = self.at_hand.get() {
            return Ok(Some(inside));
        }
        let Some(net_ns) = NetNs::find(self.net_ns, &self.net_ns_path)? else { return Ok(None) };
        Ok(Some(Arc::new(Inside::open(net_ns, None)?)))
    }

    /// The same, with the sockets that a proof takes.
    fn inside_to_act(&self) -> Result<Arc<Inside>, KernelError> {
        if let Some(inside) = self.at_hand.get() {
            return Ok(inside);
        }
        let found = NetNs::find(self.net_ns, &self.net_ns_path)?;
        let net_ns = found.ok_or_else(|| self.gone())?;
        Ok(Arc::new(Inside::open(net_ns, Some(proof::needs(&self.content.partition)))?))
    }

    /// Whether the namespace is still somebody's, or that cannot be told. That sockets of ours keep it
    /// does not count.
    fn is_target_there(&self) -> bool {
        NetNsId::of_path(&self.net_ns_path) == Some(self.net_ns)
            || !matches!(NetNs::find(self.net_ns, &self.net_ns_path), Ok(None))
    }

    fn gone(&self) -> KernelError {
        KernelError::Gone { what: format!("the network namespace of {}", self.target) }
    }
}

impl Injection for PartitionInjection {
    fn inject(&self, lease_end: BootTime) -> Result<Box<dyn Live>, KernelError> {
        if !self.is_target_there() {
            return Err(self.gone());
        }
        let inside = self.inside_to_act()?;
        let name = self.id.object_name();
        let lease = lease_end - clock::now();
        if lease.is_zero() {
            return Err(lease_over("create", &name));
        }
        let batch = transaction::injection(&name, &owner(self.id), &self.content, lease);
        inside.nft().commit(batch)?;
        self.at_hand.set(Some(Arc::clone(&inside)));
        Ok(Box::new(LivePartition::new(self.clone(), inside)))
    }

    fn make_ready(&self) -> Result<(), KernelError> {
        self.make_change_ready()
    }

    fn switch(&self) -> Result<Box<dyn Live>, KernelError> {
        self.make_change()
    }

    fn revert(&self) -> Result<Vec<String>, KernelError> {
        let Some(inside) = self.inside()? else { return Ok(Vec::new()) };
        let mut expected = vec![transaction::shape(&self.content)];
        if let Some(from) = &self.amended_from {
            let ready = transaction::shape_made_ready(from, &self.content);
            expected.extend([transaction::shape(from), ready]);
        }
        let notes = remove_table(&mut inside.nft(), self.id, &expected)?;
        self.at_hand.set(None);
        Ok(notes)
    }

    fn residue(&self) -> Result<Vec<String>, KernelError> {
        let Some(inside) = self.inside()? else { return Ok(Vec::new()) };
        let name = self.id.object_name();
        let table = inside.nft().table(&name)?;
        let ours = table.filter(|table| is_ours(table, self.id));
        Ok(ours
            .map(|table| {
                let (name, handle) = (table.name, table.handle);
                format!("the nftables table {name} (handle {handle}) of {}", self.target)
            })
            .into_iter()
            .collect())
    }
}

fn with_source(error: &KernelError) -> String {
    match std::error::Error::source(error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_record_of_an_agent_that_could_not_change_anything_is_read_and_written_as_it_was() {
        let old = json!({
            "id": "00000000000000a1",
            "target": { "namespace": "shop", "pod": "api-1", "uid": "u", "container": null },
            "netNs": { "dev": 4, "ino": 4_026_532_000_u64 },
            "netNsPath": "/proc/7/ns/net",
            "partition": {
                "egress": { "cidrs": ["10.77.0.2"] }, "ingress": null, "protocol": "any",
                "ports": [], "portSide": "either", "verdict": "drop", "kubelet": "exempt",
            },
            "exempt": ["10.0.0.1"],
        });
        let plan: PartitionInjection = serde_json::from_value(old.clone()).expect("a plan");
        assert_eq!(serde_json::to_value(&plan).expect("plain data"), old);
        let content = plan.content.clone().after(&plan.content);
        let changed =
            PartitionInjection { amended_from: Some(plan.content.clone()), content, ..plan };
        let written = serde_json::to_value(&changed).expect("plain data");
        let read: PartitionInjection = serde_json::from_value(written).expect("a plan");
        assert_eq!((read.content, read.amended_from), (changed.content, changed.amended_from));
    }
}
