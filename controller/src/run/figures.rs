//! What was asked of a probe, figure by figure: what each was, and whether that one is as it was asked.
//! The comparisons are [`super::judge`]'s: a tolerance is asked for one figure at a time.

use faultline_proto::units;

use super::judge::{beyond, recovered};
use crate::{
    experiment::{Recovery, Tolerance, tolerance},
    probe::{Fold, Times, Window},
    report::{FigureReport, Outcome, time},
};

/// Every figure that a tolerance asks for; not judged where the window `is_over` not.
pub(super) fn in_window(
    fold: &Fold,
    window: Window,
    asked: &Tolerance,
    is_over: bool,
) -> Vec<FigureReport> {
    let seen = fold.window(window);
    let judged = |figure: &str, bound: String, was: Option<String>, part: &Tolerance| {
        let outcome = match beyond(fold, window, part).first() {
            _ if !is_over => Outcome::NotJudged,
            None => Outcome::Held,
            Some(why) if why.starts_with("inconclusive") => Outcome::Inconclusive,
            Some(_) => Outcome::Deviated,
        };
        FigureReport { figure: figure.into(), bound, was: was.filter(|_| is_over), outcome }
    };
    let mut figures = Vec::new();
    if let Some(bound) = asked.success {
        let part = Tolerance { success: Some(bound), ..Tolerance::default() };
        let was = seen
            .share
            .basis_points()
            .map(|share| format!("{} of {} attempts", units::percent(share), seen.share.attempts));
        figures.push(judged("success", tolerance::share(bound), was, &part));
    }
    for (quantile, bound) in &asked.latency {
        let part = Tolerance { latency: vec![(*quantile, *bound)], ..Tolerance::default() };
        let was = seen.latency.at(*quantile).map(time);
        figures.push(judged(quantile.name, bound.to_string(), was, &part));
    }
    if let Some(rule) = &asked.value {
        let part = Tolerance { value: Some(rule.clone()), ..Tolerance::default() };
        let was = fold.values().during.clone();
        figures.push(judged("value", rule.to_string(), was, &part));
    }
    figures
}

/// What `recovery` asks for, of which `outcome` came.
pub(super) fn of_recovery(
    fold: &Fold,
    times: &Times,
    asked: &Recovery,
    outcome: Outcome,
) -> Vec<FigureReport> {
    let is_over = outcome != Outcome::NotJudged;
    let (within, stable_for) = (units::duration(asked.within), units::duration(asked.stable_for));
    let well = FigureReport {
        figure: "recovery".into(),
        bound: format!("within {within}, stable for {stable_for}"),
        was: recovered(fold, times).map(time).filter(|_| is_over),
        outcome,
    };
    let value = asked.value.as_ref().map(|rule| {
        let was = fold.values().after.clone().filter(|_| is_over);
        let is_bad = matches!(outcome, Outcome::Deviated | Outcome::Inconclusive);
        let outcome = match &was {
            // It is well, but too late, or does not answer.
            Some(_) if is_bad && fold.wrong_value().is_none() => Outcome::Held,
            None if is_bad => Outcome::Inconclusive,
            _ => outcome,
        };
        FigureReport { figure: "value".into(), bound: rule.to_string(), was, outcome }
    });
    std::iter::once(well).chain(value).collect()
}
