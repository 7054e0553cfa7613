//! The verdict: from what was observed to one word and its reasons. What could not be observed does
//! not count as held.

use std::time::Duration;

use faultline_proto::units;

use super::{
    Ended, Run,
    asserted::{self, Facts},
    bounds::bounds,
};
use crate::{
    experiment::{Assertion, Probe, Recovery, Tolerance, tolerance},
    probe::{self, Downtime, Fold, Times, Window},
    report::{
        AssertionReport, DowntimeReport, LatencyReport, OutageReport, Outcome, ProbeReport,
        ValueReport, Verdict, WindowReport, millis, time,
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
    pub(super) assertions: Vec<AssertionReport>,
}

impl Run<'_> {
    /// Judges the run. `ended`: why it ended before its method did, if so.
    pub(super) fn judge(&self, ended: Option<Ended>) -> Judged {
        let mut reasons = self.deviations.clone();
        let is_complete = ended.is_none();
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
        let assertions = self.judge_assertions(&measured, &times, ended.is_none());
        let broken = |assertion: &&AssertionReport| {
            matches!(assertion.outcome, Outcome::Deviated | Outcome::Inconclusive)
        };
        reasons.extend(assertions.iter().filter(broken).map(AssertionReport::sentence));
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
        let report = |(probe, fold): &(&Probe, Fold)| ProbeReport {
            moves: self.from_pods.moves_of(&probe.name),
            ..report(probe, fold, &times, is_complete)
        };
        let probes = measured.iter().map(report).collect();
        let until = times.ended.unwrap_or_default();
        let downtime = (!measured.is_empty()).then(|| over_all(&measured, until).into());
        Judged { verdict, reasons, probes, downtime, assertions }
    }

    fn judge_assertions(
        &self,
        probes: &[(&Probe, Fold)],
        times: &Times,
        complete: bool,
    ) -> Vec<AssertionReport> {
        let (injections, commit_skew) = (self.injections.as_slice(), self.commit_skew);
        let losses = self.pods.losses();
        let facts = Facts { probes, times, injections, commit_skew, losses };
        let judge = |assertion: &Assertion| {
            let place = self.experiment.place_of(assertion.span);
            if complete {
                asserted::judge(assertion, place, &facts)
            } else {
                AssertionReport::not_judged(assertion, place)
            }
        };
        self.experiment.assertions.iter().map(judge).collect()
    }
}

/// What is not as was asked of a probe.
fn deviations(probe: &Probe, fold: &Fold, times: &Times) -> Vec<String> {
    let during = probe.during.iter().flat_map(|asked| {
        let wrong = beyond(fold, Window::During, asked);
        wrong.into_iter().map(|why| format!("during the fault, probe `{}` {why}", probe.name))
    });
    let recovered = recovered(fold, times);
    let recovery = probe.recovery.as_ref();
    let recovery = recovery.and_then(|asked| late(&probe.name, recovered, asked, fold));
    during.chain(recovery).collect()
}

/// What is not within a tolerance in a window: `succeeded 3 of 9 times (33%), and >= 99% is asked`.
pub(super) fn beyond(fold: &Fold, window: Window, asked: &Tolerance) -> Vec<String> {
    let seen = fold.window(window);
    let unknown = seen.share.inconclusive().map(|why| match fold.unseen() {
        Some(unseen) => format!("{why} ({unseen})"),
        None => why,
    });
    let inconclusive = |asked: &str| {
        let why = unknown.as_ref()?;
        Some(format!("inconclusive: {why}, and {asked} is asked"))
    };
    let mut wrong = Vec::new();
    if let Some(bound) = asked.success {
        let asked = tolerance::share(bound);
        let failure = fold.commonest_failure().map(|f| format!(" ({f})")).unwrap_or_default();
        let share = seen.share;
        match inconclusive(&asked) {
            Some(why) => wrong.push(why),
            None if share.meets(bound) == Some(true) => {}
            None => wrong.push(format!(
                "succeeded {} of {} times ({}), and {asked} is asked{failure}",
                share.successes,
                share.attempts,
                units::percent(share.basis_points().unwrap_or(0))
            )),
        }
    }
    for (quantile, bound) in &asked.latency {
        let name = quantile.name;
        if let Some(why) = inconclusive(&format!("a {name} of {bound}")) {
            wrong.push(why);
            continue;
        }
        match seen.latency.at(*quantile) {
            Some(was) if bound.comparison.holds(&was, &bound.value) => {}
            Some(was) => {
                wrong.push(format!("had a {name} of {}, and {bound} is asked", time(was)));
            }
            None => {
                wrong
                    .push(format!("inconclusive: had no answer, and a {name} of {bound} is asked"));
            }
        }
    }
    if let (Some(rule), Window::During) = (&asked.value, window) {
        let values = fold.values();
        let nothing = || probe::check(rule, None, None).err().filter(|_| values.during.is_none());
        let why = values.wrong_during.clone().or_else(nothing);
        let why = why.or_else(|| inconclusive(&rule.to_string()));
        wrong.extend(why);
    }
    wrong
}

/// How long after the end of the fault it was well again.
pub(super) fn recovered(fold: &Fold, times: &Times) -> Option<Duration> {
    Some(fold.recovered()?.saturating_sub(times.recover_from?))
}

/// What is reported of a probe in a run that is `complete`, or was ended before its method was.
pub fn report(probe: &Probe, fold: &Fold, times: &Times, complete: bool) -> ProbeReport {
    let until = times.ended.unwrap_or_default();
    let [before, during, after] = Window::ALL.map(|window| fold.window(window));
    let within = |window, asked: Option<&Tolerance>| {
        let share = fold.window(window).share;
        let asked = asked.filter(|_| share.attempts > 0 || share.unobserved > 0)?;
        Some(beyond(fold, window, asked).is_empty())
    };
    let injected = times.injected.unwrap_or_default();
    let detected = fold.detected().map(|detected| detected.saturating_sub(injected));
    // What never failed had nothing to recover from.
    let recovered = recovered(fold, times).filter(|_| fold.was_unwell());
    let stable_for = probe.recovery.as_ref().map_or(Duration::ZERO, |r| r.stable_for);
    ProbeReport {
        name: probe.name.clone(),
        every_ms: millis(probe.every),
        is_load: probe.is_load,
        steady: WindowReport::new(before, within(Window::Before, probe.steady.as_ref())),
        during: WindowReport::new(during, within(Window::During, probe.during.as_ref())),
        after: WindowReport::new(after, None),
        downtime: fold.downtime(until).into(),
        outages: fold.outages(until).iter().map(OutageReport::from).collect(),
        failing_latency: LatencyReport::new(fold.failing()),
        time_to_detect_ms: detected.map(millis),
        time_to_recover_ms: recovered.map(millis),
        time_to_stable_ms: recovered.map(|r| millis(r + stable_for)),
        value: ValueReport::new(fold.values()),
        held: (probe.during.is_some() || probe.recovery.is_some())
            .then(|| deviations(probe, fold, times).is_empty()),
        verifies: probe.verifies.clone(),
        commonest_failure: fold.commonest_failure().map(str::to_owned),
        // Who observes knows nothing of where from.
        moves: Vec::new(),
        bounds: bounds(probe, fold, times, complete),
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

/// What is to be said of a recovery that took too long, or did not come.
pub(super) fn late(
    name: &str,
    recovered: Option<Duration>,
    recovery: &Recovery,
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
            if let Some(why) = fold.wrong_value() {
                return Some(format!("probe `{name}`: {why}, within {limit} after the fault"));
            }
            let stable_for = units::duration(recovery.stable_for);
            let failure = fold.last_failure();
            let failure = failure.map(|f| format!(" (its last failure: {f})")).unwrap_or_default();
            Some(format!(
                "probe `{name}` did not recover within {limit} after the fault, and stay well for {stable_for}{failure}"
            ))
        }
    }
}
