//! What a run came to: the data of `--output json` and `--report-dir`, and how it is shown.
//!
//! Every time is a number of milliseconds, measured on a monotonic clock.

mod archive;
mod assertion;
mod bound;
mod clean;
mod console;
mod environment;
mod html;
pub mod journal;
mod junit;
mod plan;
mod pod;
mod probe;
pub mod progress;
mod stop;
mod text;
mod utc;

use std::{collections::BTreeMap, time::Duration};

use faultline_proto::fault::Counted;
use serde::{Deserialize, Serialize};

pub use archive::RunFiles;
pub use assertion::{AssertionReport, Outcome};
pub use bound::{BoundReport, FigureReport};
pub use clean::{clean, clean_all, cleaned, may_be_unclean};
pub use console::{Console, Output, counted, time};
pub use environment::{AgentReport, Environment};
pub use plan::{PlanReport, RuleReport};
pub use pod::PodReport;
pub use probe::{
    DowntimeReport, LatencyReport, MoveReport, OutageReport, ProbeReport, SeriesReport,
    ValueReport, WindowReport,
};
pub use stop::StopReport;
pub use utc::utc;

/// The version of this schema: raised by a change that a reader must know of.
pub const SCHEMA_VERSION: u32 = 2;

/// One run.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// [`SCHEMA_VERSION`].
    pub schema_version: u32,
    /// The experiment's name.
    pub experiment: String,
    /// `metadata.labels` of the experiment.
    pub labels: BTreeMap<String, String>,
    /// The file it was read from.
    pub file: String,
    /// What should have stayed true.
    pub hypothesis: Option<String>,
    /// Of this run.
    pub run_id: String,
    /// Gives the same choices again.
    pub seed: u64,
    /// Where it ran.
    pub place: String,
    /// When it began, in seconds since 1970 (UTC).
    pub started_unix_seconds: u64,
    /// The same in milliseconds; 0 in a report of an earlier version.
    #[serde(default)]
    pub started_unix_ms: u64,
    /// The trace that was made of it, where one was.
    #[serde(default)]
    pub trace_id: Option<String>,
    /// How long it took.
    pub duration_ms: f64,
    /// How it ended.
    pub verdict: Verdict,
    /// Why, each in one sentence; the first is the one that decided.
    pub reasons: Vec<String>,
    /// The parts that it had, in order; each ends as the next begins.
    #[serde(default)]
    pub phases: Vec<PhaseReport>,
    /// Every fault on every target.
    pub injections: Vec<InjectionReport>,
    /// Who would have been followed, and which limit was in the way.
    pub not_followed: Vec<String>,
    /// Between the first and the last commit of one step, at most; with more than one node.
    pub commit_skew_ms: Option<f64>,
    /// Every probe.
    pub probes: Vec<ProbeReport>,
    /// Every time that a pod of a target was lost, from the first injection on, where the place tells that.
    #[serde(default)]
    pub pods: Vec<PodReport>,
    /// For how long any of them failed; `null` without any.
    pub downtime: Option<DowntimeReport>,
    /// Every assertion, in the order written.
    #[serde(default)]
    pub assertions: Vec<AssertionReport>,
    /// What ended it at once, where a stop condition did.
    pub stopped: Option<StopReport>,
    /// What is left of this run in a kernel, or could not be proven not to be. Empty: clean.
    pub residue: Vec<String>,
    /// What the controller ran on.
    pub environment: Environment,
    /// The agents that it was connected to.
    pub agents: Vec<AgentReport>,
    /// The exit code of the command.
    pub exit_code: u8,
}

/// A part of a run.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PhaseReport {
    /// Which.
    pub phase: journal::Phase,
    /// Which step of the method it belongs to, from 1.
    pub step: Option<usize>,
    /// When it began, since the run did.
    pub began_ms: f64,
}

impl Report {
    /// Takes in what was found to be left after the run: of the sandbox, say.
    pub fn add_residue(&mut self, residue: Vec<String>) {
        self.residue.extend(residue.into_iter().map(|text| clean(&text)));
        if !self.residue.is_empty() {
            self.verdict = Verdict::Residue;
            self.exit_code = self.verdict.exit_code();
        }
    }
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Verdict {
    /// The hypothesis held, and the system recovered.
    Held,
    /// It did not, or the system did not recover in time, or that could not be observed.
    Deviated,
    /// Nothing was injected; or not everything that should have been, and that is reverted.
    Refused,
    /// Something could not be proven to be reverted.
    Residue,
    /// Somebody interrupted it, and everything was reverted.
    Interrupted,
    /// Its journal ends before it did. What was known then is reported; `exitCode` is that of a run that
    /// came to this.
    Unfinished,
}

impl Verdict {
    /// Its name, as reports write it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Held => "held",
            Self::Deviated => "deviated",
            Self::Refused => "refused",
            Self::Residue => "residue",
            Self::Interrupted => "interrupted",
            Self::Unfinished => "unfinished",
        }
    }

    /// The exit code of the command that ran it.
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Held => 0,
            Self::Deviated | Self::Unfinished => 1,
            Self::Refused => 3,
            Self::Residue => 4,
            Self::Interrupted => 130,
        }
    }
}

/// A fault on one target.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct InjectionReport {
    /// Its id.
    pub fault_id: String,
    /// Its kind.
    pub kind: String,
    /// The node.
    pub node: String,
    /// `namespace/pod`, or `namespace/pod[container]`.
    pub target: String,
    /// The pod's namespace.
    pub namespace: String,
    /// The pod's name.
    pub pod: String,
    /// The app that the pod belongs to: its label `app.kubernetes.io/name`, `app` or `k8s-app`.
    pub app: Option<String>,
    /// What it is counted as.
    pub counted: Option<Counted>,
    /// What was to be done, as the agent said.
    pub plan: String,
    /// `prepared`, `active`, `reverted`, `stuck`, …
    pub state: String,
    /// `proven`, `failed` or `pending`.
    pub effect: String,
    /// What was observed of the effect.
    pub evidence: String,
    /// When all agents of its step had prepared, since the run began; `null` of one that came later.
    #[serde(default)]
    pub prepared_at_ms: Option<f64>,
    /// When its agent was told to inject it, since the run began.
    #[serde(default)]
    pub ordered_at_ms: Option<f64>,
    /// When it was injected, since the run began.
    pub injected_at_ms: Option<f64>,
    /// When it was proven that nothing is left, since the run began.
    pub reverted_at_ms: Option<f64>,
    /// From the order to inject to the proof of the effect.
    pub time_to_effect_ms: Option<f64>,
    /// The truth is within this of it: how well the agent's clock is known.
    pub time_to_effect_uncertainty_ms: Option<f64>,
    /// From the injection to the proof that nothing is left.
    pub lasted_ms: Option<f64>,
    /// From the order to revert to the proof that nothing is left; `null` if something else ended it.
    pub time_to_revert_ms: Option<f64>,
    /// Why it was taken back.
    pub revert_reason: Option<String>,
    /// How its target came, where that was not there when the step began.
    pub follow: Option<FollowReport>,
    /// How often it was changed because its targets came and went.
    pub changes: u32,
    /// Why it was taken back before its time, where its target was let go.
    pub let_go: Option<String>,
    /// What is left of it in the kernel.
    pub residue: Vec<String>,
    /// What somebody else changed meanwhile, and was left.
    pub changed_by_others: Vec<String>,
    /// Why it failed.
    pub failure: Option<String>,
}

/// A target that came while a step was in effect.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FollowReport {
    /// Whose place it took.
    pub instead_of: Option<String>,
    /// When it was first seen, after the injection of the step.
    pub seen_ms: f64,
    /// From then to the proof of the effect.
    pub time_to_effect_ms: Option<f64>,
}

/// A duration in milliseconds, to the microsecond.
pub fn millis(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e6).round() / 1e3
}
