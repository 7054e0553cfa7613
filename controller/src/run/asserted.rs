//! Assertions: what each measure was, with what it may be off by, and whether that is as was asked. A
//! measure that is closer to its bound than it is known is inconclusive. Pure.

use std::time::Duration;

use faultline_proto::units;

use crate::{
    comeback::Comeback,
    experiment::{Assertion, Comparison, Limit, Measure, Probe},
    probe::{Fold, Outage, Share, Times, Window},
    report::{AssertionReport, InjectionReport, Outcome, time},
};

/// What assertions are about.
pub(super) struct Facts<'a> {
    pub(super) probes: &'a [(&'a Probe, Fold)],
    pub(super) times: &'a Times,
    pub(super) injections: &'a [InjectionReport],
    pub(super) commit_skew: Option<Duration>,
    /// Every loss of a pod, and how many more there were; `None` where the place does not tell.
    pub(super) losses: Option<(Vec<Comeback>, u64)>,
}

/// What a measure was.
enum Found {
    /// A time, and what the truth is within of it.
    Time(Duration, Duration),
    Count(u64),
    Share(Share),
    /// A time that was not over yet when the run ended: at least so long. What was waited for.
    NotOver(Duration, &'static str),
    /// It was not observed: why.
    Nothing(String),
}

/// What one probe, or the run, makes of an assertion.
struct Answer {
    outcome: Outcome,
    /// The larger, the further from what is asked.
    badness: f64,
    was: String,
    probe: Option<String>,
}

/// Judges one.
pub(super) fn judge(assertion: &Assertion, place: String, facts: &Facts<'_>) -> AssertionReport {
    let answers = match assertion.measure {
        Measure::TimeToEffect | Measure::TimeToRevert | Measure::CommitSkew => {
            vec![answer(assertion, of_run(assertion.measure, facts), None)]
        }
        measure if measure.of_pods() => vec![answer(assertion, of_pods(assertion, facts), None)],
        Measure::TimeToDetect if assertion.probe.is_none() => {
            vec![first_detected(assertion, facts)]
        }
        measure => {
            let meant = facts.probes.iter().filter(|(probe, _)| is_meant(assertion, probe));
            let found = meant.map(|(probe, fold)| {
                let found = of_probe(measure, assertion.when, probe, fold, facts.times);
                answer(assertion, found, Some(&probe.name))
            });
            found.collect()
        }
    };
    // The worst one speaks; of those that are alike, the first.
    let worst = answers.into_iter().reduce(|worst, other| {
        let key = |answer: &Answer| (rank(answer.outcome), answer.badness);
        if key(&other) > key(&worst) { other } else { worst }
    });
    match worst {
        Some(Answer { outcome, was, probe, .. }) => report(assertion, place, was, probe, outcome),
        None => {
            report(assertion, place, "no probe observed it".into(), None, Outcome::Inconclusive)
        }
    }
}

fn report(
    assertion: &Assertion,
    place: String,
    was: String,
    probe: Option<String>,
    outcome: Outcome,
) -> AssertionReport {
    let (asked, measure) = (assertion.to_string(), assertion.measure.name().to_owned());
    AssertionReport { asked, place, measure, probe, was, outcome }
}

fn rank(outcome: Outcome) -> u8 {
    match outcome {
        Outcome::Held | Outcome::NotJudged => 0,
        Outcome::Inconclusive => 1,
        Outcome::Deviated => 2,
    }
}

fn is_meant(assertion: &Assertion, probe: &Probe) -> bool {
    let named = assertion.probe.as_ref().is_none_or(|name| probe.is_called(&name.value));
    let recovers = matches!(assertion.measure, Measure::TimeToRecover | Measure::TimeToStable);
    // Nobody waited for the others.
    named && (!recovers || probe.recovery.is_some())
}

fn answer(assertion: &Assertion, found: Found, probe: Option<&str>) -> Answer {
    let badness = badness(assertion.bound, &found);
    let (was, outcome) = compare(assertion.bound, found);
    Answer { outcome, badness, was, probe: probe.map(str::to_owned) }
}

fn badness(limit: Limit, found: &Found) -> f64 {
    let comparison = match limit {
        Limit::Time(bound) => bound.comparison,
        Limit::Count(bound) => bound.comparison,
        Limit::Share(bound) => bound.comparison,
    };
    let was = match found {
        Found::Time(was, _) | Found::NotOver(was, _) => was.as_secs_f64(),
        Found::Count(was) => f64::from(u32::try_from(*was).unwrap_or(u32::MAX)),
        Found::Share(was) => was.basis_points().map_or(0.0, f64::from),
        Found::Nothing(_) => 0.0,
    };
    match comparison {
        Comparison::AtLeast | Comparison::MoreThan => -was,
        _ => was,
    }
}

/// What it was, for a person, and whether that is as was asked.
fn compare(limit: Limit, found: Found) -> (String, Outcome) {
    let outcome = |holds| if holds { Outcome::Held } else { Outcome::Deviated };
    match (limit, found) {
        (Limit::Time(bound), Found::Time(was, uncertainty)) => {
            let text = match uncertainty {
                Duration::ZERO => format!("was {}", time(was)),
                _ => format!("was {} ± {}", time(was), time(uncertainty)),
            };
            let (least, most) = (was.saturating_sub(uncertainty), was + uncertainty);
            let holds = |was: Duration| bound.comparison.holds(&was, &bound.value);
            match (holds(least), holds(most)) {
                (true, true) if bound.comparison != Comparison::Equal => (text, Outcome::Held),
                (true, true) => (text, outcome(least == most)),
                (false, false) if bound.comparison != Comparison::Equal => {
                    (text, Outcome::Deviated)
                }
                (false, false) if bound.value < least || bound.value > most => {
                    (text, Outcome::Deviated)
                }
                _ => (format!("{text}: too close to say"), Outcome::Inconclusive),
            }
        }
        (Limit::Count(bound), Found::Count(was)) => {
            (format!("was {was}"), outcome(bound.comparison.holds(&was, &bound.value)))
        }
        (Limit::Share(bound), Found::Share(was)) => match (was.meets(bound), was.basis_points()) {
            (Some(holds), Some(points)) => {
                let of = format!("{} of {}", was.successes, was.attempts);
                (format!("was {} ({of})", units::percent(points)), outcome(holds))
            }
            _ => ("no attempt was made then".into(), Outcome::Inconclusive),
        },
        (Limit::Time(bound), Found::NotOver(least, what)) => {
            let is_over = match bound.comparison {
                Comparison::AtMost | Comparison::LessThan => least > bound.value,
                _ => false,
            };
            let outcome = if is_over { Outcome::Deviated } else { Outcome::Inconclusive };
            (format!("{what} within {}, when the run ended", time(least)), outcome)
        }
        (_, Found::Nothing(why)) => (why, Outcome::Inconclusive),
        // A limit is read in the unit of its measure.
        _ => ("is of another unit".into(), Outcome::Inconclusive),
    }
}

fn of_probe(
    measure: Measure,
    when: Option<Window>,
    probe: &Probe,
    fold: &Fold,
    times: &Times,
) -> Found {
    let until = times.ended.unwrap_or_default();
    let share = when.map_or_else(|| fold.since_injection(), |when| fold.window(when).share);
    let needs_share = matches!(
        measure,
        Measure::Availability | Measure::Errors | Measure::Outages | Measure::Latency(_)
    );
    match measure {
        _ if share.attempts == 0 && share.unobserved == 0 => {
            Found::Nothing("no attempt was made then".into())
        }
        _ if share.attempts == 0 || needs_share && !share.is_conclusive() => {
            Found::Nothing(share.inconclusive().unwrap_or_default())
        }
        Measure::Downtime => {
            let downtime = fold.downtime(until);
            Found::Time(downtime.total, downtime.uncertainty)
        }
        Measure::LongestOutage => {
            let longest = fold.outages(until).into_iter().max_by_key(Outage::duration);
            let (longest, uncertainty) = longest
                .map_or_else(Default::default, |outage| (outage.duration(), outage.uncertainty()));
            Found::Time(longest, uncertainty.max(fold.downtime(until).unobserved))
        }
        Measure::Outages => Found::Count(fold.downtime(until).outages),
        Measure::Availability => Found::Share(share),
        Measure::Errors => Found::Count(share.attempts - share.successes),
        Measure::Latency(quantile) => {
            let window = fold.window(when.unwrap_or(Window::During));
            let was = window.latency.at(quantile).map(|was| Found::Time(was, Duration::ZERO));
            was.unwrap_or_else(|| Found::Nothing("no attempt succeeded then".into()))
        }
        Measure::TimeToDetect => match detected(fold, times) {
            Some(after) => Found::Time(after, fold.detection_uncertainty()),
            None if fold.has_failed() => {
                Found::Nothing("it failed already right before the injection".into())
            }
            None => Found::Nothing("nothing failed".into()),
        },
        Measure::TimeToRecover => recovered(fold, times, Duration::ZERO),
        Measure::TimeToStable => {
            let stable_for = probe.recovery.as_ref().map(|recovery| recovery.stable_for);
            recovered(fold, times, stable_for.unwrap_or_default())
        }
        Measure::TimeToEffect
        | Measure::TimeToRevert
        | Measure::CommitSkew
        | Measure::TimeToRecreated
        | Measure::TimeToScheduled
        | Measure::TimeToReady
        | Measure::Restarts => Found::Nothing("is no measure of a probe".into()),
    }
}

fn detected(fold: &Fold, times: &Times) -> Option<Duration> {
    Some(fold.detected()?.saturating_sub(times.injected?))
}

fn recovered(fold: &Fold, times: &Times, and: Duration) -> Found {
    let from = times.recover_from.unwrap_or_default();
    match fold.recovered() {
        // What never failed had nothing to recover from.
        Some(_) if !fold.was_unwell() => Found::Time(Duration::ZERO, Duration::ZERO),
        Some(at) => Found::Time(at.saturating_sub(from) + and, fold.recovery_uncertainty()),
        None => Found::Nothing("it did not recover while it was waited for".into()),
    }
}

/// The probe that saw it first detected it.
fn first_detected(assertion: &Assertion, facts: &Facts<'_>) -> Answer {
    let first = facts
        .probes
        .iter()
        .filter_map(|(probe, fold)| Some((detected(fold, facts.times)?, *probe, fold)));
    if let Some((after, probe, fold)) = first.min_by_key(|(after, ..)| *after) {
        let found = Found::Time(after, fold.detection_uncertainty());
        return answer(assertion, found, Some(&probe.name));
    }
    let has_failed = facts.probes.iter().any(|(_, fold)| fold.has_failed());
    let why = if has_failed {
        "what failed had failed already right before the injection"
    } else {
        "nothing failed"
    };
    answer(assertion, Found::Nothing(why.into()), None)
}

/// What pods that were lost make of it: the slowest, or the one with most restarts.
fn of_pods(assertion: &Assertion, facts: &Facts<'_>) -> Found {
    let nothing = |why: &str| Found::Nothing(why.to_owned());
    let Some((losses, unlisted)) = &facts.losses else {
        return nothing("this place does not tell how pods are");
    };
    if *unlisted > 0 {
        return Found::Nothing(format!(
            "{unlisted} losses of pods are not kept, there were too many"
        ));
    }
    let meant = losses.iter().filter(|loss| assertion.is_about(&loss.targets));
    if assertion.measure == Measure::Restarts {
        return Found::Count(meant.map(|loss| u64::from(loss.restarts)).max().unwrap_or(0));
    }
    let (pick, what): (fn(&Comeback) -> Option<crate::comeback::Moment>, _) =
        match assertion.measure {
            Measure::TimeToRecreated => (|loss| loss.recreated, "not every pod was recreated"),
            Measure::TimeToScheduled => (|loss| loss.scheduled, "not every pod had a node"),
            _ => (|loss| loss.ready, "not every pod was ready"),
        };
    let is_ready = assertion.measure == Measure::TimeToReady;
    let counts: Vec<&Comeback> = meant.filter(|loss| is_ready || loss.needs_another()).collect();
    let until = facts.times.ended.unwrap_or_default();
    let open = counts.iter().filter(|loss| pick(loss).is_none());
    if let Some(first) = open.map(|loss| loss.lost.at).min() {
        return Found::NotOver(until.saturating_sub(first), what);
    }
    let times = counts.iter().filter_map(|loss| loss.after(pick(loss)));
    match times.max() {
        Some((after, off)) => Found::Time(after, off),
        None if is_ready => nothing("no pod was lost"),
        None => nothing("no pod was lost that had to be recreated"),
    }
}

fn of_run(measure: Measure, facts: &Facts<'_>) -> Found {
    if facts.injections.is_empty() {
        return Found::Nothing("nothing was injected".into());
    }
    let off = clock_uncertainty(facts);
    let all = facts.injections.iter();
    match measure {
        Measure::TimeToEffect => longest(all.map(|i| i.time_to_effect_ms), off),
        Measure::TimeToRevert => {
            longest(all.filter(|i| has_to_be_reverted(i)).map(|i| i.time_to_revert_ms), off)
        }
        // One commit is not apart from any other.
        _ => match facts.commit_skew {
            Some(skew) => Found::Time(skew, off * 2),
            None => Found::Time(Duration::ZERO, Duration::ZERO),
        },
    }
}

/// The longest of all times. One that is not known may have been any.
fn longest(times: impl Iterator<Item = Option<f64>>, off: Duration) -> Found {
    let times: Vec<Option<f64>> = times.collect();
    let known = times.iter().flatten();
    match (known.clone().count(), times.len()) {
        (0, _) => Found::Nothing("of no injection it is known".into()),
        (known, all) if known < all => {
            Found::Nothing(format!("of {} of {all} injections it is not known", all - known))
        }
        _ => {
            let longest = known.copied().max_by(f64::total_cmp).unwrap_or_default();
            Found::Time(from_ms(longest), off)
        }
    }
}

/// What is over at once is not taken back, nor what was let go.
fn has_to_be_reverted(injection: &InjectionReport) -> bool {
    let is_over = injection.injected_at_ms.is_some() && injection.reverted_at_ms.is_some();
    let was_at_once = is_over && injection.lasted_ms.is_none();
    !was_at_once && injection.let_go.is_none()
}

/// How far times that agents told may be off, at most.
fn clock_uncertainty(facts: &Facts<'_>) -> Duration {
    let all = facts.injections.iter().filter_map(|i| i.time_to_effect_uncertainty_ms);
    from_ms(all.max_by(f64::total_cmp).unwrap_or(0.0))
}

fn from_ms(ms: f64) -> Duration {
    Duration::try_from_secs_f64(ms / 1e3).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::experiment::Bound;

    #[test]
    fn what_was_not_over_is_too_long_only_once_it_took_longer() {
        let limit = |comparison| Limit::Time(Bound { comparison, value: Duration::from_mins(1) });
        let outcome = |comparison, seconds| {
            let found = Found::NotOver(Duration::from_secs(seconds), "not every pod was ready");
            compare(limit(comparison), found)
        };
        let (text, deviated) = outcome(Comparison::LessThan, 100);
        assert_eq!(deviated, Outcome::Deviated);
        assert_eq!(text, "not every pod was ready within 100.00 s, when the run ended");
        assert_eq!(outcome(Comparison::LessThan, 59).1, Outcome::Inconclusive);
        assert_eq!(outcome(Comparison::AtLeast, 100).1, Outcome::Inconclusive);
    }
}
