//! The live lines of a run: what is being done, for how long still, and how each probe has fared of late.

use std::{fmt::Write as _, time::Duration};

use faultline_probe::Sample;

/// How far back the sparklines go.
pub const RECENT: Duration = Duration::from_secs(20);
/// Characters of a sparkline.
const COLUMNS: usize = 20;
/// Probes that are shown.
const PROBES_MAX: usize = 8;
/// From nothing to all of the attempts.
const LEVELS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// A probe, and its attempts of the last [`RECENT`].
pub type Recent<'a> = (&'a str, Vec<Sample>);

/// What is being done, how long that still takes, and a line for each probe at the time `now`.
pub fn lines(what: &str, left: Duration, probes: &[Recent<'_>], now: Duration) -> String {
    let mut text = format!("{what}: {:.1} s left", left.as_secs_f64());
    let width = probes.iter().take(PROBES_MAX).map(|(name, _)| name.chars().count()).max();
    let width = width.unwrap_or(0);
    for (name, samples) in probes.iter().take(PROBES_MAX) {
        // Writing into a string does not fail.
        write!(text, "\n    {name:<width$}  {}", line(samples, now)).ok();
    }
    if let Some(more) = probes.len().checked_sub(PROBES_MAX).filter(|more| *more > 0) {
        write!(text, "\n    and {more} more").ok();
    }
    text
}

/// The share of attempts that succeeded, from past to present, and how the latest ended.
fn line(samples: &[Sample], now: Duration) -> String {
    let step_ns = RECENT.as_nanos() / COLUMNS as u128;
    let mut columns = [(0_usize, 0_usize); COLUMNS];
    for sample in samples {
        let steps_ago = now.saturating_sub(sample.began).as_nanos() / step_ns;
        let column = usize::try_from(steps_ago).ok().and_then(|ago| (COLUMNS - 1).checked_sub(ago));
        if let Some((all, good)) = column.map(|column| &mut columns[column]) {
            *all += 1;
            *good += usize::from(sample.is_good());
        }
    }
    // Rounded down: the highest is for all of them.
    let level = |(all, good): (usize, usize)| (good * (LEVELS.len() - 1)).checked_div(all);
    let spark = columns.map(|column| level(column).map_or(' ', |level| LEVELS[level]));
    let spark: String = spark.into_iter().collect();
    let latest = match samples.last().map(|sample| (&sample.failure, sample.took)) {
        None => "no attempt".into(),
        Some((None, took)) => super::time(took),
        Some((Some(failure), _)) => format!("FAILING: {failure}"),
    };
    format!("{spark}  {latest}")
}

#[cfg(test)]
mod tests {
    use faultline_probe::{Failure, FailureKind};

    use super::*;

    #[test]
    fn a_sparkline_tells_what_succeeded_from_past_to_present() {
        let now = Duration::from_secs(100);
        let sample = |ago_ms: u64, is_good: bool| Sample {
            uncertainty: Duration::ZERO,
            began: now.checked_sub(Duration::from_millis(ago_ms)).expect("later"),
            took: Duration::from_millis(3),
            failure: (!is_good).then(|| Failure::new(FailureKind::Refused, "connection refused")),
            value: None,
        };
        let samples =
            [sample(3_500, true), sample(2_600, true), sample(2_400, false), sample(100, false)];
        let said = lines("in effect", Duration::from_millis(2_340), &[("a", samples.into())], now);
        let spark = format!("{}█▄ ▁", " ".repeat(16));
        assert_eq!(
            said,
            format!("in effect: 2.3 s left\n    a  {spark}  FAILING: connection refused")
        );
        let many: Vec<Recent<'_>> = (0..10).map(|_| ("b", Vec::new())).collect();
        assert!(lines("x", Duration::ZERO, &many, now).ends_with("\n    and 2 more"));
    }
}
