//! Every failure of the agent as a gRPC status: one function for each kind of failure, one code and
//! one stable word for each case.

use faultline_proto::{InvalidWire, id::FaultId, pb};
use prost::Message;
use tonic::{Code, Status};

use crate::{
    errors::chain,
    fault::Refusal,
    observe::ObserveError,
    supervisor::{AmendError, NotAllowedFault, PrepareError, QueueError, ResumeError},
};

fn status(code: Code, word: &str, fault: Option<FaultId>, error: &dyn std::error::Error) -> Status {
    detailed(code, word, fault, None, chain(error))
}

fn detailed(
    code: Code,
    word: &str,
    fault: Option<FaultId>,
    conflicts_with: Option<FaultId>,
    message: String,
) -> Status {
    let id = |id: Option<FaultId>| id.map_or_else(String::new, |id| id.to_string());
    let detail = pb::ErrorDetail {
        code: word.into(),
        fault_id: id(fault),
        conflicts_with: id(conflicts_with),
    };
    Status::with_details(code, message, detail.encode_to_vec().into())
}

pub(super) fn invalid(error: &InvalidWire) -> Status {
    status(Code::InvalidArgument, "invalid", None, error)
}

#[allow(clippy::needless_pass_by_value, reason = "so that map_err takes it by name")]
pub(super) fn queue(error: QueueError) -> Status {
    match error {
        QueueError::Full => status(Code::ResourceExhausted, "busy", None, &error),
        QueueError::Closed => status(Code::Unavailable, "shutting_down", None, &error),
    }
}

pub(super) fn not_allowed(error: &NotAllowedFault) -> Status {
    match error {
        NotAllowedFault::Unknown(id) => status(Code::NotFound, "unknown_fault", Some(*id), error),
        NotAllowedFault::NotAllowed { id, .. } => {
            status(Code::FailedPrecondition, "wrong_state", Some(*id), error)
        }
    }
}

pub(super) fn resume(error: &ResumeError) -> Status {
    match error {
        ResumeError::NotStuck { id, .. } => status(Code::NotFound, "not_stuck", Some(*id), error),
        ResumeError::TooLate => status(Code::FailedPrecondition, "too_late", None, error),
        ResumeError::NotKept { id, .. } => {
            status(Code::FailedPrecondition, "journal", Some(*id), error)
        }
        ResumeError::StillHalted { .. } => status(Code::Internal, "still_halted", None, error),
    }
}

pub(super) fn prepare(error: &PrepareError) -> Status {
    let (code, fault) = match error {
        PrepareError::Halted(_) | PrepareError::Stuck(_) | PrepareError::Journal(_) => {
            (Code::FailedPrecondition, None)
        }
        PrepareError::ShuttingDown => (Code::Unavailable, None),
        PrepareError::TooMany { .. } => (Code::ResourceExhausted, None),
        PrepareError::DeadlinePast(id) => (Code::InvalidArgument, Some(*id)),
        PrepareError::IdUsed(id) => (Code::AlreadyExists, Some(*id)),
        PrepareError::Refused { id, source, .. } => return refused(error, *id, source),
    };
    status(code, error.word(), fault, error)
}

pub(super) fn amend(error: &AmendError) -> Status {
    match error {
        AmendError::Unknown(id) => status(Code::NotFound, "unknown_fault", Some(*id), error),
        AmendError::NotAllowed { id, .. } => {
            status(Code::FailedPrecondition, "wrong_state", Some(*id), error)
        }
        AmendError::TooLate => status(Code::FailedPrecondition, "too_late", None, error),
        AmendError::Journal(_) => status(Code::FailedPrecondition, "journal", None, error),
        AmendError::Refused { id, source, .. } => refused(error, *id, source),
        AmendError::NotMade { id, .. } => status(Code::Internal, "kernel", Some(*id), error),
    }
}

pub(super) fn observe(error: &ObserveError) -> Status {
    let (code, word) = match error {
        ObserveError::Refused(refusal) => (of_refusal(refusal).0, refusal.word()),
        ObserveError::NoContainer | ObserveError::NotReady(_) => (Code::InvalidArgument, "invalid"),
        ObserveError::TooMany => (Code::ResourceExhausted, "too_many"),
        ObserveError::Kernel(_) => (Code::Internal, "kernel"),
    };
    status(code, word, None, error)
}

fn refused(error: &dyn std::error::Error, id: FaultId, refusal: &Refusal) -> Status {
    let (code, with) = of_refusal(refusal);
    detailed(code, refusal.word(), Some(id), with, chain(error))
}

fn of_refusal(refusal: &Refusal) -> (Code, Option<FaultId>) {
    match refusal {
        Refusal::TargetGone { .. } => (Code::NotFound, None),
        Refusal::Conflict { with, .. } => (Code::FailedPrecondition, Some(*with)),
        Refusal::Unsupported { .. } | Refusal::NotPossible(_) | Refusal::Foreign { .. } => {
            (Code::FailedPrecondition, None)
        }
        Refusal::Protected { .. } => (Code::PermissionDenied, None),
        Refusal::Kernel(_) => (Code::Internal, None),
    }
}
