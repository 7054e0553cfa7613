//! A partition in effect: its proof, its lease, and whether its target is still there.

use std::{sync::Arc, time::Duration};

use faultline_proto::boottime::BootTime;

use super::{Inside, PartitionInjection, proof::Proof, transaction};
use crate::{
    errors::chain,
    fault::{Live, Observation, Wake},
    kernel::{KernelError, clock, packet::Sender},
};

/// How often it is looked whether the target still has processes.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// A partition in effect.
#[derive(Debug)]
pub(super) struct LivePartition {
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

impl LivePartition {
    /// The partition of a plan, which the kernel has just been given.
    pub(super) fn new(plan: PartitionInjection, inside: Arc<Inside>) -> Self {
        let sender = inside.sender().take();
        Self {
            name: plan.id.object_name(),
            proof: Proof::new(&plan.content.partition),
            plan,
            inside,
            sender,
            evidence: None,
            witness: None,
        }
    }
}

impl Live for LivePartition {
    fn prove(&mut self) -> Result<Observation, KernelError> {
        if let Some(evidence) = &self.evidence {
            return Ok(Observation::Proven(evidence.clone()));
        }
        let Some(sender) = &self.sender else {
            return Ok(Observation::NotYet("there are no sockets to probe with".into()));
        };
        let content = &self.plan.content;
        let observation = self.proof.look(&self.inside, sender, &self.name, content)?;
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
        let renewed = self.inside.nft().commit(transaction::renewal(&self.name, lease));
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
        match self.plan.net_ns.any_process(self.witness) {
            Ok(None) => return Ok(Wake::TargetGone),
            Ok(witness) => self.witness = witness,
            // Not known to have gone: its lease ends it, whatever it is.
            Err(error) => tracing::warn!(error = %chain(&error), "the target cannot be looked for"),
        }
        Ok(Wake::At(now.after(LOOK_EVERY)))
    }

    fn first_wake(&self) -> Option<Duration> {
        Some(LOOK_EVERY)
    }
}

pub(super) fn lease_over(verb: &'static str, table: &str) -> KernelError {
    KernelError::Netlink {
        verb,
        object: format!("table inet {table}"),
        message: "the lease has ended".into(),
        source: std::io::Error::from_raw_os_error(libc::ETIME),
    }
}
