//! What attempts come to.

use faultline_proto::probe::{Address, Spec, Tcp};

use super::*;
use crate::experiment::{Bound, Comparison, ProbeKind, Tolerance};

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// A probe every 10 ms that has to stay well for so many milliseconds.
pub(in crate::probe) fn probe(stable_for: u64) -> Probe {
    Probe {
        is_load: false,
        name: "api".into(),
        kind: ProbeKind::Network(Spec::Tcp(Tcp {
            address: Address::parse("127.0.0.1:1", None).expect("an address"),
            send: None,
            expect: None,
        })),
        from: None,
        every: ms(10),
        timeout: ms(1000),
        steady: None,
        during: None,
        recovery: Some(Recovery { within: ms(1000), stable_for: ms(stable_for), value: None }),
        verifies: None,
    }
}

/// One attempt every 10 ms; a blank is none.
fn fold(outcomes: &str, stable_for: u64, times: &Times) -> Fold {
    let mut fold = Fold::new(&probe(stable_for));
    for (i, outcome) in (0_u64..).zip(outcomes.chars()).filter(|(_, c)| *c != ' ') {
        let failure = match outcome {
            'x' => Some(Failure::new(FailureKind::Refused, "refused")),
            '?' => Some(Failure::new(FailureKind::Unobserved, "could not be observed")),
            _ => None,
        };
        let sample = Sample {
            uncertainty: Duration::ZERO,
            began: ms(i * 10),
            took: Duration::ZERO,
            failure,
            value: None,
        };
        fold.push(&sample, times);
    }
    fold
}

#[test]
fn downtime_is_the_sum_of_outages_and_time_without_attempts_is_not_known() {
    let of = |outcomes: &str| {
        let until = ms(u64::try_from(outcomes.len()).expect("few") * 10);
        fold(outcomes, 0, &Times::default()).downtime(until)
    };
    assert_eq!(of("....."), Downtime::default());
    let two = of("..x..x..");
    assert_eq!((two.total, two.uncertainty, two.outages), (ms(20), ms(20), 2));
    assert_eq!(two.longest, ms(10));
    let open = of("..xx");
    assert!(open.ongoing && open.total == ms(20));
    let gap = of("..     ..");
    assert_eq!((gap.total, gap.uncertainty), (ms(0), ms(50)), "who knows what was then");
    assert_eq!(of("..xx   ..").total, ms(50), "a gap within an outage is counted");
    assert!(of("..xx   ..").uncertainty >= ms(40), "and said to be uncertain");
    assert_eq!(of("..     ").unobserved, ms(60), "nor what came after the last attempt");
}

#[test]
fn what_was_not_observed_is_neither_an_outage_nor_well() {
    let times = Times { injected: Some(ms(0)), recover_from: Some(ms(0)), ..Times::default() };
    let seen = fold("..?????...", 100, &times);
    let downtime = seen.downtime(ms(100));
    assert_eq!((downtime.total, downtime.outages), (ms(0), 0), "nobody saw an outage");
    assert_eq!((downtime.unobserved, downtime.uncertainty), (ms(50), ms(50)), "nor that none was");
    assert_eq!((seen.detected(), seen.commonest_failure()), (None, None));
    let window = seen.window(Window::During);
    let Share { attempts, successes, unobserved } = window.share;
    assert_eq!((attempts, successes, unobserved), (5, 5, 5));
    assert_eq!((window.failures.len(), window.unobserved[&FailureKind::Unobserved]), (0, 5));
    assert_eq!(fold("?????", 0, &times).downtime(ms(50)).unobserved, ms(50), "all of it");
    let recovered = |outcomes| {
        let fold = fold(outcomes, 20, &times);
        (fold.recovered(), fold.recovery_uncertainty())
    };
    assert_eq!(recovered(".?.?.?.?."), (None, ms(10)), "nobody saw it well for long enough");
    assert_eq!(recovered("x.???...."), (Some(ms(50)), ms(10)));
    assert!(fold("..?....", 20, &times).was_unwell(), "it is not said that nothing was");
}

#[test]
fn a_window_is_judged_where_nine_tenths_of_it_were_observed() {
    let share = |attempts, unobserved| Share { attempts, successes: 0, unobserved };
    assert!(share(90, 10).is_conclusive() && share(1, 0).is_conclusive());
    assert!(!share(89, 11).is_conclusive() && !share(0, 0).is_conclusive());
    assert_eq!(share(0, 0).inconclusive().as_deref(), Some("made no attempt"));
    let why = "observed nothing in 40 of 100 attempts";
    assert_eq!(share(60, 40).inconclusive().as_deref(), Some(why));
    assert_eq!(share(90, 10).inconclusive(), None);
}

#[test]
fn numbers_that_nobody_counted_to_are_compared_as_well() {
    let share = Share { attempts: u64::MAX, successes: 1 << 63, unobserved: u64::MAX };
    assert_eq!(share.basis_points(), Some(5_000));
    let half = Bound { comparison: Comparison::AtLeast, value: 5_001 };
    assert_eq!(share.meets(half), Some(false));
    assert!(share.inconclusive().is_some());
}

#[test]
fn what_a_kill_did_is_seen_during_it_and_what_came_then_after_it() {
    let times = Times {
        injected: Some(ms(0)),
        step_injected: Some(ms(0)),
        method_end: Some(ms(20)),
        recover_from: Some(ms(0)),
        ends_with_instant: true,
        ..Times::default()
    };
    let shares = |outcomes: String| {
        let fold = fold(&outcomes, 500, &times);
        [Window::During, Window::After].map(|window| {
            let share = fold.window(window).share;
            (share.attempts, share.successes)
        })
    };
    assert_eq!(shares(".".repeat(150)), [(100, 100), (50, 50)], "a second of it");
    let short = "x".repeat(30) + &".".repeat(120);
    assert_eq!(shares(short), [(100, 70), (50, 50)]);
    let long = "x".repeat(130) + &".".repeat(20) + "x";
    assert_eq!(shares(long), [(130, 0), (21, 20)], "to the end of the outage");
}

#[test]
fn shares_are_compared_exactly() {
    let times = Times { injected: Some(ms(0)), ..Times::default() };
    let share = fold(".........x", 0, &times).window(Window::During).share;
    assert_eq!(share.basis_points(), Some(9_000));
    let bound = |comparison, value| Bound { comparison, value };
    assert_eq!(share.meets(bound(Comparison::AtLeast, 9_000)), Some(true));
    assert_eq!(share.meets(bound(Comparison::MoreThan, 9_000)), Some(false));
    assert_eq!(share.meets(bound(Comparison::LessThan, 9_001)), Some(true));
    assert_eq!(Share::default().meets(bound(Comparison::AtLeast, 0)), None);
}

#[test]
fn recovery_begins_with_the_first_good_attempt_of_a_stable_time() {
    let times = Times { recover_from: Some(ms(0)), ..Times::default() };
    let at = |outcomes, stable| fold(outcomes, stable, &times).recovered();
    assert_eq!(at("xx....", 30), Some(ms(20)));
    assert_eq!(at("xx..x.....", 30), Some(ms(50)));
    assert_eq!(at("xx...", 30), None);
    assert_eq!(at("......", 0), Some(ms(0)));
}

#[test]
fn what_is_learnt_late_counts_from_when_it_was() {
    let mut fold = fold("..xxx.....", 50, &Times::default());
    let times = Times { injected: Some(ms(15)), recover_from: Some(ms(30)), ..Times::default() };
    let good = |began| Sample {
        uncertainty: Duration::ZERO,
        began,
        took: Duration::ZERO,
        failure: None,
        value: None,
    };
    fold.push(&good(ms(100)), &times);
    assert_eq!(fold.recovered(), Some(ms(50)), "it was well from then on already");
}

#[test]
fn a_value_that_is_not_as_before_is_no_recovery() {
    let mut probe = probe(20);
    probe.recovery.as_mut().expect("asked").value = Some(ValueRule::NotLess);
    let tolerance = |value| Tolerance { value: Some(value), ..Tolerance::default() };
    probe.during = Some(tolerance(ValueRule::Unchanged));
    let times = Times {
        injected: Some(ms(20)),
        method_end: Some(ms(40)),
        recover_from: Some(ms(40)),
        ..Times::default()
    };
    let of = |values: &[&str]| {
        let mut fold = Fold::new(&probe);
        let samples: Vec<Sample> = (0_u64..)
            .zip(values)
            .map(|(i, value)| Sample {
                uncertainty: Duration::ZERO,
                began: ms(i * 10),
                took: ms(1),
                failure: None,
                value: (!value.is_empty()).then(|| (*value).to_owned()),
            })
            .collect();
        let early = fold.recovered_with(samples.iter(), &times);
        for sample in &samples {
            fold.push(sample, &times);
        }
        assert_eq!(early, fold.recovered(), "both ways to ask give the same");
        fold
    };
    let fold = of(&["41", "42", "42", "42", "40", "42", "43", "43"]);
    assert_eq!(fold.recovered(), Some(ms(50)), "not while rows were missing");
    assert_eq!((fold.values().before.as_deref(), fold.wrong_value()), (Some("42"), None));
    assert_eq!(fold.values().wrong_during, None);
    let fold = of(&["42", "42", "42", "7", "41", "41", "41", "41"]);
    assert_eq!(fold.recovered(), None);
    assert_eq!(fold.wrong_value(), Some("value 41, 42 before: not-less is asked"));
    let during = fold.values().wrong_during.as_deref();
    assert_eq!(during, Some("value 7, 42 before: unchanged is asked"));
    assert_eq!(of(&["42", "42", "", "", "", "", "", ""]).recovered(), None, "nothing observed");
}

#[test]
fn what_is_kept_does_not_grow() {
    let mut fold = Fold::new(&probe(1000));
    let times = Times { injected: Some(ms(0)), ..Times::default() };
    for i in 0..100_000_u64 {
        let text = format!("refused {i}");
        let failure = (i % 5 == 0).then(|| Failure::new(FailureKind::Refused, text));
        fold.push(
            &Sample {
                uncertainty: Duration::ZERO,
                began: ms(i * 10),
                took: ms(1),
                failure,
                value: None,
            },
            &times,
        );
    }
    assert_eq!((fold.outages.len(), fold.texts.len()), (OUTAGES_MAX, TEXTS_MAX));
    let downtime = fold.downtime(ms(1_000_000));
    assert_eq!((downtime.outages, downtime.total), (20_000, ms(200_000)), "and sums are exact");
}

#[test]
fn what_failed_already_has_nothing_to_detect() {
    let times = Times { injected: Some(ms(45)), ..Times::default() };
    let of = |outcomes: &str| {
        let fold = fold(outcomes, 0, &times);
        (fold.detected(), fold.has_failed())
    };
    assert_eq!(of("......x.."), (Some(ms(60)), true));
    assert_eq!(of(".xx...x.."), (Some(ms(60)), true), "it was well again");
    assert_eq!(of("....xxx.."), (None, true), "it failed right before");
    assert_eq!(of("........."), (None, false));
    // What began before and was broken off by the fault was not failing before it.
    let mut fold = fold("....", 0, &times);
    let failure = Some(Failure::new(FailureKind::Timeout, "timeout"));
    fold.push(
        &Sample {
            uncertainty: Duration::ZERO,
            began: ms(40),
            took: ms(20),
            failure: failure.clone(),
            value: None,
        },
        &times,
    );
    fold.push(
        &Sample { uncertainty: Duration::ZERO, began: ms(50), took: ms(20), failure, value: None },
        &times,
    );
    assert_eq!(fold.detected(), Some(ms(50)));
}
