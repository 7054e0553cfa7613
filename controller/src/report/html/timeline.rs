//! What happened when: faults as bars, and below them, on the same axis, what each probe saw.

use maud::{Markup, html};

use super::{ROWS_MAX, chart, chart::Span, ms, tables};
use crate::report::{InjectionReport, ProbeReport, Report};

/// Faults that get a bar of their own.
const BARS_MAX: usize = 40;

/// The timeline; nothing where nothing was observed and nothing done.
pub(super) fn section(report: &Report) -> Markup {
    if report.probes.is_empty() && report.injections.is_empty() {
        return html! {};
    }
    let span = span(report);
    html! {
        section {
            h2 { "Timeline" }
            div.key {
                span { i.fault {} "fault in effect" }
                @if !report.probes.is_empty() {
                    span { i.ok {} "answered" }
                    span { i.ko {} "failed" }
                    span { i.middle {} "middle latency" }
                    span { i.band {} "shortest to longest" }
                }
            }
            @for injection in report.injections.iter().take(BARS_MAX) { (bar(injection, &span)) }
            @if report.injections.len() > BARS_MAX {
                p.soft { "and " (report.injections.len() - BARS_MAX) " more" }
            }
            (axis(&span))
            @for (number, probe) in report.probes.iter().take(ROWS_MAX).enumerate() {
                (panel(number, probe, &span))
            }
        }
    }
}

/// From the beginning to the end of the run, and when any fault was in effect.
fn span(report: &Report) -> Span {
    let end_ms = report.duration_ms.max(1.0);
    let mut times: Vec<(f64, f64)> = report
        .injections
        .iter()
        .filter_map(|i| Some((i.injected_at_ms?, i.reverted_at_ms.unwrap_or(end_ms))))
        .collect();
    times.sort_by(|a, b| a.0.total_cmp(&b.0));
    let mut faults_ms: Vec<(f64, f64)> = Vec::new();
    for (from, to) in times {
        match faults_ms.last_mut() {
            Some(last) if from <= last.1 => last.1 = last.1.max(to),
            _ => faults_ms.push((from, to)),
        }
    }
    Span { end_ms, faults_ms }
}

fn bar(injection: &InjectionReport, span: &Span) -> Markup {
    let Some(from) = injection.injected_at_ms else { return html! {} };
    let to = injection.reverted_at_ms;
    let (left, right) = (span.percent(from), span.percent(to.unwrap_or(span.end_ms)));
    let until =
        to.map_or_else(|| "not proven to be reverted".into(), |to| format!("to {}", ms(to)));
    let text = format!("{} of {} on {}", injection.kind, injection.target, injection.node);
    html! {
        div.lane-name { (text) " · from " (ms(from)) " " (until) }
        div.lane role="img" aria-label={ (text) ", from " (ms(from)) " " (until) } {
            div.bar.open[to.is_none()] style={ "left:" (left) "%;width:" (right - left) "%" } {}
        }
    }
}

fn axis(span: &Span) -> Markup {
    html! {
        div.axis aria-hidden="true" {
            @for tick in span.ticks() {
                span style={ "left:" (span.percent(tick)) "%" } { @if tick > 0.0 { (ms(tick)) } @else { "0" } }
            }
        }
    }
}

fn panel(number: usize, probe: &ProbeReport, span: &Span) -> Markup {
    let ids = [format!("share-{number}"), format!("latency-{number}")];
    html! {
        div.probe {
            h3 { (probe.name) }
            p.soft {
                "before " (tables::share(&probe.steady)) " · during " (tables::share(&probe.during))
                " · downtime " (tables::downtime(&probe.downtime))
                @if let Some(failure) = &probe.commonest_failure { " · " (failure) }
            }
            (chart::share(&probe.name, &ids[0], &probe.series, span))
            @if let Some(chart) = chart::latency(&probe.name, &ids[1], &probe.series, span) { (chart) }
            (axis(span))
        }
    }
}
