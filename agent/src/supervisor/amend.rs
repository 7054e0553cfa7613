//! Changing what is in effect: all changes of a request are planned before any is made, each is in the
//! journal before the kernel is told, and its effect is proven anew.

use faultline_proto::{fault::Fault, id::FaultId};
use thiserror::Error;
use tracing::{error, info, warn};

use super::{held::Status, node::NodeState};
use crate::{
    errors::chain,
    failpoint,
    fault::{self, Refusal},
    journal::{JournalError, Journalled, Record},
    kernel::{KernelError, clock},
    lifecycle::NotAllowed,
};

/// What an injection is to do from now on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AmendItem {
    /// Which.
    pub fault_id: FaultId,
    /// What it is to do.
    pub fault: Fault,
}

/// The answer to an amendment: how each injection stands, or why one was not changed.
pub type AmendAnswer = Result<Vec<Status>, AmendError>;

/// Why what is in effect was not changed.
#[derive(Debug, Error)]
pub enum AmendError {
    /// There is no such injection. Nothing was changed.
    #[error("fault {0} is not known here; it was never prepared, or is over")]
    Unknown(FaultId),
    /// It is not in effect. Nothing was changed.
    #[error("fault {id} cannot be changed")]
    NotAllowed {
        /// Which.
        id: FaultId,
        /// Why not.
        #[source]
        source: NotAllowed,
    },
    /// A fault kind refused. Nothing was changed.
    #[error("to change fault {id} on {target} is refused")]
    Refused {
        /// Which.
        id: FaultId,
        /// On what.
        target: String,
        /// Why.
        #[source]
        source: Refusal,
    },
    /// It was asked for too long ago. Nothing was changed.
    #[error("nothing is changed: whoever asked for it has given up by now")]
    TooLate,
    /// The undo records could not be written, so the kernel must not be touched. Nothing was changed.
    #[error("the journal cannot be written, and without it nothing is changed")]
    Journal(#[from] JournalError),
    /// The kernel did not make a change. The others of the request were made.
    #[error("fault {id} could not be changed; what was in effect still is")]
    NotMade {
        /// Which.
        id: FaultId,
        /// Why not.
        #[source]
        source: KernelError,
    },
}

impl NodeState {
    /// Changes what injections do. The new effects are looked for from then on.
    pub(super) fn amend(&mut self, items: Vec<AmendItem>) -> Result<(), AmendError> {
        let records = self.plan_amendments(items)?;
        if records.is_empty() {
            return Ok(());
        }
        failpoint::reach(failpoint::BEFORE_AMEND);
        let journalled = self.journal.replace(records);
        let journalled = journalled.inspect_err(|_| self.metrics.journal_failed())?;
        failpoint::reach(failpoint::AMEND_JOURNALLED);
        let made_ready: Vec<Result<(), KernelError>> =
            journalled.iter().map(|r| r.injection().as_injection().make_ready()).collect();
        // Once for all of them: nobody's lease is renewed meanwhile.
        let settled = fault::settle();
        let mut failed = None;
        for (record, ready) in journalled.into_iter().zip(made_ready) {
            let ready = ready.and_then(|()| match &settled {
                Ok(()) => Ok(()),
                Err(e) => Err(KernelError::Unexpected {
                    verb: "wait for",
                    object: "packets on their way".into(),
                    problem: chain(e),
                }),
            });
            if let Err(error) = self.change(record, ready) {
                failed.get_or_insert(error);
            }
        }
        failed.map_or(Ok(()), Err)
    }

    /// The records of what the injections are to become, but for those that are that already.
    fn plan_amendments(&self, items: Vec<AmendItem>) -> Result<Vec<Record>, AmendError> {
        let now = clock::now();
        let mut records = Vec::with_capacity(items.len());
        for AmendItem { fault_id: id, fault } in items {
            let held = self.held.get(&id).ok_or(AmendError::Unknown(id))?;
            held.life.amend(now).map_err(|source| AmendError::NotAllowed { id, source })?;
            let record = held.record();
            if record.fault == fault {
                continue;
            }
            let injection = record.injection.amended(&fault).map_err(|source| {
                AmendError::Refused { id, target: record.target.to_string(), source }
            })?;
            records.push(Record { fault, injection, ..record.clone() });
        }
        Ok(records)
    }

    /// Makes one change that is in the journal and has been made ready, if it has.
    fn change(
        &mut self,
        record: Journalled,
        ready: Result<(), KernelError>,
    ) -> Result<(), AmendError> {
        let id = record.record().fault_id;
        let Some(held) = self.held.get_mut(&id) else { return Ok(()) };
        let changed = ready.and_then(|()| record.injection().as_injection().switch());
        failpoint::reach(failpoint::AMENDED);
        match changed {
            Ok(live) => {
                info!(fault = %id, now = record.injection().describe(), "changed");
                held.become_other(record, live, clock::now());
                self.publish(id);
                self.look(id);
                Ok(())
            }
            Err(source) => {
                // The record of what is in effect is still held here; the one on disk takes back both.
                if let Err(e) = self.journal.replace(vec![held.record().clone()]) {
                    self.metrics.journal_failed();
                    warn!(fault = %id, error = %chain(&e), "its record names a change that was not made");
                }
                let error = AmendError::NotMade { id, source };
                held.failure = chain(&error);
                error!(fault = %id, error = %held.failure, "not changed");
                self.publish(id);
                Err(error)
            }
        }
    }
}
