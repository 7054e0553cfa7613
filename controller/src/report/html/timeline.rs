//! What happened when: faults as bars, and below them, on the same axis, what each probe saw.

use std::collections::BTreeMap;

use maud::{Markup, html};

use super::{ROWS_MAX, chart, chart::Span, ms, tables};
use crate::report::{InjectionReport, ProbeReport, Report};

/// Targets that get a lane of their own.
const LANES_MAX: usize = 40;

/// The timeline; nothing where nothing was observed and nothing done.
pub(super) fn section(report: &Report) -> Markup {
    if report.probes.is_empty() && report.injections.is_empty() {
        return html! {};
    }
    let (span, lanes) = (span(report), lanes(&report.injections));
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
            @for rounds in lanes.iter().take(LANES_MAX) { (lane(rounds, &span)) }
            @if lanes.len() > LANES_MAX { p.soft { "and " (lanes.len() - LANES_MAX) " more" } }
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

/// What was done to one target again and again has one lane, in the order of the first of each.
fn lanes(injections: &[InjectionReport]) -> Vec<Vec<&InjectionReport>> {
    let mut lanes: Vec<Vec<&InjectionReport>> = Vec::new();
    let mut known: BTreeMap<(&str, &str, &str), usize> = BTreeMap::new();
    for one in injections.iter().filter(|one| one.injected_at_ms.is_some()) {
        let key = (one.kind.as_str(), one.target.as_str(), one.node.as_str());
        let lane = *known.entry(key).or_insert(lanes.len());
        match lanes.get_mut(lane) {
            Some(lane) => lane.push(one),
            None => lanes.push(vec![one]),
        }
    }
    lanes
}

fn lane(rounds: &[&InjectionReport], span: &Span) -> Markup {
    let [first, ..] = rounds else { return html! {} };
    let from = first.injected_at_ms.unwrap_or_default();
    // The first that is not proven to be over is what is to be known of all.
    let open = rounds.iter().any(|one| one.reverted_at_ms.is_none());
    let last = rounds.iter().filter_map(|one| one.reverted_at_ms).max_by(f64::total_cmp);
    let until = match last.filter(|_| !open) {
        Some(to) => format!("to {}", ms(to)),
        None => "not proven to be reverted".into(),
    };
    let times = match rounds.len() {
        1 => String::new(),
        count => format!(" · {count} times"),
    };
    let text = format!("{} of {} on {}{times}", first.kind, first.target, first.node);
    html! {
        div.lane-name { (text) " · from " (ms(from)) " " (until) }
        div.lane role="img" aria-label={ (text) ", from " (ms(from)) " " (until) } {
            @for one in rounds.iter().take(ROWS_MAX) { (bar(one, span)) }
        }
    }
}

fn bar(injection: &InjectionReport, span: &Span) -> Markup {
    let to = injection.reverted_at_ms;
    let left = span.percent(injection.injected_at_ms.unwrap_or_default());
    let right = span.percent(to.unwrap_or(span.end_ms));
    html! {
        div.bar.open[to.is_none()] style={ "left:" (left) "%;width:" (right - left) "%" } {}
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
