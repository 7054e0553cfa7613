//! What ends a run, and what does not: sequences of attempts, and the look at which each is broken.

use faultline_proto::yaml::{Span, Spanned};

use super::*;

const MS: Duration = Duration::from_millis(1);

fn guard(rule: StopRule) -> Guard {
    let probe = Spanned { value: "p".into(), span: Span::default() };
    let condition =
        StopCondition { probe, rule, span: Span::default(), over_span: Span::default() };
    Guard::new(condition, 10 * MS, Duration::ZERO)
}

fn seen(began: u32, took: u32, is_good: bool, value: Option<f64>) -> Seen {
    Seen { began: began * MS, took: took * MS, is_good, is_observation: true, value }
}

/// Shows one attempt every 10 ms: `.` succeeds at once, `x` fails, `s` succeeds after 50 ms; a digit is
/// a value. Returns when the guard is broken, in milliseconds, and why.
fn watch(guard: &mut Guard, attempts: &str) -> Option<(u32, String)> {
    for (began, attempt) in (0_u32..).step_by(10).zip(attempts.chars()) {
        let value = attempt.to_digit(10).map(f64::from);
        let took = if attempt == 's' { 50 } else { 1 };
        if attempt != ' ' {
            guard.take(seen(began, took, attempt != 'x', value));
        }
        if let Some(why) = guard.broken((began + 9) * MS, (began + 9) * MS) {
            return Some((began, why));
        }
    }
    None
}

fn success(percent: u32, over: Duration) -> StopRule {
    StopRule::Success { comparison: Comparison::LessThan, basis_points: percent * 100, over }
}

#[test]
fn too_few_successes_end_a_run_as_soon_as_no_more_can_be_had_in_the_window() {
    let of = |attempts: &str| watch(&mut guard(success(25, 100 * MS)), attempts);
    assert_eq!(of("...................."), None);
    assert_eq!(of("xxxxxxx............."), None, "30 % of a window");
    let (at, why) = of("..........xxxxxxxxxx").expect("it is broken");
    assert_eq!(at, 170, "8 of the last 10 failed: {why}");
    assert_eq!(why, "probe `p` succeeded 2 of 10 times (20%) over 100ms; stop at < 25%");
    let (at, _) = of("xxxxxxxxxxxxxxxxxxxx").expect("it is broken");
    assert_eq!(at, 70, "what was not looked at counts as good, and no longer than that");
    assert_eq!(of("x"), None, "one failure is no outage");
}

/// What is looked at again and again while nothing is injected yet needs no attempts to be kept.
#[test]
fn what_was_so_after_the_last_attempt_is_said_again_where_there_is_no_new_one() {
    let mut guard = guard(success(50, 40 * MS));
    let mut at = 0;
    let mut take = |guard: &mut Guard, is_good| {
        guard.take(seen(at, 1, is_good, None));
        at += 10;
        guard.broken_now(at * MS, at * MS)
    };
    for _ in 0..8 {
        assert_eq!(take(&mut guard, true), None);
    }
    for _ in 0..4 {
        take(&mut guard, false);
    }
    let broken = guard.broken_now(120 * MS, 120 * MS);
    assert!(broken.is_some(), "four of the last four failed");
    assert_eq!(guard.broken_now(121 * MS, 121 * MS), broken, "and nothing has come since");
    for _ in 0..4 {
        take(&mut guard, true);
    }
    assert_eq!(guard.broken_now(161 * MS, 161 * MS), None, "that has passed");
}

#[test]
fn attempts_that_are_waited_for_are_not_counted_yet() {
    let mut guard = guard(success(50, 100 * MS));
    for began in (0..200).step_by(10) {
        guard.take(seen(began, 1, began < 100, None));
        assert_eq!(guard.broken((began + 5) * MS, 50 * MS), None, "not settled");
    }
    assert!(guard.broken(200 * MS, 200 * MS).is_some());
}

#[test]
fn a_window_forgets() {
    let mut guard = guard(success(50, 50 * MS));
    let attempts = "....xx....".repeat(100);
    assert_eq!(watch(&mut guard, &attempts), None, "never more than half of five");
    assert!(guard.window.attempts <= 6, "{:?}", guard.window);
}

#[test]
fn a_quantile_of_the_latency_ends_a_run() {
    let [p50, max] = [("p50", 500), ("max", 1000)].map(|(name, per_mille)| {
        let quantile = Quantile { name, per_mille };
        let comparison = Comparison::MoreThan;
        StopRule::Latency { quantile, comparison, bound: 20 * MS, over: 100 * MS }
    });
    assert_eq!(watch(&mut guard(p50.clone()), "sssss..........."), None, "half of them are quick");
    let (at, why) = watch(&mut guard(p50), "..........ssssssss").expect("it is broken");
    assert_eq!(at, 150, "six of ten: {why}");
    assert_eq!(why, "the p50 of the latency of probe `p` is 50.0 ms over 100ms; stop at > 20ms");
    let (at, _) = watch(&mut guard(max.clone()), "....s").expect("it is broken");
    assert_eq!(at, 40);
    assert_eq!(watch(&mut guard(max), "xxxxxxxxxxxxxxxxxxxx"), None, "failures are not slow");
}

#[test]
fn a_value_beyond_its_bound_all_the_time_ends_a_run() {
    let rule = |lasting| StopRule::Value { comparison: Comparison::MoreThan, bound: 3.0, lasting };
    let of = |attempts: &str, lasting| watch(&mut guard(rule(lasting)), attempts);
    assert_eq!(of("1234", Duration::ZERO).map(|(at, _)| at), Some(30));
    assert_eq!(of("4444124441", 30 * MS).map(|(at, _)| at), Some(30));
    assert_eq!(of("4441444144", 30 * MS), None, "it came back in between");
    let (at, why) = of("44x 4", 30 * MS).expect("it is broken");
    assert_eq!(at, 40, "no value says nothing");
    assert_eq!(why, "the value of probe `p` is 4, beyond its bound for 40.0 ms; stop at > 3");
}

#[test]
fn a_probe_that_sees_nothing_ends_a_run() {
    let rule = |of_value| StopRule::Unobserved { limit: 50 * MS, of_value };
    assert_eq!(watch(&mut guard(rule(false)), "xxxxxxxxxx"), None, "a failure is an observation");
    let (at, why) = watch(&mut guard(rule(false)), "..         ").expect("it is broken");
    assert_eq!((at, why.contains("observed nothing for")), (60, true), "{why}");
    assert!(watch(&mut guard(rule(true)), "11........").is_some(), "no number for so long");
    let mut blind = guard(rule(false));
    for began in (0..60).step_by(10) {
        blind.take(Seen { is_observation: false, ..seen(began, 1, false, None) });
    }
    assert!(blind.broken(60 * MS, 60 * MS).is_some(), "our own side failed");
}

/// Shows attempts that take 8 of the 10 ms between two of them. The guard looks every 2 ms.
fn watch_slow(mut guard: Guard, attempts: &str) -> Option<(u32, String)> {
    let attempts: Vec<(u32, char)> = (0..).step_by(10).zip(attempts.chars()).collect();
    for (began, attempt) in attempts {
        for after in [0, 2, 4, 6, 8] {
            if after == 8 {
                guard.take(seen(began, 8, attempt != 'x', None));
            }
            let now = began + after;
            let settled = if after == 8 { now } else { began };
            if let Some(why) = guard.broken(now * MS, settled * MS) {
                return Some((now, why));
            }
        }
    }
    None
}

#[test]
fn a_window_of_one_attempt_sees_it_however_long_that_took() {
    for over in [10 * MS, 2 * MS] {
        let (at, why) = watch_slow(guard(success(50, over)), "..xx").expect("it is broken");
        assert_eq!((at, why.contains("0 of 1 times")), (28, true), "{over:?}: {why}");
    }
    assert_eq!(watch_slow(guard(success(50, 10 * MS)), "........"), None);
    let quantile = Quantile { name: "max", per_mille: 1000 };
    let comparison = Comparison::AtLeast;
    let rule = StopRule::Latency { quantile, comparison, bound: 8 * MS, over: 2 * MS };
    assert_eq!(watch_slow(guard(rule), "..").map(|(at, _)| at), Some(8));
}

#[test]
fn a_look_that_comes_late_sees_what_was_broken_in_between_unless_only_now_counts() {
    let show = |guard: &mut Guard| {
        for (began, attempt) in (0..).step_by(10).zip("....xxxx......".chars()) {
            guard.take(seen(began, 1, attempt != 'x', None));
        }
    };
    let mut late = guard(success(50, 40 * MS));
    show(&mut late);
    let why = late.broken(140 * MS, 140 * MS).expect("it was broken");
    assert!(why.contains("1 of 4 times"), "{why}");
    let mut first = guard(success(50, 40 * MS));
    show(&mut first);
    assert_eq!(first.broken_now(140 * MS, 140 * MS), None, "that has passed");
    first.take(seen(140, 1, false, None));
    assert_eq!(first.broken(150 * MS, 150 * MS), None, "one of four");
}

#[test]
fn a_guard_keeps_no_more_than_its_window_for_hours() {
    for rule in [
        StopRule::Unobserved { limit: 50 * MS, of_value: false },
        StopRule::Unobserved { limit: 50 * MS, of_value: true },
        StopRule::Value { comparison: Comparison::MoreThan, bound: 10.0, lasting: 30 * MS },
        success(50, 50 * MS),
    ] {
        let mut guard = guard(rule.clone());
        assert_eq!(watch(&mut guard, &"1".repeat(10_000)), None, "{rule:?}");
        assert!(guard.window.kept() <= 6, "{rule:?}: {:?}", guard.window);
    }
}

#[test]
fn a_condition_on_a_number_knows_whether_it_ever_saw_one() {
    let rule = StopRule::Value { comparison: Comparison::MoreThan, bound: 3.0, lasting: 30 * MS };
    let mut guard = guard(rule);
    assert_eq!(watch(&mut guard, "....x"), None);
    assert!(guard.never_saw_number());
    assert_eq!(watch(&mut guard, "1"), None);
    assert!(!guard.never_saw_number());
}
