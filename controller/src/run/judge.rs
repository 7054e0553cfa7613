//! The verdict: from what was observed to one word and its reasons. What could not be observed does
//! not count as held.

use std::{collections::BTreeMap, time::Duration};

use faultline_probe::Sample;
use faultline_proto::units;

use super::{Ended, Run};
use crate::{
    experiment::{Comparison, Recovery, Tolerance},
    probe::{self, Running, Share},
    report::{ProbeReport, ShareReport, Verdict, millis, time},
};

impl Run<'_> {
    /// Judges the run. `ended`: why it ended before its method did, if so.
    pub(super) fn judge(&self, ended: Option<Ended>) -> (Verdict, Vec<String>, Vec<ProbeReport>) {
        let mut reasons = self.deviations.clone();
        let complete = ended.is_none();
        let probes = self
            .probes
            .iter()
            .map(|running| self.judge_probe(running, complete, &mut reasons))
            .collect();
        let verdict = match &ended {
            _ if !self.residue.is_empty() => Verdict::Residue,
            Some(ended) => Verdict::from(ended),
            None if reasons.is_empty() => Verdict::Held,
            None => Verdict::Deviated,
        };
        match ended {
            Some(Ended::Refused(why) | Ended::Halted(why)) => drop(reasons.splice(0..0, why)),
            Some(Ended::Stopped(why)) => reasons.insert(0, why),
            Some(Ended::Interrupted) | None => {}
        }
        (verdict, reasons, probes)
    }

    fn judge_probe(
        &self,
        running: &Running,
        complete: bool,
        reasons: &mut Vec<String>,
    ) -> ProbeReport {
        let probe = &running.probe;
        let samples = running.samples.snapshot();
        let now = self.now();
        let times = &self.times;
        let window = |from: Option<Duration>, to: Option<Duration>| match (from, to) {
            (Some(from), to) => probe::share(&samples, from, to.unwrap_or(now)),
            (None, _) => Share::default(),
        };
        let steady = window(times.steady_from, times.steady_to);
        // What a fault that is over at once did is seen after it.
        let during_to = times.method_end.filter(|_| !times.ends_with_instant);
        let during = window(times.injected, during_to);
        if complete && let Some(tolerance) = probe.during {
            reasons.extend(deviation(&probe.name, during, tolerance, &samples));
        }
        let settled = running.samples.settled_until();
        let recovered = times.recover_from.and_then(|from| {
            let recovered = probe::recovered_at(&samples, from, settled, probe.recovery?)?;
            Some(recovered.saturating_sub(from))
        });
        if complete && let Some(recovery) = probe.recovery {
            reasons.extend(late(&probe.name, recovered, recovery, &samples));
        }
        let detected = times
            .injected
            .and_then(|at| Some(probe::first_failure_after(&samples, at)?.saturating_sub(at)));
        // What never failed had nothing to recover from.
        let recovered = recovered.filter(|_| detected.is_some());
        let stable_for = probe.recovery.map_or(Duration::ZERO, |r| r.stable_for);
        ProbeReport {
            name: probe.name.clone(),
            every_ms: millis(probe.every),
            steady: ShareReport::new(steady, probe.steady.and_then(|t| steady.meets(t))),
            during: ShareReport::new(during, probe.during.and_then(|t| during.meets(t))),
            downtime: probe::downtime(&samples, now).into(),
            time_to_detect_ms: detected.map(millis),
            time_to_recover_ms: recovered.map(millis),
            time_to_stable_ms: recovered.map(|r| millis(r + stable_for)),
            commonest_failure: commonest_failure(&samples),
        }
    }
}

fn deviation(name: &str, share: Share, tolerance: Tolerance, samples: &[Sample]) -> Option<String> {
    let asked = bound(tolerance);
    match share.meets(tolerance) {
        Some(true) => None,
        Some(false) => {
            let failure = commonest_failure(samples).map(|f| format!(" ({f})")).unwrap_or_default();
            let points = share.basis_points().unwrap_or(0);
            Some(format!(
                "during the fault, probe `{name}` succeeded {} of {} times ({}), and {asked} is asked{failure}",
                share.successes,
                share.attempts,
                units::percent(points)
            ))
        }
        None => Some(format!(
            "inconclusive: no attempt of probe `{name}` began during the fault, and {asked} is asked"
        )),
    }
}

/// What is to be said of a recovery that took too long, or did not come.
fn late(
    name: &str,
    recovered: Option<Duration>,
    recovery: Recovery,
    samples: &[Sample],
) -> Option<String> {
    let limit = units::duration(recovery.within);
    match recovered {
        Some(after) if after <= recovery.within => None,
        Some(after) => Some(format!(
            "probe `{name}` recovered {} after the fault, and {limit} is asked",
            time(after)
        )),
        None => {
            let stable_for = units::duration(recovery.stable_for);
            let failure = samples.iter().rev().find_map(|sample| sample.failure.as_ref());
            let failure = failure.map(|f| format!(" (its last failure: {f})")).unwrap_or_default();
            Some(format!(
                "probe `{name}` did not recover within {limit} after the fault, and stay well for {stable_for}{failure}"
            ))
        }
    }
}

/// A tolerance as it is written: `>= 99%`.
pub(super) fn bound(tolerance: Tolerance) -> String {
    let sign = match tolerance.comparison {
        Comparison::AtLeast => ">=",
        Comparison::MoreThan => ">",
        Comparison::AtMost => "<=",
        Comparison::LessThan => "<",
        Comparison::Equal => "==",
    };
    format!("{sign} {}", units::percent(tolerance.success_basis_points))
}

fn commonest_failure(samples: &[Sample]) -> Option<String> {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for failure in samples.iter().filter_map(|sample| sample.failure.as_ref()) {
        *counts.entry(&failure.text).or_default() += 1;
    }
    let (failure, _) = counts.into_iter().max_by_key(|(_, count)| *count)?;
    Some(failure.to_owned())
}
