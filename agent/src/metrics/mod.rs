//! What this agent counts, for whoever scrapes it.
//!
//! The supervisor writes and a thread of its own reads, and neither waits for the other: all of it is
//! atomics. Every series is there from the start, and no label comes from outside, so that nobody can
//! make more of them. It is no record: counts begin at zero with the process. What happened to an
//! injection is told by its status.

mod histogram;
mod serve;
mod text;

use std::{
    sync::atomic::{
        AtomicU64,
        Ordering::{Acquire, Relaxed, Release},
    },
    time::Duration,
};

use faultline_proto::{boottime::BootTime, fault::KINDS, status::RevertReason};

use histogram::Histogram;
pub use serve::{ServeError, serve};

/// Every reason for which an injection is taken back, and the label it has.
const REASONS: [(RevertReason, &str); 9] = [
    (RevertReason::Asked, "asked"),
    (RevertReason::Deadline, "deadline"),
    (RevertReason::LeaseLost, "lease_lost"),
    (RevertReason::InjectFailed, "inject_failed"),
    (RevertReason::Shutdown, "shutdown"),
    (RevertReason::Restarted, "restarted"),
    (RevertReason::Halted, "halted"),
    (RevertReason::TargetGone, "target_gone"),
    (RevertReason::NeverCommitted, "never_committed"),
];
/// How an injection came out.
const RESULTS: [(Injected, &str); 3] =
    [(Injected::Proven, "proven"), (Injected::Unproven, "unproven"), (Injected::Failed, "failed")];
/// The words for why a Prepare was refused; the last stands for any that is not named.
const REFUSALS: [&str; 15] = [
    "halted",
    "stuck",
    "shutting_down",
    "too_many",
    "deadline_past",
    "id_used",
    "journal",
    "target_gone",
    "unsupported",
    "not_possible",
    "conflict",
    "foreign",
    "protected",
    "kernel",
    "other",
];
/// In the place of a time that there is none of.
const NONE: u64 = u64::MAX;

/// How an injection came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Injected {
    /// Its effect was seen.
    Proven,
    /// It was in the kernel, and its effect was not seen.
    Unproven,
    /// The kernel did not take it.
    Failed,
}

/// What is counted of one kind of fault.
#[derive(Debug, Default)]
struct OfKind {
    active: AtomicU64,
    reverting: AtomicU64,
    injected: [AtomicU64; RESULTS.len()],
    reverted: [AtomicU64; REASONS.len()],
    revert_failures: AtomicU64,
    revert_duration: Histogram,
    time_to_effect: Histogram,
}

/// How a node stands; what [`Metrics::stand`] is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// When this was so.
    pub now: BootTime,
    /// The end of the lease that ends first, of what is in effect.
    pub lease_end: Option<BootTime>,
    /// What keeps the node from taking new faults, since it could not be reverted or is not understood.
    pub stuck: usize,
    /// The same, but somebody has looked at it.
    pub acknowledged: usize,
    /// Somebody halted the node.
    pub halted: bool,
    /// Undo records of injections that this process knows.
    pub records: usize,
}

/// Everything that is counted on one node.
#[derive(Debug)]
pub struct Metrics {
    /// As [`KINDS`].
    kinds: Vec<OfKind>,
    refused: [AtomicU64; REFUSALS.len()],
    journal_errors: AtomicU64,
    swept: AtomicU64,
    lease_end_ns: AtomicU64,
    stuck: AtomicU64,
    acknowledged: AtomicU64,
    halted: AtomicU64,
    records: AtomicU64,
    /// When the supervisor last came round; written last.
    turned_ns: AtomicU64,
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            kinds: KINDS.iter().map(|_| OfKind::default()).collect(),
            refused: Default::default(),
            journal_errors: AtomicU64::default(),
            swept: AtomicU64::default(),
            lease_end_ns: AtomicU64::new(NONE),
            stuck: AtomicU64::default(),
            acknowledged: AtomicU64::default(),
            halted: AtomicU64::default(),
            records: AtomicU64::default(),
            turned_ns: AtomicU64::new(NONE),
        }
    }
}

impl Metrics {
    fn of(&self, kind: &str) -> Option<&OfKind> {
        let index = KINDS.iter().position(|info| info.name == kind)?;
        self.kinds.get(index)
    }

    /// An injection was begun, and this is known of it now.
    pub fn injected(&self, kind: &str, how: Injected) {
        if let Some(of_kind) = self.of(kind) {
            add(&RESULTS, &of_kind.injected, how);
        }
    }

    /// An effect was seen, so long after the kernel was changed.
    pub fn took_effect(&self, kind: &str, after: Duration) {
        if let Some(of_kind) = self.of(kind) {
            of_kind.time_to_effect.observe(after);
        }
    }

    /// Nothing is left of an injection. `took`: since its revert began; `None` if the kernel was never
    /// changed for it.
    pub fn reverted(&self, kind: &str, reason: RevertReason, took: Option<Duration>) {
        if let Some(of_kind) = self.of(kind) {
            add(&REASONS, &of_kind.reverted, reason);
            if let Some(took) = took {
                of_kind.revert_duration.observe(took);
            }
        }
    }

    /// An attempt to revert failed, or left something.
    pub fn revert_failed(&self, kind: &str) {
        if let Some(of_kind) = self.of(kind) {
            of_kind.revert_failures.fetch_add(1, Relaxed);
        }
    }

    /// A Prepare was refused, for what this word stands for.
    pub fn refused(&self, word: &str) {
        let index = REFUSALS.iter().position(|known| *known == word);
        self.refused[index.unwrap_or(REFUSALS.len() - 1)].fetch_add(1, Relaxed);
    }

    /// The journal could not be written, or a record not be removed.
    pub fn journal_failed(&self) {
        self.journal_errors.fetch_add(1, Relaxed);
    }

    /// So many things that carried our name had no record, and were taken away.
    pub fn swept(&self, count: usize) {
        self.swept.fetch_add(number(count), Relaxed);
    }

    /// How the node stands now. `held`: the kinds of what is in effect, and of what is being taken back.
    pub fn stand<'a>(
        &self,
        standing: &Standing,
        active: impl Iterator<Item = &'a str>,
        reverting: impl Iterator<Item = &'a str>,
    ) {
        let index = |kind: &str| KINDS.iter().position(|info| info.name == kind);
        let count = |kinds: &mut dyn Iterator<Item = &'a str>| {
            let mut counts = vec![0_u64; KINDS.len()];
            kinds.filter_map(index).for_each(|i| counts[i] += 1);
            counts
        };
        let (mut active, mut reverting) = (active, reverting);
        let counts = count(&mut active).into_iter().zip(count(&mut reverting));
        for (of_kind, (active, reverting)) in self.kinds.iter().zip(counts) {
            of_kind.active.store(active, Relaxed);
            of_kind.reverting.store(reverting, Relaxed);
        }
        self.lease_end_ns.store(standing.lease_end.map_or(NONE, BootTime::as_nanos), Relaxed);
        self.stuck.store(number(standing.stuck), Relaxed);
        self.acknowledged.store(number(standing.acknowledged), Relaxed);
        self.halted.store(u64::from(standing.halted), Relaxed);
        self.records.store(number(standing.records), Relaxed);
        self.turned_ns.store(standing.now.as_nanos(), Release);
    }

    /// How long ago the supervisor last came round: once a second at least, unless a call into the
    /// kernel or to the disk hangs. `None` if it has not yet.
    pub fn since_turn(&self, now: BootTime) -> Option<Duration> {
        let turned = self.turned_ns.load(Acquire);
        (turned != NONE).then(|| now.since(BootTime::from_nanos(turned)))
    }

    /// How many seconds are left until the first lease ends; less than 0 if it has. `None` where nothing
    /// is in effect.
    fn lease_seconds_left(&self, now: BootTime) -> Option<f64> {
        let end = self.lease_end_ns.load(Relaxed);
        (end != NONE).then(|| {
            let end = BootTime::from_nanos(end);
            if end >= now { end.since(now).as_secs_f64() } else { -now.since(end).as_secs_f64() }
        })
    }
}

fn add<T: PartialEq + Copy, const N: usize>(
    names: &[(T, &str); N],
    counts: &[AtomicU64; N],
    what: T,
) {
    if let Some(index) = names.iter().position(|(known, _)| *known == what) {
        counts[index].fetch_add(1, Relaxed);
    }
}

fn number(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}
