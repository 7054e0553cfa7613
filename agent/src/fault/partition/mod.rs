//! `partition`: packets between a pod and its peers are dropped or rejected.
//!
//! In the kernel it is one nftables table `faultline_<id>` in the pod's network namespace, made and
//! deleted in one transaction each. Its rules act while elements of its set `lease` live, which have
//! a timeout: when nobody renews them, the cut ends with no process of ours alive. What is left then
//! is a table without effect, which the start-up sweep removes.
//!
//! Not like a broken cable: a packet that is dropped on its way out is dropped in the sender's own
//! host, and `send(2)` of a datagram then says `EPERM`. TCP takes it as a loss.

mod candidates;
mod proof;
mod rules;
mod table;

use std::{
    net::IpAddr,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use faultline_proto::{
    boottime::BootTime,
    fault::{KubeletPath, Partition, PeerSet, Protocol, Verdict},
    id::FaultId,
    target::Target,
};
use serde::{Deserialize, Serialize};

pub use self::table::{Found, found_in, remove_from};
use self::{
    proof::Proof,
    rules::Direction,
    table::{is_ours, owner, remove_table},
};
use super::{Injection, Live, Observation, Refusal, Wake};
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

/// How often it is looked whether the target still has processes.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// A partition of one pod, planned.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PartitionInjection {
    id: FaultId,
    target: Target,
    net_ns: NetNsId,
    /// Where the namespace was found: a hint for finding it again quickly.
    net_ns_path: PathBuf,
    partition: Partition,
    /// Addresses that are not cut: the node's own, or none.
    exempt: Vec<IpAddr>,
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
        let exempt = exempt_addresses(partition, &resolved.node_addresses);
        nobody_is_cut(partition, &exempt)?;
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
            partition: partition.clone(),
            exempt,
            at_hand,
        })
    }

    /// What will be done, in one sentence for a person.
    pub fn describe(&self) -> String {
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
        format!("{verb} {packets} {who}{ports} in the network of {}{kubelet}", self.target)
    }

    /// Open sockets in the target's namespace; `None` when that has gone.
    fn inside(&self) -> Result<Option<Arc<Inside>>, KernelError> {
        if let Some(inside) = self.at_hand.get() {
            return Ok(Some(inside));
        }
        let Some(net_ns) = NetNs::find(self.net_ns, &self.net_ns_path) else { return Ok(None) };
        Ok(Some(Arc::new(Inside::open(net_ns, None)?)))
    }

    /// Whether the namespace is still somebody's. That sockets of ours keep it does not count.
    fn is_target_there(&self) -> bool {
        NetNsId::of_path(&self.net_ns_path) == Some(self.net_ns)
            || NetNs::find(self.net_ns, &self.net_ns_path).is_some()
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
        let inside = if let Some(inside) = self.at_hand.get() {
            inside
        } else {
            let found = NetNs::find(self.net_ns, &self.net_ns_path);
            let net_ns = found.ok_or_else(|| self.gone())?;
            Arc::new(Inside::open(net_ns, Some(proof::needs(&self.partition)))?)
        };
        let name = self.id.object_name();
        let lease = lease_end - clock::now();
        if lease.is_zero() {
            return Err(lease_over("create", &name));
        }
        let (owner, partition) = (owner(self.id), &self.partition);
        let batch = rules::injection(&name, &owner, partition, &self.exempt, lease);
        inside.nft().commit(batch)?;
        self.at_hand.set(Some(Arc::clone(&inside)));
        let sender = inside.sender().take();
        Ok(Box::new(LivePartition {
            plan: self.clone(),
            name,
            sender,
            proof: Proof::new(&self.partition),
            evidence: None,
            witness: None,
            inside,
        }))
    }

    fn revert(&self) -> Result<Vec<String>, KernelError> {
        let Some(inside) = self.inside()? else { return Ok(Vec::new()) };
        let expected = rules::shape(&self.partition, &self.exempt);
        let notes = remove_table(&mut inside.nft(), self.id, Some(expected))?;
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

/// A partition that is in effect.
#[derive(Debug)]
struct LivePartition {
    plan: PartitionInjection,
    name: String,
    inside: Arc<Inside>,
    /// Dropped when the proof is there: an attempt that lingers would be made again and again.
    sender: Option<Sender>,
    proof: Proof,
    evidence: Option<String>,
    /// A process of the namespace, seen in the latest look.
    witness: Option<i32>,
}

impl Live for LivePartition {
    fn prove(&mut self) -> Result<Observation, KernelError> {
        if let Some(evidence) = &self.evidence {
            return Ok(Observation::Proven(evidence.clone()));
        }
        let Some(sender) = &self.sender else {
            return Ok(Observation::NotYet("there are no sockets to probe with".into()));
        };
        let (partition, exempt) = (&self.plan.partition, &self.plan.exempt);
        let observation = self.proof.look(&self.inside, sender, &self.name, partition, exempt)?;
        if let Observation::Proven(evidence) = &observation {
            self.evidence = Some(evidence.clone());
            self.sender = None;
        }
        Ok(observation)
    }

    fn renew(&mut self, lease_end: BootTime) -> Result<(), KernelError> {
        let lease = lease_end - clock::now();
        if lease.is_zero() {
            return Err(lease_over("renew the lease of", &self.name));
        }
        let renewed = self.inside.nft().commit(rules::renewal(&self.name, lease));
        match renewed {
            // What is missing is an element of the lease, or all of the table.
            Err(error) if error.is_gone() => match self.inside.nft().table(&self.name)? {
                Some(_) => Err(lease_over("renew the lease of", &self.name)),
                None => Err(KernelError::Gone { what: format!("table inet {}", self.name) }),
            },
            renewed => renewed,
        }
    }

    fn wake(&mut self, now: BootTime) -> Result<Wake, KernelError> {
        self.witness = self.plan.net_ns.any_process(self.witness);
        match self.witness {
            Some(_) => Ok(Wake::At(now.after(LOOK_EVERY))),
            None => Ok(Wake::TargetGone),
        }
    }

    fn first_wake(&self) -> Option<Duration> {
        Some(LOOK_EVERY)
    }
}

fn lease_over(verb: &'static str, table: &str) -> KernelError {
    KernelError::Netlink {
        verb,
        object: format!("table inet {table}"),
        message: "the lease has ended".into(),
        source: std::io::Error::from_raw_os_error(libc::ETIME),
    }
}

fn with_source(error: &KernelError) -> String {
    match std::error::Error::source(error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
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
