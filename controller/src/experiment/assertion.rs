//! `assertions:` — what must be true of a run's measures, one by one.

use std::{fmt, time::Duration};

use faultline_proto::{
    units,
    yaml::{self, Fields, Node, Problems, Span, Spanned, quote},
};

use super::{
    Comparison, Probe, bound,
    tolerance::{self, Bound, Quantile, decode_share},
};
use crate::probe::Window;

/// Assertions of one experiment.
const ASSERTIONS_MAX: usize = 200;

/// What must be true of one measure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assertion {
    /// Which.
    pub measure: Measure,
    /// How it must be.
    pub bound: Limit,
    /// Of this probe; `None`: of the one where it is worst.
    pub probe: Option<Spanned<String>>,
    /// Of the pods of this target alone.
    pub target: Option<Spanned<String>>,
    /// Of the attempts of this window, where something else is meant than what is usual.
    pub when: Option<Window>,
    /// Where it is written.
    pub span: Span,
}

/// A measure of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Measure {
    /// For how long a probe failed.
    Downtime,
    /// Its longest outage.
    LongestOutage,
    /// How many it had.
    Outages,
    /// The share of its attempts that succeeded, from the first injection on.
    Availability,
    /// How many of its attempts failed, from the first injection on.
    Errors,
    /// How long its attempts took while faults were in effect.
    Latency(Quantile),
    /// From the first injection to the first failing attempt of any probe, or of this.
    TimeToDetect,
    /// From the proof of the revert to the first attempt that succeeded for good.
    TimeToRecover,
    /// The same, and the time it had to stay well.
    TimeToStable,
    /// From the order to inject to the proof of the effect, on the last target.
    TimeToEffect,
    /// From the order to revert to the proof that nothing is left, on the last target.
    TimeToRevert,
    /// Between the first and the last commit of a step.
    CommitSkew,
    /// From the loss of a pod until another one is there in its place; of the slowest.
    TimeToRecreated,
    /// From the loss of a pod until the one in its place has a node; of the slowest.
    TimeToScheduled,
    /// From the loss of a pod until it, or the one in its place, is ready; of the slowest.
    TimeToReady,
    /// How often containers of a pod were started again since the first injection; of the pod with most.
    Restarts,
}

/// A bound, in the unit of its measure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    /// Of a time.
    Time(Bound<Duration>),
    /// Of a number.
    Count(Bound<u64>),
    /// Of a share, in hundredths of a percent.
    Share(Bound<u32>),
}

const NAMED: [(&str, Measure); 15] = [
    ("downtime", Measure::Downtime),
    ("longestOutage", Measure::LongestOutage),
    ("outages", Measure::Outages),
    ("availability", Measure::Availability),
    ("errors", Measure::Errors),
    ("timeToDetect", Measure::TimeToDetect),
    ("timeToRecover", Measure::TimeToRecover),
    ("timeToStable", Measure::TimeToStable),
    ("timeToEffect", Measure::TimeToEffect),
    ("timeToRevert", Measure::TimeToRevert),
    ("commitSkew", Measure::CommitSkew),
    ("timeToRecreated", Measure::TimeToRecreated),
    ("timeToScheduled", Measure::TimeToScheduled),
    ("timeToReady", Measure::TimeToReady),
    ("restarts", Measure::Restarts),
];

const WINDOWS: &[(&str, Window)] =
    &[("before", Window::Before), ("during", Window::During), ("after", Window::After)];

/// What a measure is of.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Of {
    /// The attempts of a probe, in one window or another.
    Attempts,
    Probe,
    /// The pods of targets.
    Pods,
    Run,
}

impl Measure {
    /// As it is written.
    pub fn name(self) -> &'static str {
        match self {
            Self::Latency(quantile) => quantile.name,
            _ => NAMED.iter().find(|(_, measure)| *measure == self).map_or("", |(name, _)| name),
        }
    }

    fn all() -> impl Iterator<Item = (&'static str, Self)> {
        let latencies = Quantile::ALL.into_iter().map(|q| (q.name, Self::Latency(q)));
        NAMED.into_iter().chain(latencies)
    }

    fn of(self) -> Of {
        match self {
            Self::Availability | Self::Errors | Self::Latency(_) => Of::Attempts,
            Self::TimeToEffect | Self::TimeToRevert | Self::CommitSkew => Of::Run,
            Self::TimeToRecreated | Self::TimeToScheduled | Self::TimeToReady | Self::Restarts => {
                Of::Pods
            }
            _ => Of::Probe,
        }
    }

    /// Whether it is of pods that are lost and come back.
    pub fn of_pods(self) -> bool {
        self.of() == Of::Pods
    }

    /// Whether somebody has to come back for it.
    pub fn needs_pods(self) -> bool {
        self.of_pods() && self != Self::Restarts
    }

    fn needs_recovery(self) -> bool {
        matches!(self, Self::TimeToRecover | Self::TimeToStable)
    }

    fn decode(self, node: &Node, problems: &mut Problems) -> Option<Limit> {
        match self {
            Self::Availability => decode_share(node, problems).map(Limit::Share),
            Self::Outages | Self::Errors | Self::Restarts => {
                decode_count(node, problems).map(Limit::Count)
            }
            _ => decode_time(node, problems).map(Limit::Time),
        }
    }
}

impl Assertion {
    /// Whether it is about pods of these targets.
    pub fn is_about(&self, targets: &[String]) -> bool {
        self.target.as_ref().is_none_or(|target| targets.contains(&target.value))
    }
}

impl fmt::Display for Assertion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.measure.name())?;
        if let Some(probe) = &self.probe {
            write!(f, " of {}", probe.value)?;
        }
        if let Some(target) = &self.target {
            write!(f, " of {}", target.value)?;
        }
        if let Some((name, _)) = WINDOWS.iter().find(|(_, window)| Some(*window) == self.when) {
            write!(f, " {name}")?;
        }
        match self.bound {
            Limit::Time(bound) => write!(f, " {bound}"),
            Limit::Count(bound) => write!(f, " {} {}", bound.comparison.sign(), bound.value),
            Limit::Share(bound) => write!(f, " {}", tolerance::share(bound)),
        }
    }
}

/// Decodes the list of assertions.
pub(super) fn decode(node: &Node, problems: &mut Problems) -> Option<Vec<Assertion>> {
    yaml::list(1..=ASSERTIONS_MAX, "assertions", decode_one)(node, problems)
}

fn decode_one(node: &Node, problems: &mut Problems) -> Option<Assertion> {
    let before = problems.len();
    let mut fields = Fields::open(node, "an assertion", problems)?;
    let span = fields.span();
    let mut found: Vec<(Measure, Span, Option<Limit>)> = Vec::new();
    for (name, measure) in Measure::all() {
        let bound = fields.optional(name, problems, |node, p| Some(measure.decode(node, p)));
        if let (Some(bound), Some(span)) = (bound, fields.key_span(name)) {
            found.push((measure, span, bound));
        }
    }
    let probe = fields.optional("probe", problems, yaml::name);
    let target = fields.optional("target", problems, yaml::name);
    let when = fields.optional("when", problems, yaml::one_of(WINDOWS));
    let [probe_at, target_at, when_at] =
        ["probe", "target", "when"].map(|key| fields.key_span(key));
    let keys = fields.keys().filter(|(key, _)| !["probe", "target", "when"].contains(key)).count();
    fields.finish_with(problems, |key| match key {
        "success" => Some("what succeeds from the first injection on is `availability`".into()),
        "latency" => Some("write `p99: \"< 50ms\"`".into()),
        "window" | "during" | "in" => Some("which attempts is said with `when: during`".into()),
        "mttr" | "rto" => Some("the time until it is well again is `timeToRecover`".into()),
        _ => None,
    });
    if keys == 0 {
        let names: Vec<&str> = Measure::all().map(|(name, _)| name).collect();
        problems
            .add(span, "an assertion about nothing")
            .expected(format!("expected one of: {}", names.join(", ")));
    }
    for (measure, span, _) in found.iter().skip(1) {
        problems
            .add(*span, format!("`{}` beside another measure in one assertion", measure.name()))
            .help("make it an assertion of its own");
    }
    let (measure, _, bound) = found.into_iter().next()?;
    let wrong = [
        probe_at.filter(|_| measure.of() == Of::Run).map(|at| (at, "is a measure of the run")),
        probe_at.filter(|_| measure.of_pods()).map(|at| (at, "is a measure of pods")),
        target_at.filter(|_| !measure.of_pods()).map(|at| (at, "is no measure of a target's pods")),
        when_at.filter(|_| measure.of() != Of::Attempts).map(|at| (at, "is of the whole run")),
    ];
    for (at, why) in wrong.into_iter().flatten() {
        problems.add(at, format!("`{}` {why}", measure.name())).help("take this out");
    }
    let bound = bound.filter(|_| problems.len() == before)?;
    Some(Assertion { measure, bound, probe, target, when, span })
}

const SIGNS: [Comparison; 5] = [
    Comparison::AtMost,
    Comparison::LessThan,
    Comparison::AtLeast,
    Comparison::MoreThan,
    Comparison::Equal,
];

fn decode_time(node: &Node, problems: &mut Problems) -> Option<Bound<Duration>> {
    let (comparison, value) = bound::decode(node, &SIGNS, "< 2s", units::parse_duration, problems)?;
    possible(node, comparison == Comparison::LessThan && value.is_zero(), problems)?;
    Some(Bound { comparison, value })
}

fn decode_count(node: &Node, problems: &mut Problems) -> Option<Bound<u64>> {
    let number = |text: &str| text.parse().map_err(|_not_one| "expected a whole number".to_owned());
    let (comparison, value) = bound::decode(node, &SIGNS, "<= 1", number, problems)?;
    possible(node, comparison == Comparison::LessThan && value == 0, problems)?;
    Some(Bound { comparison, value })
}

fn possible(node: &Node, never: bool, problems: &mut Problems) -> Option<()> {
    if never {
        problems.add(node.span, format!("{} never holds", node.describe()));
    }
    (!never).then_some(())
}

/// Reports assertions about probes that there are not, or that measure nothing of the kind. Only to be
/// asked where all probes could be read.
pub(super) fn check_probes(assertions: &[Assertion], probes: &[Probe], problems: &mut Problems) {
    let names: Vec<&str> = probes.iter().map(|probe| probe.name.as_str()).collect();
    let of_probes = |measure: Measure| !matches!(measure.of(), Of::Run | Of::Pods);
    for assertion in assertions.iter().filter(|assertion| of_probes(assertion.measure)) {
        let measure = assertion.measure.name();
        if probes.is_empty() {
            problems
                .add(assertion.span, format!("`{measure}` is measured by a probe"))
                .expected("this experiment has no probes")
                .help("add one to `spec.probes`");
            continue;
        }
        let meant =
            |probe: &&Probe| assertion.probe.as_ref().is_none_or(|name| name.value == probe.name);
        let mut meant = probes.iter().filter(meant).peekable();
        if let (Some(name), None) = (&assertion.probe, meant.peek()) {
            let text = format!("unknown probe {}", quote(&name.value));
            let problem = problems.add(name.span, text);
            problem.expected(format!("expected one of: {}", names.join(", ")));
            problem.suggest(&name.value, names.iter().copied());
        } else if assertion.measure.needs_recovery() && meant.all(|probe| probe.recovery.is_none())
        {
            problems
                .add(assertion.span, format!("`{measure}` of a probe that does not wait for it"))
                .help("add `recovery: { within: 30s }` to the probe");
        }
    }
}
