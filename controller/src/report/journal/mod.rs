//! The journal of a run: every event as it happened, one JSON document on each line of `journal.jsonl`.
//!
//! Here is what a line says; [`read`] reads a whole file, and [`rebuild`] makes of it what the run came
//! to. `run::record` writes it. `docs/journal.md` documents it for other programs.

mod observed;
mod read;
mod rebuild;
mod unfinished;

use std::time::Duration;

use faultline_probe::{Failure, FailureKind, Sample};
use serde::{Deserialize, Serialize};

pub use read::{Journal, ReadError, read};
pub use rebuild::{Rebuilt, rebuild};

use super::{AgentReport, Environment, InjectionReport, PodReport, Report};

/// The version of what is written: raised by a change that a reader must know of.
pub const JOURNAL_VERSION: u32 = 2;
/// After so long without an event it is written that the run goes on. A journal that ends is of a
/// controller that ended no later than this after its last line.
pub const ALIVE_EVERY: Duration = Duration::from_secs(1);

/// One line.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Line {
    /// When it was told: since the run began, on a monotonic clock.
    pub at_ms: f64,
    /// The same by the wall clock: milliseconds since 1970 (UTC).
    pub wall_unix_ms: u64,
    /// What happened.
    #[serde(flatten)]
    pub event: Event,
}

/// What happened. Faults are known by their ids.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case", rename_all_fields = "camelCase")]
pub enum Event {
    /// The first line.
    Begun(Box<Begun>),
    /// Who a target was found to be.
    Target {
        /// Its name in the experiment.
        name: String,
        /// `namespace/pod` of each.
        chosen: Vec<String>,
    },
    /// An agent was connected to.
    Agent(AgentReport),
    /// Another part of the run began.
    Phase {
        /// Which.
        phase: Phase,
        /// Which step of the method it belongs to, from 1.
        step: Option<usize>,
    },
    /// An agent has planned and journalled a fault. The kernel is untouched.
    Prepared(Box<Prepared>),
    /// Agents were told to inject.
    Ordered {
        /// What.
        faults: Vec<String>,
    },
    /// An agent has told that it injected.
    Committed {
        /// Which.
        fault: String,
        /// When it did, since the run began.
        injected_ms: f64,
    },
    /// The effect was proven.
    Proven {
        /// Of which.
        fault: String,
        /// What was observed.
        evidence: String,
        /// From the order to inject to the proof.
        time_to_effect_ms: Option<f64>,
    },
    /// The effect was looked for and is not there, or the injection failed.
    NoEffect {
        /// Of which.
        fault: String,
        /// Why.
        why: String,
    },
    /// A fault was changed because its targets came or went, and proven anew.
    Amended {
        /// Which.
        fault: String,
    },
    /// Leases could not be renewed once. They are renewed three times in their life.
    RenewalFailed {
        /// On which node.
        node: String,
        /// Why.
        why: String,
    },
    /// Agents were told to revert.
    RevertAsked {
        /// What.
        faults: Vec<String>,
    },
    /// The kernel was read back: nothing is left.
    Reverted {
        /// Of which.
        fault: String,
        /// When, since the run began; `null` where its agent did not tell.
        reverted_ms: Option<f64>,
        /// Why it was taken back.
        reason: Option<String>,
    },
    /// All that is known of a fault, after it has ended.
    Injection(Box<InjectionReport>),
    /// One attempt of a probe.
    Sample(SampleLine),
    /// A probe that is made from a pod goes on from another one: its own has gone, and that was made in its place.
    Moved {
        /// The probe.
        probe: String,
        /// `namespace/pod` that it is made from now.
        pod: String,
        /// The one before.
        instead_of: String,
        /// From when on, since the run began.
        since_ms: f64,
    },
    /// There is something new of a pod of a target that was lost.
    Pod {
        /// Which loss of the run it is, from 0.
        number: usize,
        /// What is known of it now.
        pod: PodReport,
    },
    /// Something went otherwise than planned, which did not end the run.
    Deviation {
        /// What was being done.
        phase: String,
        /// What happened.
        text: String,
    },
    /// Something is left in a kernel, or could not be proven not to be.
    Residue {
        /// What.
        text: String,
    },
    /// The run was ended before its method was.
    Stopped {
        /// Why.
        reasons: Vec<String>,
    },
    /// Nothing has happened for [`ALIVE_EVERY`], and the run goes on.
    Alive,
    /// The disk has no room for everything: from here on attempts of probes are left out, and what else is
    /// missing is not told.
    Full {
        /// What the disk said.
        why: String,
    },
    /// The disk was too slow or too full for all attempts of probes.
    Lost {
        /// How many of them are missing here.
        samples: u64,
    },
    /// What the run came to.
    Verdict(Box<Report>),
    /// The last line: the place was left.
    Ended {
        /// What is left of the place.
        residue: Vec<String>,
    },
}

/// What is run, and where.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Begun {
    /// [`JOURNAL_VERSION`].
    pub journal_version: u32,
    /// Of this run.
    pub run_id: String,
    /// The experiment's name.
    pub experiment: String,
    /// What should stay true.
    pub hypothesis: Option<String>,
    /// The file the experiment was read from.
    pub file: String,
    /// The text of that file.
    pub source: String,
    /// Gives the same choices again.
    pub seed: u64,
    /// How long faults live without a sign of life of the controller.
    pub lease_ms: f64,
    /// Where it runs.
    pub place: String,
    /// When, in seconds since 1970 (UTC).
    pub started_unix_seconds: u64,
    /// What it runs on.
    pub environment: Environment,
}

/// A part of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// Targets are chosen, agents are asked.
    Preflight,
    /// The system is looked at before anything is done to it.
    Steady,
    /// Nothing is done for a while.
    Wait,
    /// Nothing is done, and it is looked at whether all is well.
    Quiet,
    /// A step is prepared and committed.
    Inject,
    /// It is in effect.
    Hold,
    /// It is taken back.
    Revert,
    /// The system has to become well again.
    Recovery,
    /// What was observed is judged.
    Judge,
}

impl Phase {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Preflight => "preflight",
            Self::Steady => "steady",
            Self::Wait => "wait",
            Self::Quiet => "quiet",
            Self::Inject => "inject",
            Self::Hold => "hold",
            Self::Revert => "revert",
            Self::Recovery => "recovery",
            Self::Judge => "judge",
        }
    }
}

/// A fault as it was prepared.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Prepared {
    /// Its id.
    pub fault: String,
    /// Its kind.
    pub kind: String,
    /// The node.
    pub node: String,
    /// `namespace/pod`, or `namespace/pod[container]`.
    pub target: String,
    /// What its agent will do.
    pub plan: String,
    /// How long it is meant to last; 0 for a kind that is over at once.
    pub lasts_ms: f64,
    /// Its absolute latest end, since the run began.
    pub deadline_ms: f64,
}

/// One attempt of a probe. The keys are short: there are many of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SampleLine {
    /// The probe.
    #[serde(rename = "p")]
    pub probe: String,
    /// When it began, since the run began.
    #[serde(rename = "b")]
    pub began_ns: u64,
    /// How long it took.
    #[serde(rename = "t")]
    pub took_ns: u64,
    /// How well the clock is known that these were read from; absent for the controller's own.
    #[serde(rename = "u", default, skip_serializing_if = "is_zero")]
    pub uncertainty_ns: u64,
    /// What its failure is counted as; absent where it succeeded.
    #[serde(rename = "f", default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<FailureKind>,
    /// Why it failed.
    #[serde(rename = "w", default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// What it observed.
    #[serde(rename = "v", default, skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde asks so")]
fn is_zero(nanos: &u64) -> bool {
    *nanos == 0
}

impl SampleLine {
    /// An attempt of this probe.
    pub fn new(probe: &str, sample: Sample) -> Self {
        let nanos = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let (failure, why) = sample.failure.map(|f| (f.kind, f.text)).unzip();
        Self {
            probe: probe.into(),
            began_ns: nanos(sample.began),
            took_ns: nanos(sample.took),
            uncertainty_ns: nanos(sample.uncertainty),
            failure,
            why,
            value: sample.value,
        }
    }

    /// The attempt.
    pub fn sample(self) -> Sample {
        let why = self.why.unwrap_or_default();
        Sample {
            began: Duration::from_nanos(self.began_ns),
            took: Duration::from_nanos(self.took_ns),
            uncertainty: Duration::from_nanos(self.uncertainty_ns),
            failure: self.failure.map(|kind| Failure::new(kind, why)),
            value: self.value,
        }
    }
}

impl Event {
    /// Whether nothing of the run comes after it.
    pub fn is_last(&self) -> bool {
        matches!(self, Self::Ended { .. })
    }

    /// Whether a journal without it still tells what was done: where there is too little room, it is
    /// left out.
    pub fn is_dispensable(&self) -> bool {
        matches!(self, Self::Sample(_) | Self::Alive)
    }

    /// Whether it must be on the disk before the run goes on for long, and not only at the kernel.
    pub fn is_milestone(&self) -> bool {
        matches!(
            self,
            Self::Begun(_)
                | Self::Phase { .. }
                | Self::Ordered { .. }
                | Self::Full { .. }
                | Self::Residue { .. }
                | Self::Verdict(_)
                | Self::Ended { .. }
        )
    }
}
