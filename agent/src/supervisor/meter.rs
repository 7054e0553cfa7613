//! What the supervisor tells the metrics: how injections came out, and how the node stands.

use faultline_proto::{
    boottime::BootTime,
    status::{Proof, State},
};

use super::{held::Held, node::NodeState};
use crate::{
    journal,
    kernel::clock,
    metrics::{Injected, Metrics, Standing},
};

impl Held {
    /// Counts how the injection came out, once.
    pub(super) fn came_out(&mut self, metrics: &Metrics, how: Injected) {
        if !self.is_counted {
            self.is_counted = true;
            metrics.injected(self.fault().kind(), how);
        }
    }

    /// It is known whether the effect was seen, or it will never be: not of one that never was in the
    /// kernel.
    pub(super) fn proof_is_settled(&mut self, metrics: &Metrics) {
        let (Some(committed), false) = (self.committed, self.is_counted) else { return };
        match (self.proof.proof, self.proof.proven) {
            (Proof::Pending, _) if self.proof.next_look.is_some() => {}
            (Proof::Proven, proven) => {
                self.came_out(metrics, Injected::Proven);
                let after = proven.unwrap_or(committed).since(committed);
                metrics.took_effect(self.fault().kind(), after);
            }
            (Proof::Failed | Proof::Pending, _) => self.came_out(metrics, Injected::Unproven),
        }
    }

    /// Nothing is left of it, since `now`.
    pub(super) fn is_reverted(&self, metrics: &Metrics, now: BootTime) {
        let Some(reason) = self.life.reason() else { return };
        // Of what an earlier process left it is not known whether the kernel was changed.
        let is_found = reason == faultline_proto::status::RevertReason::Restarted;
        let begun = self.revert_begun.filter(|_| is_found || self.committed.is_some());
        metrics.reverted(self.fault().kind(), reason, begun.map(|begun| now.since(begun)));
    }
}

impl NodeState {
    /// Tells how the node stands now.
    pub(super) fn meter(&mut self) {
        let of = |state: State| {
            let held = self.held.values().filter(move |held| held.life.state() == state);
            held.map(|held| held.fault().kind())
        };
        let is_known = |id| self.acknowledged.contains(&id);
        self.unreadable.retain(|path, _| self.journal.still_unreadable(path));
        let files = self.unreadable.keys().map(|path| journal::id_of(path).is_some_and(is_known));
        let stuck = self.held.values().filter(|held| held.life.state() == State::Stuck);
        let stuck = files.chain(stuck.map(|held| is_known(held.id())));
        let (acknowledged, open): (Vec<bool>, Vec<bool>) = stuck.partition(|known| *known);
        let active = self.held.values().filter(|held| held.life.state() == State::Active);
        let standing = Standing {
            now: clock::now(),
            lease_end: active.map(|held| held.life.lease_end()).min(),
            stuck: open.len(),
            acknowledged: acknowledged.len(),
            halted: self.halt.is_some(),
            records: self.held.len(),
        };
        self.metrics.stand(&standing, of(State::Active), of(State::Reverting));
    }
}
