//! What an experiment is, once its file has been read and found to be without mistakes.
//!
//! The types are here; [`load`] is the one way to get a value of them. It touches nothing but the
//! files it is given, and knows nothing of where an experiment will run.

mod assertion;
mod background;
mod bound;
mod check;
mod conditions;
mod decode;
mod fault;
mod kubernetes;
pub mod labels;
mod load;
mod mentions;
mod method;
mod mode;
mod pods;
mod probes;
mod repeat;
mod required_place;
mod safety;
mod sandbox;
mod selector;
mod stop;
mod targets;
#[cfg(test)]
mod tests;
pub mod tolerance;
pub mod verifies;
mod window;

pub use assertion::{Assertion, Limit, Measure};
pub use conditions::{ConditionStatus, Conditions};
pub use fault::{FaultKind, FaultSpec};
pub use kubernetes::{Figure, KubernetesProbe, Object, ObjectKind};
pub use load::{FileError, LoadErrors, Loaded, load, load_source};
pub use mode::{Leader, Mode};
pub use pods::{PodsProbe, Whose};
pub use probes::is_made_from;
pub use required_place::{PlaceFacts, RequiredPlace};
pub use safety::{ALWAYS_PROTECTED, BlastRadius, Safety};
pub use selector::{Field, FieldRequirement, LabelOperator, LabelRequirement, Owner, Selector};
pub use stop::{StopCondition, StopRule};
pub use tolerance::{Bound, Quantile, Recovery, Tolerance, ValueRule};
pub use window::{TimeWindow, is_open};

use std::{collections::BTreeMap, time::Duration};

use faultline_proto::{
    probe,
    yaml::{Span, Spanned},
};
use serde::Serialize;

/// What `apiVersion` says.
pub const API_VERSION: &str = "faultline.dev/v1alpha1";
/// What `kind` says.
pub const KIND: &str = "Experiment";

/// Targets in one experiment.
pub const TARGETS_MAX: usize = 100;
/// Probes in one experiment.
pub const PROBES_MAX: usize = 100;
/// Steps of one method.
pub const STEPS_MAX: usize = 500;
/// Faults of one `parallel` step.
pub const PARALLEL_MAX: usize = 64;
/// How dense a probe is that does not say.
pub const PROBE_EVERY_DEFAULT: Duration = Duration::from_millis(100);
/// What one attempt of a probe may take where nothing is said.
pub const PROBE_TIMEOUT_DEFAULT: Duration = Duration::from_secs(1);
/// How long a probe stays well before it counts as recovered, where nothing is said.
pub const STABLE_FOR_DEFAULT: Duration = Duration::from_secs(1);
/// The longest quiet time: attempts are kept whole for longer than that.
pub const QUIET_MAX: Duration = Duration::from_mins(1);
/// Rounds of one `repeat`.
pub const ROUNDS_MAX: u32 = 1_000;
/// How soon a value must be as is asked, where nothing is said.
pub const RECOVERY_WITHIN_DEFAULT: Duration = Duration::from_secs(30);
/// The longest that recovery or a wait may be asked to take.
pub const WAIT_MAX: Duration = Duration::from_hours(24);
/// Nodes of a sandbox.
pub const SANDBOX_NODES_MAX: u32 = 16;
/// Nodes of a sandbox that does not say.
pub const SANDBOX_NODES_DEFAULT: u32 = 3;
/// Replicas of one pod of a sandbox.
pub const REPLICAS_MAX: u32 = 100;
/// How long after its death an agent of a sandbox is started again, where nothing is said.
pub const AGENT_RESTART_DEFAULT: Duration = Duration::from_secs(1);

/// One experiment.
#[derive(Debug, Clone)]
pub struct Experiment {
    /// What it was read from: a file's path, or what stands for one.
    pub file: String,
    /// `metadata.name`: unique among the experiments that are read together.
    pub name: String,
    /// `metadata.labels`: for whoever sorts reports and metrics of many experiments.
    pub labels: BTreeMap<String, String>,
    /// What should stay true, in words.
    pub hypothesis: Option<String>,
    /// Decides every random choice. Written, or drawn when the file was read.
    pub seed: u64,
    /// How long faults live without a sign of life of the controller.
    pub lease: Duration,
    /// Who is meant, by name.
    pub targets: BTreeMap<String, Selector>,
    /// How it is observed, in the order written, and then the loads. Names are unique.
    pub probes: Vec<Probe>,
    /// What is done, in order. Not empty.
    pub method: Vec<Step>,
    /// How much of the system may be hit.
    pub blast_radius: BlastRadius,
    /// What it may never do, whoever starts it, where and when.
    pub safety: Safety,
    /// What ends a run at once.
    pub stop_conditions: Vec<StopCondition>,
    /// What must be true of the measures of a run.
    pub assertions: Vec<Assertion>,
    /// What the sandbox is made of, where the experiment says so.
    pub sandbox: Option<SandboxSpec>,
}

impl Experiment {
    /// Whether any target is followed.
    pub fn follows(&self) -> bool {
        self.targets.values().any(|selector| selector.follow != Follow::Keep)
    }

    /// Whether somebody has to be asked who leads a target.
    pub fn asks_who_leads(&self) -> bool {
        let asks = |selector: &Selector| matches!(&selector.mode, Mode::Leader(l) if l.is_asked());
        self.targets.values().any(asks)
    }

    /// The steps that have none inside, in order; what is repeated is in it once.
    pub fn leaves(&self) -> impl Iterator<Item = Leaf<'_>> {
        self.method.iter().flat_map(Step::leaves)
    }

    /// A place in its file, for a message: `experiment.yaml:12`.
    pub fn place_of(&self, span: Span) -> String {
        format!("{}:{}", self.file, span.line)
    }
}

/// What becomes of faults while they last, when their targets come and go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Follow {
    /// Only those that were chosen at the start are hit: a fault whose target has gone has ended.
    #[default]
    Keep,
    /// For one that has gone, a new one that matches takes its place.
    Recreated,
    /// Whoever matches now is hit.
    AllMatching,
}

/// A step of the method.
#[derive(Debug, Clone)]
pub enum Step {
    /// One fault.
    Inject(Inject),
    /// Faults that begin at one instant; the step ends with the last of them.
    Parallel(Vec<Inject>),
    /// Nothing is done for so long.
    Wait(Duration),
    /// Nothing is in effect for so long, and the steady state must hold again.
    Quiet(Spanned<Duration>),
    /// Some steps again and again.
    Repeat(Repeat),
}

/// Steps that are done again and again.
#[derive(Debug, Clone)]
pub struct Repeat {
    /// How often.
    pub until: Until,
    /// From the beginning of one round to that of the next; `None`: one after the other.
    pub every: Option<Duration>,
    /// By how much of `every` a beginning is moved at most, to and fro, in hundredths of a percent.
    pub jitter_basis_points: u32,
    /// What is done in a round. Not empty.
    pub steps: Vec<Step>,
    /// Where it is written.
    pub span: Span,
}

/// How often something is repeated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Until {
    /// So many rounds.
    Times(u32),
    /// No round begins after so long.
    For(Duration),
}

/// A step that has none inside.
#[derive(Debug, Clone, Copy)]
pub enum Leaf<'a> {
    /// Faults that begin at one instant.
    Inject(&'a [Inject]),
    /// Nothing is done.
    Rest,
}

impl Step {
    /// What it consists of, in order; what is repeated is in it once.
    pub fn leaves(&self) -> Box<dyn Iterator<Item = Leaf<'_>> + '_> {
        let one = |leaf| Box::new(std::iter::once(leaf));
        match self {
            Self::Inject(inject) => one(Leaf::Inject(std::slice::from_ref(inject))),
            Self::Parallel(injects) => one(Leaf::Inject(injects)),
            Self::Wait(_) | Self::Quiet(_) => one(Leaf::Rest),
            Self::Repeat(repeat) => Box::new(repeat.steps.iter().flat_map(Self::leaves)),
        }
    }

    /// How long it takes as planned, without the time that agents and proofs take.
    pub fn planned(&self) -> Duration {
        self.takes(Duration::ZERO)
    }

    /// As planned, and for everything that agents are asked for, so long besides.
    pub fn takes(&self, besides: Duration) -> Duration {
        match self {
            Self::Inject(inject) => inject.duration.saturating_add(besides),
            Self::Parallel(injects) => {
                let longest = injects.iter().map(|inject| inject.duration).max();
                longest.unwrap_or_default().saturating_add(besides)
            }
            Self::Wait(duration) => *duration,
            Self::Quiet(quiet) => quiet.value.saturating_add(besides),
            Self::Repeat(repeat) => repeat.takes(besides),
        }
    }
}

impl Repeat {
    /// How long one round takes as planned.
    pub fn round(&self) -> Duration {
        self.round_takes(Duration::ZERO)
    }

    fn round_takes(&self, besides: Duration) -> Duration {
        self.steps.iter().fold(Duration::ZERO, |sum, step| sum.saturating_add(step.takes(besides)))
    }

    /// How long all rounds take as planned, at most, as [`Step::takes`].
    fn takes(&self, besides: Duration) -> Duration {
        let round = self.round_takes(besides);
        match (self.until, self.every) {
            // The last one may begin at the end.
            (Until::For(time), _) => time.saturating_add(round),
            (Until::Times(times), None) => round.saturating_mul(times),
            (Until::Times(times), Some(every)) => {
                let jitter = every.mul_f64(f64::from(self.jitter_basis_points) / 10_000.0);
                let begins = every.saturating_mul(times.saturating_sub(1));
                // Rounds that take longer than from one to the next follow each other.
                begins.saturating_add(jitter).saturating_add(round).max(round.saturating_mul(times))
            }
        }
    }
}

/// A fault of the method.
#[derive(Debug, Clone)]
pub struct Inject {
    /// Which.
    pub spec: FaultSpec,
    /// For how long; zero for a kind that is over at once.
    pub duration: Duration,
    /// Where it is written.
    pub span: Span,
}

/// How something is observed.
#[derive(Debug, Clone)]
pub struct Probe {
    /// What it is called in reports.
    pub name: String,
    /// What is tried.
    pub kind: ProbeKind,
    /// From the pods of which target; `None`: from where the controller is. Never of an exec probe.
    pub from: Option<Spanned<String>>,
    /// How often: from the start of one attempt to the start of the next.
    pub every: Duration,
    /// How long one attempt may take.
    pub timeout: Duration,
    /// What must hold before anything is injected, or the run is refused.
    pub steady: Option<Tolerance>,
    /// What must hold while faults are in effect.
    pub during: Option<Tolerance>,
    /// What must hold afterwards.
    pub recovery: Option<Recovery>,
    /// It is there to be a load, and observes what becomes of that.
    pub is_load: bool,
    /// What it proves, for dashboards.
    pub verifies: Option<verifies::Verifies>,
}

/// What one attempt of a probe is.
#[derive(Debug, Clone)]
pub enum ProbeKind {
    /// Something that needs nothing but a network.
    Network(probe::Spec),
    /// A command in the first pod of a target.
    Exec(probe::Exec),
    /// A look at pods themselves.
    Pods(PodsProbe),
    /// A look at an object of a cluster.
    Kubernetes(KubernetesProbe),
}

/// A comparison of a measure with a bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Comparison {
    /// `>=`
    AtLeast,
    /// `>`
    MoreThan,
    /// `<=`
    AtMost,
    /// `<`
    LessThan,
    /// `==`
    Equal,
}

/// What the sandbox is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SandboxSpec {
    /// How many nodes: `node1`, `node2`, …; the command line may say otherwise.
    pub nodes: u32,
    /// The pods.
    pub pods: Vec<SandboxPod>,
    /// How long after an agent's death it is started again; `None`: never.
    pub restart_agents_after: Option<Duration>,
}

/// A pod of the sandbox, or several alike.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SandboxPod {
    /// Its name; with replicas, `NAME-1`, `NAME-2`, …
    pub name: String,
    /// Its namespace.
    pub namespace: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// How many of them, spread over the nodes; `None`: one, without a number in its name.
    pub replicas: Option<u32>,
    /// On which node; spread if `None`.
    pub node: Option<Spanned<String>>,
    /// What it runs.
    pub workload: Workload,
    /// The limit of its memory control group.
    pub memory_limit_bytes: Option<u64>,
}

/// What a pod of the sandbox runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Workload {
    /// The built-in echo service, `docs/probes.md` says on which ports.
    Echo,
    /// A command, found on `PATH`.
    Command(Vec<String>),
}
