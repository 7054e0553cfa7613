//! The verdict: from what was observed to one word and its reasons. What could not be observed does
//! not count as held.

use std::time::Duration;

use faultline_proto::units;

use super::{Ended, Run};
use crate::{
    experiment::{Comparison, Probe, Recovery, Tolerance},
    probe::{self, Downtime, Fold, Times, Window},
    report::{
        DowntimeReport, LatencyReport, OutageReport, ProbeReport, Verdict, WindowReport, millis,
        time,
    },
};

/// What a run came to.
pub(super) struct Judged {
    pub(super) verdict: Verdict,
    /// The first is the one that decided.
    pub(super) reasons: Vec<String>,
    pub(super) probes: Vec<ProbeReport>,
    /// Over all probes.
    pub(super) downtime: Option<DowntimeReport>,
}

impl Run<'_> {
    /// Judges the run. `ended`: why it ended before its method did, if so.
    pub(super) fn judge(&self, ended: Option<Ended>) -> Judged {
        let mut reasons = self.deviations.clone();
        let times = Times { ended: self.times.ended.or(Some(self.now())), ..self.times };
        let measured: Vec<(&Probe, Fold)> = self
            .probes
            .iter()
            .map(|running| (&running.probe, running.samples.measured(&times)))
            .collect();
        if ended.is_none() {
            for (probe, fold) in &measured {
                reasons.extend(deviations(probe, fold, &times));
            }
        }
        let verdict = match &ended {
            _ if !self.residue.is_empty() => Verdict::Residue,
            Some(ended) => Verdict::from(ended),
            None if reasons.is_empty() => Verdict::Held,
            None => Verdict::Deviated,
        };
        match ended {
            Some(Ended::Refused(why) | Ended::Halted(why) | Ended::Stopped(why)) => {
                drop(reasons.splice(0..0, why));
            }
            Some(Ended::Interrupted) | None => {}
        }
        let probes = measured.iter().map(|(probe, fold)| report(probe, fold, &times)).collect();
        let until = times.ended.unwrap_or_default();
        let downtime = (!measured.is_empty()).then(|| over_all(&measured, until).into());
        Judged { verdict, reasons, probes, downtime }
    }
}

/// What is not as was asked of a probe.
fn deviations(probe: &Probe, fold: &Fold, times: &Times) -> Vec<String> {
    let during = probe.during.and_then(|tolerance| deviation(&probe.name, fold, tolerance));
    let recovered = recovered(fold, times);
    let recovery = probe.recovery.and_then(|r| late(&probe.name, recovered, r, fold));
    during.into_iter().chain(recovery).collect()
}

/// How long after the end of the fault it was well again.
fn recovered(fold: &Fold, times: &Times) -> Option<Duration> {
    Some(fold.recovered()?.saturating_sub(times.recover_from?))
}

/// What is reported of a probe.
pub fn report(probe: &Probe, fold: &Fold, times: &Times) -> ProbeReport {
    let until = times.ended.unwrap_or_default();
    let [before, during, after] = Window::ALL.map(|window| fold.window(window));
    let within = |tolerance: Option<Tolerance>, share: probe::Share| {
        tolerance.and_then(|tolerance| share.meets(tolerance))
    };
    let injected = times.injected.unwrap_or_default();
    let detected = fold.detected().map(|detected| detected.saturating_sub(injected));
    // What never failed had nothing to recover from.
    let recovered = recovered(fold, times).filter(|_| detected.is_some());
    let stable_for = probe.recovery.map_or(Duration::ZERO, |r| r.stable_for);
    ProbeReport {
        name: probe.name.clone(),
        every_ms: millis(probe.every),
        steady: WindowReport::new(before, within(probe.steady, before.share)),
        during: WindowReport::new(during, within(probe.during, during.share)),
        after: WindowReport::new(after, None),
        downtime: fold.downtime(until).into(),
        outages: fold.outages(until).iter().map(OutageReport::from).collect(),
        failing_latency: LatencyReport::new(fold.failing()),
        time_to_detect_ms: detected.map(millis),
        time_to_recover_ms: recovered.map(millis),
        time_to_stable_ms: recovered.map(|r| millis(r + stable_for)),
        commonest_failure: fold.commonest_failure().map(str::to_owned),
        series: fold.series().into(),
    }
}

/// For how long any of several probes failed.
pub fn over_all(measured: &[(&Probe, Fold)], until: Duration) -> Downtime {
    let all = measured.iter().flat_map(|(_, fold)| fold.outages(until)).collect();
    let mut downtime = Downtime::of(&probe::union(all));
    for (_, fold) in measured {
        // Where those are is not known any more: they may lie within the others, or beside them.
        let unlisted = fold.unlisted();
        downtime.total += unlisted.total;
        downtime.uncertainty += unlisted.total + unlisted.uncertainty;
        downtime.outages += unlisted.outages;
        downtime.longest = downtime.longest.max(unlisted.longest);
        // What one probe did not look at, another one may have.
        downtime.unobserved = downtime.unobserved.max(fold.downtime(until).unobserved);
    }
    downtime.uncertainty += downtime.unobserved;
    downtime
}

fn deviation(name: &str, fold: &Fold, tolerance: Tolerance) -> Option<String> {
    let share = fold.window(Window::During).share;
    let asked = bound(tolerance);
    match share.meets(tolerance) {
        Some(true) => None,
        Some(false) => {
            let failure = fold.commonest_failure().map(|f| format!(" ({f})")).unwrap_or_default();
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
    fold: &Fold,
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
            let failure = fold.last_failure();
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
