//! The charts of one probe: shapes only, stretched to the width there is. What is to be read stands
//! beside them as text, so that it has its size on a phone as well.

use std::fmt::Write as _;

use maud::{Markup, html};

use super::ms;
use crate::report::SeriesReport;

/// The width and height of a chart, in its own units.
const WIDTH: f64 = 1000.0;
const HEIGHT: f64 = 100.0;
/// Above this the chart of shares says when faults were in effect: shading would change the colours.
const STRIP: f64 = 14.0;

/// What a chart spans, and when faults were in effect.
#[derive(Debug, Clone)]
pub(super) struct Span {
    /// From 0 to this, in milliseconds.
    pub(super) end_ms: f64,
    /// Begin and end of each time with a fault, in order and apart.
    pub(super) faults_ms: Vec<(f64, f64)>,
}

impl Span {
    fn x(&self, at_ms: f64) -> f64 {
        (at_ms / self.end_ms * WIDTH).clamp(0.0, WIDTH)
    }

    /// Where a time is, in percent of the width.
    pub(super) fn percent(&self, at_ms: f64) -> f64 {
        (at_ms / self.end_ms * 100.0).clamp(0.0, 100.0)
    }

    /// Times to be written below, at most seven.
    pub(super) fn ticks(&self) -> Vec<f64> {
        let steps = [1.0, 2.0, 5.0];
        let mut unit = 1.0;
        let step = loop {
            if let Some(step) = steps.iter().map(|s| s * unit).find(|s| self.end_ms / s <= 6.0) {
                break step;
            }
            unit *= 10.0;
        };
        let mut ticks = vec![0.0];
        while let Some(next) = ticks.last().map(|last| last + step)
            && next < self.end_ms - step * 0.4
        {
            ticks.push(next);
        }
        ticks.push(self.end_ms);
        ticks
    }

    /// Times with a fault, from the top down to this height.
    fn faults(&self, height: f64) -> Markup {
        html! {
            @for (from, to) in &self.faults_ms {
                rect.fault x=(self.x(*from)) y="0" width=((self.x(*to) - self.x(*from)).max(1.0)) height=(height) {}
            }
        }
    }
}

/// How many attempts succeeded and failed in each bucket.
pub(super) fn share(name: &str, id: &str, series: &SeriesReport, span: &Span) -> Markup {
    let attempts: u64 = series.attempts.iter().map(|n| u64::from(*n)).sum();
    let failures: u64 = series.failures.iter().map(|n| u64::from(*n)).sum();
    let title = format!("Availability of {name}: {failures} of {attempts} attempts failed");
    let (mut ok, mut ko) = (String::new(), String::new());
    for (i, (attempts, failures)) in series.attempts.iter().zip(&series.failures).enumerate() {
        if *attempts == 0 {
            continue;
        }
        let (from, to) = bucket(series, span, i);
        let failed = f64::from(*failures) / f64::from(*attempts);
        let top = STRIP + (HEIGHT - STRIP) * failed;
        // Writing into a string does not fail.
        if failures < attempts {
            write!(ok, "M{from:.2} {top:.2}H{to:.2}V{HEIGHT}H{from:.2}Z").ok();
        }
        if *failures > 0 {
            // One in a thousand is to be seen, too.
            let top = top.max(STRIP + 4.0);
            write!(ko, "M{from:.2} {STRIP}H{to:.2}V{top:.2}H{from:.2}Z").ok();
        }
    }
    html! {
        div.chart.share {
            (svg(id, &title, &html! { path.ok d=(ok) {} path.ko d=(ko) {} (span.faults(STRIP * 0.7)) }))
        }
    }
}

/// How long attempts took that succeeded: the shortest to the longest, and the middle; on a scale on
/// which every step is ten times the one before.
pub(super) fn latency(name: &str, id: &str, series: &SeriesReport, span: &Span) -> Option<Markup> {
    let all = || series.latency_min_ms.iter().chain(&series.latency_max_ms).flatten();
    let low = all().copied().fold(f64::INFINITY, f64::min).max(0.001);
    let high = all().copied().fold(0.0, f64::max);
    if !low.is_finite() || high <= 0.0 {
        return None;
    }
    let (from, to) = (low.log10().floor(), high.log10().ceil());
    let to = if to > from { to } else { from + 1.0 };
    let y = |ms: f64| HEIGHT * (1.0 - (ms.max(0.001).log10() - from) / (to - from)).clamp(0.0, 1.0);
    let title = format!("Latency of {name}: {} to {}", ms(low), ms(high));
    let (mut band, mut middle) = (String::new(), String::new());
    let mut was_empty = true;
    for i in 0..series.attempts.len() {
        let at = |list: &[Option<f64>]| list.get(i).copied().flatten();
        let values = at(&series.latency_min_ms).zip(at(&series.latency_max_ms));
        let values = values.zip(at(&series.latency_middle_ms));
        let Some(((min, max), half)) = values else {
            was_empty = true;
            continue;
        };
        let (left, right) = bucket(series, span, i);
        // Where all took the same, a line is left.
        let (top, bottom) = (y(max), y(min).max(y(max) + 1.5));
        write!(band, "M{left:.2} {top:.2}H{right:.2}V{bottom:.2}H{left:.2}Z").ok();
        let step = if was_empty { 'M' } else { 'L' };
        write!(middle, "{step}{left:.2} {0:.2}H{right:.2}", y(half)).ok();
        was_empty = false;
    }
    let decades: Vec<f64> = std::iter::successors(Some(from), |last| Some(last + 1.0))
        .take_while(|d| *d <= to)
        .collect();
    Some(html! {
        div.chart.latency {
            (svg(id, &title, &html! {
                (span.faults(HEIGHT))
                @for decade in &decades {
                    @let at = y(10_f64.powf(*decade));
                    line.grid x1="0" x2=(WIDTH) y1=(at) y2=(at) {}
                }
                path.band d=(band) {}
                path.middle d=(middle) {}
            }))
            // The top, from below its line: of one decade, the bottom alone would give no scale. Of many, it would be in
            // the way of the one below.
            @if decades.len() <= 3 {
                span.tag style="top:2px" { (ms(10_f64.powf(to))) }
            }
            @for decade in &decades[..decades.len() - 1] {
                span.tag style={ "bottom:calc(" (100.0 - y(10_f64.powf(*decade))) "% + 2px)" } {
                    (ms(10_f64.powf(*decade)))
                }
            }
        }
    })
}

fn bucket(series: &SeriesReport, span: &Span, index: usize) -> (f64, f64) {
    let index = f64::from(u32::try_from(index).unwrap_or(u32::MAX));
    (span.x(index * series.width_ms), span.x((index + 1.0) * series.width_ms))
}

fn svg(id: &str, title: &str, shapes: &Markup) -> Markup {
    html! {
        svg role="img" aria-labelledby=(id) viewBox={ "0 0 " (WIDTH) " " (HEIGHT) }
            preserveAspectRatio="none" {
            title id=(id) { (title) }
            (shapes)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_axis_has_few_and_round_times() {
        for (end_ms, count) in [(900.0, 6), (7_300.0, 5), (60_000.0, 7), (3_600_000.0, 5)] {
            let ticks = Span { end_ms, faults_ms: Vec::new() }.ticks();
            assert_eq!(ticks.len(), count, "{end_ms}: {ticks:?}");
            assert_eq!(ticks.last(), Some(&end_ms));
        }
    }
}
