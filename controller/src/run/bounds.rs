//! What was asked of a probe, one by one: for reports. The verdict is [`super::judge`]'s, of the same
//! comparisons.

use super::{
    figures,
    judge::{beyond, late, recovered},
};
use crate::{
    experiment::{Probe, Tolerance},
    probe::{Fold, Times, Window},
    report::{BoundReport, Outcome},
};

/// What became of everything that was asked of a probe. Of a run that is not `complete`, only what was
/// over before it ended is judged.
pub(super) fn bounds(
    probe: &Probe,
    fold: &Fold,
    times: &Times,
    complete: bool,
) -> Vec<BoundReport> {
    let in_window = |name: &str, window, asked: &Tolerance, is_over: bool| {
        let is_conclusive = fold.window(window).share.is_conclusive();
        let why = if is_over { beyond(fold, window, asked) } else { Vec::new() };
        let outcome = match why.is_empty() {
            _ if !is_over => Outcome::NotJudged,
            true => Outcome::Held,
            false if !is_conclusive => Outcome::Inconclusive,
            false => Outcome::Deviated,
        };
        let figures = figures::in_window(fold, window, asked, is_over);
        BoundReport { window: name.into(), outcome, why, figures }
    };
    let steady_is_over = times.steady_to.is_some();
    let steady = probe.steady.as_ref();
    let steady = steady.map(|asked| in_window("steady", Window::Before, asked, steady_is_over));
    let during = probe.during.as_ref();
    let during = during.map(|asked| in_window("during", Window::During, asked, complete));
    let recovery = probe.recovery.as_ref().map(|asked| {
        let why = late(&probe.name, recovered(fold, times), asked, fold).filter(|_| complete);
        let outcome = match &why {
            _ if !complete => Outcome::NotJudged,
            None => Outcome::Held,
            Some(_) => Outcome::Deviated,
        };
        let figures = figures::of_recovery(fold, times, asked, outcome);
        BoundReport { window: "recovery".into(), outcome, why: why.into_iter().collect(), figures }
    });
    [steady, during, recovery].into_iter().flatten().collect()
}
