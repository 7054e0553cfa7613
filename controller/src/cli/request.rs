//! What was asked for on the command line, checked: what the commands are given to do.

use std::path::PathBuf;

use faultline_proto::id::FaultId;

use super::{MetricsArgs, PlaceChoice};
use crate::{
    experiment::{Loaded, SandboxSpec},
    report::Output,
};

/// `run`, and `inject`.
#[derive(Debug)]
pub struct RunRequest {
    /// At least one; to be run in this order.
    pub experiments: Vec<Loaded>,
    /// Where.
    pub place: PlaceChoice,
    /// How results are printed.
    pub output: Output,
    /// Where reports are written.
    pub report_dir: Option<PathBuf>,
    /// Where metrics go.
    pub metrics: MetricsArgs,
}

/// `plan`.
#[derive(Debug)]
pub struct PlanRequest {
    /// At least one.
    pub experiments: Vec<Loaded>,
    /// Where.
    pub place: PlaceChoice,
    /// How results are printed.
    pub output: Output,
}

/// `ps`.
#[derive(Debug)]
pub struct PsRequest {
    /// Whose agents are asked.
    pub place: PlaceChoice,
    /// How results are printed.
    pub output: Output,
}

/// `halt`.
#[derive(Debug)]
pub struct HaltRequest {
    /// Whose agents are told.
    pub place: PlaceChoice,
    /// Why: not empty, and no longer than agents take.
    pub reason: String,
    /// How results are printed.
    pub output: Output,
}

/// `resume`.
#[derive(Debug)]
pub struct ResumeRequest {
    /// Whose agents are told.
    pub place: PlaceChoice,
    /// What is stuck and was looked at by whoever says this.
    pub acknowledged: Vec<FaultId>,
    /// How results are printed.
    pub output: Output,
}

/// `sandbox`.
#[derive(Debug)]
pub struct SandboxRequest {
    /// What is built.
    pub sandbox: SandboxSpec,
    /// How results are printed.
    pub output: Output,
}
