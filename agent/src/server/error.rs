//! Every failure of the agent as a gRPC status: one function for each kind of failure, one code and
//! one stable word for each case.

use faultline_proto::{InvalidWire, id::FaultId, pb};
use prost::Message;
use tonic::{Code, Status};

use crate::{
    errors::chain,
    fault::Refusal,
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
        ResumeError::NotKept { id, .. } => {
            status(Code::FailedPrecondition, "journal", Some(*id), error)
        }
        ResumeError::StillHalted { .. } => status(Code::Internal, "still_halted", None, error),
    }
}

pub(super) fn prepare(error: &PrepareError) -> Status {
    match error {
        PrepareError::Halted(_) => status(Code::FailedPrecondition, "halted", None, error),
        PrepareError::Stuck(_) => status(Code::FailedPrecondition, "stuck", None, error),
        PrepareError::ShuttingDown => status(Code::Unavailable, "shutting_down", None, error),
        PrepareError::TooMany { .. } => status(Code::ResourceExhausted, "too_many", None, error),
        PrepareError::DeadlinePast(id) => {
            status(Code::InvalidArgument, "deadline_past", Some(*id), error)
        }
        PrepareError::IdUsed(id) => status(Code::AlreadyExists, "id_used", Some(*id), error),
        PrepareError::Journal(_) => status(Code::FailedPrecondition, "journal", None, error),
        PrepareError::Refused { id, source, .. } => refused(error, *id, source),
    }
}

pub(super) fn amend(error: &AmendError) -> Status {
    match error {
        AmendError::Unknown(id) => status(Code::NotFound, "unknown_fault", Some(*id), error),
        AmendError::NotAllowed { id, .. } => {
            status(Code::FailedPrecondition, "wrong_state", Some(*id), error)
        }
        AmendError::Journal(_) => status(Code::FailedPrecondition, "journal", None, error),
        AmendError::Refused { id, source, .. } => refused(error, *id, source),
        AmendError::NotMade { id, .. } => status(Code::Internal, "kernel", Some(*id), error),
    }
}

fn refused(error: &dyn std::error::Error, id: FaultId, refusal: &Refusal) -> Status {
    let (code, word) = match refusal {
        Refusal::TargetGone { .. } => (Code::NotFound, "target_gone"),
        Refusal::Unsupported { .. } => (Code::FailedPrecondition, "unsupported"),
        Refusal::NotPossible(_) => (Code::FailedPrecondition, "not_possible"),
        Refusal::Conflict { with, .. } => {
            let message = chain(error);
            return detailed(Code::FailedPrecondition, "conflict", Some(id), Some(*with), message);
        }
        Refusal::Foreign { .. } => (Code::FailedPrecondition, "foreign"),
        Refusal::Protected { .. } => (Code::PermissionDenied, "protected"),
        Refusal::Kernel(_) => (Code::Internal, "kernel"),
    };
    status(code, word, Some(id), error)
}
