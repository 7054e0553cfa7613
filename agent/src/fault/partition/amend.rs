//! Changing a partition in effect into another one: the same table and the same lease, other peers,
//! directions, ports, protocol or verdict. What both cut is cut at every instant.
//!
//! First what the new one takes is put beside the old, where no packet comes to it; then one transaction
//! has packets come to it and deletes the old. The change is planned as an injection is: what it comes
//! to goes to the journal, and takes back whichever of the two is in the kernel.

use std::{net::IpAddr, sync::Arc};

use faultline_proto::fault::Partition;

use tracing::warn;

use super::{
    AtHand, Inside, PartitionInjection,
    content::Content,
    live::LivePartition,
    proof,
    rules::LEASE,
    table::{differences, is_ours, shape_of},
    transaction,
};
use crate::{
    errors::chain,
    failpoint,
    fault::{Live, Refusal},
    kernel::{KernelError, nft::Nft},
};

impl PartitionInjection {
    /// Plans what makes of this partition, which is in effect, another one: looks, and touches
    /// nothing. `node` are the addresses of the node.
    ///
    /// # Errors
    /// When the target has gone, no peer would be cut, or the table is not as it was made: it has gone
    /// or is somebody else's, something else is in it, or its lease has ended.
    pub fn amended(&self, partition: &Partition, node: &[IpAddr]) -> Result<Self, Refusal> {
        let content = Content::new(partition, node)?.after(&self.content);
        let gone = || Refusal::TargetGone { what: format!("the network of {}", self.target) };
        if !self.is_target_there() {
            return Err(gone());
        }
        let inside = self.inside()?.ok_or_else(gone)?;
        self.is_as_made(&mut inside.nft())?;
        // Sockets of its own: where this comes to nothing, those of what is in effect are untouched.
        let needs = proof::needs(&content.partition);
        let inside = Inside::open(inside.net_ns.try_clone()?, Some(needs))?;
        let at_hand = AtHand::default();
        at_hand.set(Some(Arc::new(inside)));
        Ok(Self { content, amended_from: Some(self.content.clone()), at_hand, ..self.clone() })
    }

    /// Puts beside what is there what the change takes that [`PartitionInjection::amended`] planned.
    pub(super) fn make_change_ready(&self) -> Result<(), KernelError> {
        let inside = self.inside_to_act()?;
        let name = self.id.object_name();
        let made = self.change(&name)?.make_ready(&mut inside.nft());
        self.at_hand.set(Some(inside));
        made
    }

    /// Makes the change.
    pub(super) fn make_change(&self) -> Result<Box<dyn Live>, KernelError> {
        let inside = self.inside_to_act()?;
        let name = self.id.object_name();
        self.change(&name)?.switch(&mut inside.nft())?;
        self.at_hand.set(Some(Arc::clone(&inside)));
        Ok(Box::new(LivePartition::new(self.clone(), inside)))
    }

    fn change<'a>(&'a self, table: &'a str) -> Result<Change<'a>, KernelError> {
        let from = self.amended_from.as_ref().ok_or_else(|| KernelError::Unexpected {
            verb: "change",
            object: format!("table inet {table}"),
            problem: "the plan does not say what is there".into(),
        })?;
        Ok(Change { table, from, to: &self.content })
    }

    /// Whether the table is what the kernel was given for this partition, and acts.
    fn is_as_made(&self, nft: &mut Nft) -> Result<(), Refusal> {
        let name = self.id.object_name();
        let Some(table) = nft.table(&name)? else {
            let what = format!("its nftables table {name} is not in the kernel any more");
            return Err(Refusal::NotPossible(format!("{what}; revert it and inject anew")));
        };
        if !is_ours(&table, self.id) {
            return Err(Refusal::Foreign { what: format!("the nftables table {name}") });
        }
        let (found, expected) = (shape_of(nft, &table)?, transaction::shape(&self.content));
        if found != expected {
            let differences = differences(found, expected).join(" and ");
            return Err(Refusal::Foreign {
                what: format!("what somebody did to the nftables table {name} ({differences})"),
            });
        }
        if nft.element_count(&name, LEASE)? == 0 {
            return Err(Refusal::NotPossible(
                "its lease has ended in the kernel; inject it anew".into(),
            ));
        }
        Ok(())
    }
}

/// A change of one table.
#[derive(Debug, Clone, Copy)]
struct Change<'a> {
    table: &'a str,
    from: &'a Content,
    to: &'a Content,
}

impl Change<'_> {
    /// What it takes, first. The kernel has two versions of a chain, and the transaction puts the new one
    /// in the place of the older: a packet that began when that was in effect must not come to it, and
    /// is waited for before [`Change::switch`].
    fn make_ready(self, nft: &mut Nft) -> Result<(), KernelError> {
        let made = nft.commit(transaction::make_ready(self.table, self.to));
        failpoint::reach(failpoint::AMEND_READY);
        made
    }

    /// Then, in one transaction, packets come to that.
    fn switch(self, nft: &mut Nft) -> Result<(), KernelError> {
        let Self { table, from, to } = self;
        let Err(error) = nft.commit(transaction::switch(table, from, to)) else { return Ok(()) };
        if self.is_made(nft)? {
            return Ok(());
        }
        match nft.commit(transaction::unmake(table, to)) {
            Err(e) if !e.is_gone() => {
                // Without effect; the revert takes it with the table.
                warn!(table, error = %chain(&e), "what was made ready is left");
            }
            _ => {}
        }
        Err(error)
    }

    /// Whether it was made all the same: an error may be an answer that was lost.
    fn is_made(self, nft: &mut Nft) -> Result<bool, KernelError> {
        let rules = nft.rules(self.table)?;
        let (old, new) = (transaction::inner_chains(self.from), transaction::inner_chains(self.to));
        let has = |chains: &[String]| rules.iter().any(|rule| chains.contains(&rule.chain));
        Ok(has(&new) && !has(&old))
    }
}
