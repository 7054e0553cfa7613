//! What runs came to, as metrics: counted from reports, so that nothing is told here that a report does
//! not say. What is not known has no series, rather than a value.
//!
//! [`Metrics`] takes in one report after the other. `faultline run` writes them to a file
//! (`file`) or to a gateway (`push`). It is not the agents' metrics, which agents serve themselves.

mod chaos;
pub mod exposition;
pub mod file;
mod names;
mod ours;
pub mod push;

use std::{collections::BTreeMap, sync::atomic::AtomicU64};

use prometheus_client::{
    encoding::text,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

use crate::report::Report;

/// Labels and their values.
type Labels = Vec<(&'static str, String)>;
/// Values that go up and down, by their labels.
type Gauges = Family<Labels, Gauge<f64, AtomicU64>>;
/// Values that only go up, by their labels.
type Counters = Family<Labels, Counter>;

/// What the runs that were taken in came to.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    gauges: BTreeMap<&'static str, Gauges>,
    counters: BTreeMap<&'static str, Counters>,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::default();
        let mut gauges = BTreeMap::new();
        for (name, help) in names::GAUGES {
            let family = Gauges::default();
            registry.register(*name, *help, family.clone());
            gauges.insert(*name, family);
        }
        let mut counters = BTreeMap::new();
        for (name, help) in names::COUNTERS {
            let family = Counters::default();
            registry.register(*name, *help, family.clone());
            counters.insert(*name, family);
        }
        Self { registry, gauges, counters }
    }
}

impl Metrics {
    /// Those of one run.
    pub fn of(report: &Report) -> Self {
        let metrics = Self::default();
        metrics.take_in(report);
        metrics
    }

    /// Takes in what a run came to. What it says of the experiment takes the place of what an earlier
    /// run said; what is counted is added.
    pub fn take_in(&self, report: &Report) {
        self.take_in_ours(report);
        self.take_in_chaos(report);
    }

    /// All of it, as OpenMetrics text.
    ///
    /// # Errors
    /// None that a text in memory can give.
    pub fn openmetrics(&self) -> Result<String, std::fmt::Error> {
        let mut out = String::new();
        text::encode(&mut out, &self.registry)?;
        Ok(out)
    }

    #[allow(clippy::needless_pass_by_value, reason = "labels are made for the one call")]
    fn set(&self, name: &'static str, labels: Labels, value: f64) {
        debug_assert!(self.gauges.contains_key(name), "{name} is in the list of names");
        if let Some(family) = self.gauges.get(name) {
            family.get_or_create(&labels).set(value);
        }
    }

    /// Sets what may not be known.
    fn set_known(&self, name: &'static str, labels: Labels, value: Option<f64>) {
        if let Some(value) = value {
            self.set(name, labels, value);
        }
    }

    #[allow(clippy::needless_pass_by_value, reason = "labels are made for the one call")]
    fn count(&self, name: &'static str, labels: Labels) {
        debug_assert!(self.counters.contains_key(name), "{name} is in the list of names");
        if let Some(family) = self.counters.get(name) {
            family.get_or_create(&labels).inc();
        }
    }
}

/// The name of every family of metrics of runs, as it is read.
pub fn all_names() -> impl Iterator<Item = String> {
    let gauges = names::GAUGES.iter().map(|(name, _)| (*name).to_owned());
    gauges.chain(names::COUNTERS.iter().map(|(name, _)| format!("{name}_total")))
}

/// 1 or 0, as metrics say yes and no.
fn yes(is_so: bool) -> f64 {
    f64::from(u8::from(is_so))
}

/// Seconds, of milliseconds that a report tells.
fn seconds(milliseconds: f64) -> f64 {
    milliseconds / 1e3
}
