//! What probes observed, as it is written into reports. Times are milliseconds; points in time are
//! counted from the beginning of the run.

use std::{collections::BTreeMap, time::Duration};

use faultline_probe::FailureKind;
use serde::{Deserialize, Serialize};

use super::{BoundReport, FigureReport, millis};
use crate::experiment::verifies::Verifies;
use crate::{
    experiment::Quantile,
    probe::{Bucket, Downtime, InWindow, Latency, Move, Outage, Series, Values},
};

/// What a probe observed.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ProbeReport {
    /// Its name.
    pub name: String,
    /// From attempt to attempt.
    pub every_ms: f64,
    /// Whether it was there to be a load.
    #[serde(default)]
    pub is_load: bool,
    /// Before anything was injected: in the look at the steady state.
    pub steady: WindowReport,
    /// From the first injection to the end of the method; where the last step is over at once, to a
    /// second after it at least, and to the end of an outage that goes on then.
    pub during: WindowReport,
    /// From then on.
    pub after: WindowReport,
    /// Over the whole run.
    pub downtime: DowntimeReport,
    /// Its outages, in order. If there were very many, the first ones.
    pub outages: Vec<OutageReport>,
    /// How long attempts took that failed.
    pub failing_latency: Option<LatencyReport>,
    /// From the first injection to the first failing attempt.
    pub time_to_detect_ms: Option<f64>,
    /// From the proof of the revert (of a fault that is over at once: from the injection) to the first
    /// attempt that succeeded for good. `null` where nothing failed, or nothing was asked.
    pub time_to_recover_ms: Option<f64>,
    /// The same, and the time it had to stay well.
    pub time_to_stable_ms: Option<f64>,
    /// The values that it observed, where its kind observes any.
    pub value: Option<ValueReport>,
    /// Whether all that `during` and `recovery` ask for was so; `null` where they ask for nothing.
    pub held: Option<bool>,
    /// What that proves, where the experiment says so.
    pub verifies: Option<Verifies>,
    /// The commonest failure, where there was one.
    pub commonest_failure: Option<String>,
    /// From which other pods it went on, of a probe that is made from a pod: whenever that had gone.
    #[serde(default)]
    pub moves: Vec<MoveReport>,
    /// What was asked of it, and what became of that.
    #[serde(default)]
    pub bounds: Vec<BoundReport>,
    /// All of it over time.
    pub series: SeriesReport,
}

/// A probe went on from another pod.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MoveReport {
    /// That pod, as `namespace/name`.
    pub pod: String,
    /// The one that it was made from before.
    pub instead_of: String,
    /// From when on. Between them it was made from nowhere, which is among what was not observed.
    pub since_ms: f64,
}

/// What was observed in a window of the run.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WindowReport {
    /// Attempts that began in it, and say something of the system.
    pub attempts: u64,
    /// Those that succeeded.
    pub successes: u64,
    /// Those that failed, by kind.
    pub failures: BTreeMap<FailureKind, u64>,
    /// Attempts beside those that say nothing of the system, by why: they neither succeeded nor failed.
    #[serde(default)]
    pub unobserved: BTreeMap<FailureKind, u64>,
    /// How long those took that succeeded; `null` without any.
    pub latency: Option<LatencyReport>,
    /// Whether all that is within what was asked; `null` where nothing was.
    pub within: Option<bool>,
}

/// How long attempts took. Quantiles are right to a thousandth.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LatencyReport {
    /// The shortest.
    pub min_ms: f64,
    /// Half of them took no longer.
    pub p50_ms: f64,
    /// 90 % of them.
    pub p90_ms: f64,
    /// 95 % of them.
    pub p95_ms: f64,
    /// 99 % of them.
    pub p99_ms: f64,
    /// 99.9 % of them.
    pub p999_ms: f64,
    /// The longest.
    pub max_ms: f64,
}

/// The last values that a probe observed in each window; `null` where it did not.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ValueReport {
    /// Before anything was injected: what others are compared with.
    pub before: Option<String>,
    /// While faults were in effect.
    pub during: Option<String>,
    /// Since the system has to recover.
    pub after: Option<String>,
}

/// For how long a probe failed, or any of several.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DowntimeReport {
    /// The sum.
    pub total_ms: f64,
    /// The truth is within this of the sum.
    pub uncertainty_ms: f64,
    /// In how many pieces.
    pub outages: u64,
    /// The longest of them.
    pub longest_ms: f64,
    /// The last one had not ended when the run did.
    pub ongoing: bool,
    /// Time in which nothing was observed that should have been: part of the uncertainty.
    pub unobserved_ms: f64,
}

/// One outage.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OutageReport {
    /// When its first failing attempt began.
    pub began_ms: f64,
    /// When it ended, as far as can be said.
    pub ended_ms: f64,
    /// The truth is within this of the time between them.
    pub uncertainty_ms: f64,
    /// It had not ended when the run did.
    pub ongoing: bool,
}

/// What a probe observed over time, in buckets of one width from the beginning of the run. Every list
/// has one item for each bucket.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SeriesReport {
    /// How wide a bucket is.
    pub width_ms: f64,
    /// Attempts that began in it.
    pub attempts: Vec<u32>,
    /// Those that failed.
    pub failures: Vec<u32>,
    /// The shortest time that one took which succeeded; `null` without any.
    pub latency_min_ms: Vec<Option<f64>>,
    /// About what half of them did not exceed: to a quarter of it.
    pub latency_middle_ms: Vec<Option<f64>>,
    /// The longest.
    pub latency_max_ms: Vec<Option<f64>>,
}

impl WindowReport {
    /// What was observed in a window, and how it was judged.
    pub fn new(window: &InWindow, within: Option<bool>) -> Self {
        Self {
            attempts: window.share.attempts,
            successes: window.share.successes,
            failures: window.failures.clone(),
            unobserved: window.unobserved.clone(),
            latency: LatencyReport::new(&window.latency),
            within,
        }
    }
}

impl LatencyReport {
    /// Of some attempts; `None` without any.
    pub fn new(latency: &Latency) -> Option<Self> {
        let [p50, p90, p95, p99, p999, max] = Quantile::ALL.map(|q| latency.at(q).map(millis));
        Some(Self {
            min_ms: millis(latency.min()?),
            p50_ms: p50?,
            p90_ms: p90?,
            p95_ms: p95?,
            p99_ms: p99?,
            p999_ms: p999?,
            max_ms: max?,
        })
    }
}

impl ProbeReport {
    /// What was asked of a figure in a window of the run, and what became of it.
    pub fn figure(&self, window: &str, figure: &str) -> Option<&FigureReport> {
        let bound = self.bounds.iter().find(|bound| bound.window == window)?;
        bound.figures.iter().find(|found| found.figure == figure)
    }
}

impl ValueReport {
    /// `None` where nothing was observed.
    pub fn new(values: &Values) -> Option<Self> {
        let Values { before, during, after, .. } = values.clone();
        let any = before.is_some() || during.is_some() || after.is_some();
        any.then_some(Self { before, during, after })
    }
}

impl From<&Move> for MoveReport {
    fn from(of: &Move) -> Self {
        Self { pod: of.to.clone(), instead_of: of.from.clone(), since_ms: millis(of.at) }
    }
}

impl From<Downtime> for DowntimeReport {
    fn from(downtime: Downtime) -> Self {
        Self {
            total_ms: millis(downtime.total),
            uncertainty_ms: millis(downtime.uncertainty),
            outages: downtime.outages,
            longest_ms: millis(downtime.longest),
            ongoing: downtime.ongoing,
            unobserved_ms: millis(downtime.unobserved),
        }
    }
}

impl From<&Outage> for OutageReport {
    fn from(outage: &Outage) -> Self {
        Self {
            began_ms: millis(outage.began),
            ended_ms: millis(outage.began + outage.duration()),
            uncertainty_ms: millis(outage.uncertainty()),
            ongoing: outage.ongoing,
        }
    }
}

impl From<&Series> for SeriesReport {
    fn from(series: &Series) -> Self {
        let buckets = series.buckets();
        let latency = |pick: fn((Duration, Duration, Duration)) -> Duration| {
            buckets.iter().map(|b: &Bucket| b.latency().map(pick).map(millis)).collect()
        };
        Self {
            width_ms: millis(series.width()),
            attempts: buckets.iter().map(|bucket| bucket.attempts).collect(),
            failures: buckets.iter().map(|bucket| bucket.failures).collect(),
            latency_min_ms: latency(|(min, _, _)| min),
            latency_middle_ms: latency(|(_, middle, _)| middle),
            latency_max_ms: latency(|(_, _, max)| max),
        }
    }
}
