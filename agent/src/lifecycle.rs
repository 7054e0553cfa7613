//! The life of one injection: which state follows which, and when. Pure: it reads no clock and
//! touches nothing; the supervisor tells it what happened and does what it says.
//!
//! ```text
//!            journalled           commit            injected
//!  (nothing) ──────────► Prepared ──────► Injecting ────────► Active ◄─┐ renew
//!                           │                │ failed           │ └────┘
//!                           │ never          ▼                  │ asked · deadline · lease lost ·
//!                           │ committed  Reverting ◄────────────┘ halted · shutdown · target gone
//!                           └──────────────► │ ▲
//!                                  residue=∅ │ │ failed: again, bounded, with backoff
//!                                            ▼ │
//!                                        Reverted   Stuck ── loud; the node takes no new faults;
//!                                                            asking for a revert tries again
//! ```
//!
//! A revert is legal from every state. After a restart every journalled injection begins in
//! `Reverting`.

use std::time::Duration;

use faultline_proto::{
    boottime::BootTime,
    limits::PREPARED_MAX,
    status::{RevertReason, State},
};
use thiserror::Error;

/// How often a revert is tried before the injection is stuck.
pub const REVERT_ATTEMPTS_MAX: u32 = 6;
/// The pause before the second attempt; it doubles with every further one.
const REVERT_RETRY_DELAY_MS: u64 = 20;
/// How long after the kernel's end of a lease the agent takes the rest away. The kernel is first, so
/// that a lease which is renewed at the last moment is decided in one place.
const LEASE_GRACE: Duration = Duration::from_millis(5);

/// Where one injection is in its life.
#[derive(Debug, Clone)]
pub struct Lifecycle {
    state: State,
    lease: Duration,
    deadline: BootTime,
    lease_end: BootTime,
    reason: Option<RevertReason>,
    attempt: u32,
    retry_at: Option<BootTime>,
}

/// A request that the state does not allow.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("the injection is {}, {because}", name(*.state))]
pub struct NotAllowed {
    /// The state it is in.
    pub state: State,
    /// What that means for the request.
    pub because: &'static str,
}

/// What a failed attempt to revert leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AfterFailure {
    /// Another attempt, at this time.
    RetryAt(BootTime),
    /// No further one by itself.
    Stuck,
}

impl Lifecycle {
    /// Planned and journalled, `now`.
    pub fn prepared(now: BootTime, lease: Duration, deadline: BootTime) -> Self {
        Self {
            state: State::Prepared,
            lease,
            deadline,
            lease_end: deadline.min(now.after(PREPARED_MAX)),
            reason: None,
            attempt: 0,
            retry_at: None,
        }
    }

    /// Found in the journal by an agent that has just started.
    pub fn found(now: BootTime, deadline: BootTime) -> Self {
        let mut life = Self::prepared(now, Duration::ZERO, deadline);
        life.revert(RevertReason::Restarted);
        life
    }

    /// Where it is.
    pub fn state(&self) -> State {
        self.state
    }

    /// When the fault ends without a renewal (for a prepared one: when it is given up).
    pub fn lease_end(&self) -> BootTime {
        self.lease_end
    }

    /// The absolute latest end.
    pub fn deadline(&self) -> BootTime {
        self.deadline
    }

    /// Why it is or was taken back.
    pub fn reason(&self) -> Option<RevertReason> {
        self.reason
    }

    /// Whether nothing more will happen by itself.
    pub fn is_settled(&self) -> bool {
        matches!(self.state, State::Reverted | State::Stuck)
    }

    /// The injection begins, but not after `not_after`. Returns the end of its first lease.
    ///
    /// # Errors
    /// When it is not prepared, or its deadline or `not_after` is past.
    pub fn commit(
        &mut self,
        now: BootTime,
        not_after: Option<BootTime>,
    ) -> Result<BootTime, NotAllowed> {
        if self.state != State::Prepared {
            return Err(self.not_allowed("so that it cannot be committed"));
        }
        if self.deadline <= now {
            return Err(self.not_allowed("and its deadline is past"));
        }
        if not_after.is_some_and(|not_after| not_after < now) {
            return Err(self.not_allowed("and whoever asked to commit it has given up by now"));
        }
        self.state = State::Injecting;
        self.lease_end = self.deadline.min(now.after(self.lease));
        Ok(self.lease_end)
    }

    /// The kernel has been changed.
    pub fn injected(&mut self) {
        debug_assert_eq!(self.state, State::Injecting);
        self.state = State::Active;
    }

    /// The controller lives. Returns the new end of the lease, which never passes the deadline.
    ///
    /// A renewal counts from when it is read: one that waited in an agent that was stopped gives the
    /// fault no more than one lease from then, and nothing at all once the lease has ended. So a fault
    /// ends within two leases of the last renewal that anybody sent.
    ///
    /// # Errors
    /// When it is not active, or its lease has ended.
    pub fn renew(&mut self, now: BootTime) -> Result<BootTime, NotAllowed> {
        if self.state != State::Active {
            return Err(self.not_allowed("so that there is nothing to renew"));
        }
        if self.lease_end <= now {
            return Err(self.not_allowed("and its lease has ended"));
        }
        Ok(self.deadline.min(now.after(self.lease)))
    }

    /// The kernel took the renewal.
    pub fn renewed(&mut self, lease_end: BootTime) {
        self.lease_end = lease_end;
    }

    /// What it does is to be changed. The end of the lease stays.
    ///
    /// # Errors
    /// When it is not active, or its lease has ended.
    pub fn amend(&self, now: BootTime) -> Result<(), NotAllowed> {
        if self.state != State::Active {
            return Err(self.not_allowed("so that there is nothing to change"));
        }
        if self.lease_end <= now {
            return Err(self.not_allowed("and its lease has ended"));
        }
        Ok(())
    }

    /// It is to be taken back. Returns whether that begins now: not when it is under way or done.
    pub fn revert(&mut self, reason: RevertReason) -> bool {
        match self.state {
            State::Reverted | State::Reverting => false,
            State::Stuck => {
                (self.state, self.attempt, self.retry_at) = (State::Reverting, 0, None);
                true
            }
            State::Prepared | State::Injecting | State::Active => {
                self.state = State::Reverting;
                self.reason = Some(reason);
                true
            }
        }
    }

    /// The kernel was read and holds nothing of it.
    pub fn reverted(&mut self) {
        self.state = State::Reverted;
        self.retry_at = None;
    }

    /// An attempt to revert failed, or left something.
    pub fn revert_failed(&mut self, now: BootTime) -> AfterFailure {
        self.attempt += 1;
        if self.attempt >= REVERT_ATTEMPTS_MAX {
            self.state = State::Stuck;
            self.retry_at = None;
            return AfterFailure::Stuck;
        }
        let delay = Duration::from_millis(REVERT_RETRY_DELAY_MS << (self.attempt - 1));
        let at = now.after(delay);
        self.retry_at = Some(at);
        AfterFailure::RetryAt(at)
    }

    /// Why it must be taken back by itself now, if it must.
    pub fn due(&self, now: BootTime) -> Option<RevertReason> {
        match self.state {
            State::Prepared if self.lease_end <= now => Some(RevertReason::NeverCommitted),
            State::Active if self.deadline.after(LEASE_GRACE) <= now => {
                Some(RevertReason::Deadline)
            }
            State::Active if self.lease_end.after(LEASE_GRACE) <= now => {
                Some(RevertReason::LeaseLost)
            }
            _ => None,
        }
    }

    /// Whether another attempt to revert is to be made now.
    pub fn retry_due(&self, now: BootTime) -> bool {
        self.state == State::Reverting && self.retry_at.is_none_or(|at| at <= now)
    }

    /// When [`Lifecycle::due`] or [`Lifecycle::retry_due`] must be asked next.
    pub fn next_timer(&self) -> Option<BootTime> {
        match self.state {
            State::Prepared => Some(self.lease_end),
            State::Active => Some(self.lease_end.after(LEASE_GRACE)),
            State::Reverting => self.retry_at,
            State::Injecting | State::Reverted | State::Stuck => None,
        }
    }

    fn not_allowed(&self, because: &'static str) -> NotAllowed {
        NotAllowed { state: self.state, because }
    }
}

fn name(state: State) -> &'static str {
    match state {
        State::Prepared => "prepared",
        State::Injecting => "being injected",
        State::Active => "active",
        State::Reverting => "being reverted",
        State::Reverted => "reverted",
        State::Stuck => "stuck",
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LEASE: Duration = Duration::from_secs(10);

    fn at(seconds: u64) -> BootTime {
        BootTime::from_nanos(seconds * 1_000_000_000)
    }

    fn active(deadline: u64) -> Lifecycle {
        let mut life = Lifecycle::prepared(at(0), LEASE, at(deadline));
        life.commit(at(0), None).expect("prepared");
        life.injected();
        life
    }

    #[test]
    fn a_renewal_never_passes_the_deadline() {
        let mut life = active(15);
        assert_eq!(life.lease_end(), at(10));
        let end = life.renew(at(9)).expect("alive");
        life.renewed(end);
        assert_eq!(end, at(15));
        assert_eq!(life.due(at(14)), None);
        assert_eq!(life.due(at(16)), Some(RevertReason::Deadline));
    }

    #[test]
    fn a_lease_that_has_ended_can_neither_be_renewed_nor_its_fault_changed() {
        let mut life = active(60);
        assert!(life.amend(at(9)).is_ok());
        assert!(life.renew(at(10)).is_err() && life.amend(at(10)).is_err());
        assert_eq!(life.due(at(11)), Some(RevertReason::LeaseLost));
    }

    #[test]
    fn what_nobody_waits_for_any_more_is_not_committed() {
        let mut life = Lifecycle::prepared(at(0), LEASE, at(60));
        let late = life.commit(at(11), Some(at(10))).expect_err("too late");
        assert!(late.to_string().contains("has given up"), "{late}");
        assert_eq!(life.state(), State::Prepared);
        life.commit(at(10), Some(at(10))).expect("just in time");
    }

    #[test]
    fn a_renewal_that_was_held_up_gives_no_more_than_a_lease_from_when_it_is_read() {
        let mut life = active(60);
        let end = life.renew(at(9)).expect("the lease of 10 s lives");
        life.renewed(end);
        assert_eq!(end, at(19));
        assert!(life.renew(at(20)).is_err(), "sent in time or not: it is over");
    }

    #[test]
    fn what_is_never_committed_is_given_up() {
        let life = Lifecycle::prepared(at(0), LEASE, at(3600));
        assert_eq!(life.due(at(29)), None);
        assert_eq!(life.due(at(30)), Some(RevertReason::NeverCommitted));
    }

    #[test]
    fn a_revert_that_fails_is_tried_again_and_then_stuck_until_somebody_asks() {
        let mut life = active(60);
        assert!(life.revert(RevertReason::Asked));
        for _ in 1..REVERT_ATTEMPTS_MAX {
            assert!(matches!(life.revert_failed(at(1)), AfterFailure::RetryAt(_)));
        }
        assert_eq!(life.revert_failed(at(1)), AfterFailure::Stuck);
        assert!(life.is_settled());
        assert!(life.revert(RevertReason::Asked), "a person may try again");
        assert_eq!(life.reason(), Some(RevertReason::Asked));
    }

    proptest! {
        /// Whatever happens in whatever order: a revert is legal, and its end is `Reverted`.
        #[test]
        fn every_history_can_be_reverted(events in prop::collection::vec((0_u8..6, 0_u64..100), 0..40)) {
            let mut life = Lifecycle::prepared(at(0), LEASE, at(50));
            let mut now = 0;
            for (event, pause) in events {
                now += pause;
                match event {
                    0 => drop(life.commit(at(now), Some(at(90)))),
                    1 if life.state() == State::Injecting => life.injected(),
                    2 => if let Ok(end) = life.renew(at(now)) {
                        prop_assert!(end <= life.deadline());
                        life.renewed(end);
                    },
                    3 => drop(life.revert(RevertReason::Asked)),
                    4 if life.state() == State::Reverting => drop(life.revert_failed(at(now))),
                    5 => if let Some(reason) = life.due(at(now)) { life.revert(reason); },
                    _ => {}
                }
            }
            life.revert(RevertReason::Asked);
            prop_assert!(matches!(life.state(), State::Reverting | State::Reverted));
            life.reverted();
            prop_assert_eq!(life.state(), State::Reverted);
            prop_assert!(life.reason().is_some());
        }
    }
}
