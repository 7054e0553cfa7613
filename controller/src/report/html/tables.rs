//! The tables of a page.

use maud::{Markup, html};

use super::{ROWS_MAX, fact, ms, ms_or_dash};
use crate::report::{
    DowntimeReport, InjectionReport, Outcome, ProbeReport, Report, ValueReport, WindowReport,
};

/// `4.95 s ± 66.8 ms`.
pub(super) fn downtime(downtime: &DowntimeReport) -> String {
    if downtime.outages == 0 {
        return "none".into();
    }
    let open = if downtime.ongoing { ", not over" } else { "" };
    format!("{} ± {}{open}", ms(downtime.total_ms), ms(downtime.uncertainty_ms))
}

/// `99.9 %`, rounded down: what is not all is not shown as all.
pub(super) fn share(window: &WindowReport) -> String {
    let Some(tenths) = (u128::from(window.successes) * 1000).checked_div(window.attempts.into())
    else {
        return "–".into();
    };
    format!("{}.{} %", tenths / 10, tenths % 10)
}

/// Each target: what was asked of it, and what it came to.
pub(super) fn injections(report: &Report) -> Markup {
    if report.injections.is_empty() {
        return html! {};
    }
    html! {
        section {
            h2 { "Faults" }
            @if let Some(skew) = report.commit_skew_ms {
                p.soft { "Between the first and the last injection of one step: " (ms(skew)) " at most." }
            }
            table.cards {
                thead { tr {
                    th scope="col" { "target" } th scope="col" { "asked, and what was seen" }
                    th.n scope="col" { "effect after" } th.n scope="col" { "lasted" }
                    th.n scope="col" { "reverted in" } th scope="col" { "effect" } th scope="col" { "kernel" }
                } }
                tbody {
                    @for injection in report.injections.iter().take(ROWS_MAX) { (injection_row(injection)) }
                }
            }
            (more(report.injections.len()))
        }
    }
}

fn injection_row(injection: &InjectionReport) -> Markup {
    let effect = if injection.effect == "proven" { "good" } else { "bad" };
    let is_clean = injection.state == "reverted" && injection.residue.is_empty();
    html! {
        tr {
            th scope="row" { (injection.kind) small { (injection.target) " on " (injection.node) } }
            td.wide data-label="asked" {
                (injection.plan)
                @if !injection.evidence.is_empty() { small { (injection.evidence) } }
                @if let Some(failure) = &injection.failure { small { b.bad { (failure) } } }
                @if let Some(why) = &injection.let_go { small { "let go: " (why) } }
                @if let Some(follow) = &injection.follow {
                    small { "followed, first seen " (ms(follow.seen_ms)) " after the injection" }
                }
                @for change in &injection.changed_by_others { small { "left alone: " (change) } }
            }
            td.n data-label="effect after" { (ms_or_dash(injection.time_to_effect_ms)) }
            td.n data-label="lasted" { (ms_or_dash(injection.lasted_ms)) }
            td.n data-label="reverted in" { (ms_or_dash(injection.time_to_revert_ms)) }
            td class={ "word " (effect) } data-label="effect" { (injection.effect) }
            td class=(if is_clean { "good" } else { "bad" }) data-label="kernel" {
                @if is_clean { "reverted, nothing is left" } @else { (injection.state) }
                @for residue in &injection.residue { small { (residue) } }
            }
        }
    }
}

/// How soon each probe noticed, and was well again.
pub(super) fn recovery(report: &Report) -> Markup {
    if report.probes.is_empty() {
        return html! {};
    }
    let row = |probe: &ProbeReport| {
        let longest =
            if probe.downtime.outages == 0 { "–".into() } else { ms(probe.downtime.longest_ms) };
        let recovered = match probe.figure("recovery", "recovery") {
            Some(asked) if asked.outcome.is_bad() => "n bad",
            _ => "n",
        };
        html! {
            tr {
                th scope="row" {
                    (probe.name) small { "every " (ms(probe.every_ms)) }
                    @for one in probe.moves.iter().take(ROWS_MAX) {
                        small { "from " (one.pod) " since " (ms(one.since_ms)) }
                    }
                }
                td.n data-label="detected after" { (ms_or_dash(probe.time_to_detect_ms)) }
                td.n data-label="downtime" { (downtime(&probe.downtime)) }
                td.n data-label="outages" { (probe.downtime.outages) }
                td.n data-label="longest" { (longest) }
                td class=(recovered) data-label="recovered after" { (ms_or_dash(probe.time_to_recover_ms)) }
                td.n data-label="stable after" { (ms_or_dash(probe.time_to_stable_ms)) }
            }
        }
    };
    html! {
        section {
            h2 { "Recovery" }
            table.cards {
                thead { tr {
                    th scope="col" { "probe" } th.n scope="col" { "detected after" }
                    th.n scope="col" { "downtime" } th.n scope="col" { "outages" }
                    th.n scope="col" { "longest" } th.n scope="col" { "recovered after" }
                    th.n scope="col" { "stable after" }
                } }
                tbody { @for probe in report.probes.iter().take(ROWS_MAX) { (row(probe)) } }
            }
        }
    }
}

/// A part of the run, and what a probe saw in it.
struct Window<'a> {
    name: &'static str,
    /// What asks for something in it.
    asked_as: &'static str,
    seen: &'a WindowReport,
    value: Option<&'a String>,
}

fn windows_of(probe: &ProbeReport) -> [Window<'_>; 3] {
    let value = |pick: fn(&ValueReport) -> Option<&String>| probe.value.as_ref().and_then(pick);
    let window = |name, asked_as, seen, value| Window { name, asked_as, seen, value };
    [
        window("before", "steady", &probe.steady, value(|value| value.before.as_ref())),
        window("during", "during", &probe.during, value(|value| value.during.as_ref())),
        window("after", "recovery", &probe.after, value(|value| value.after.as_ref())),
    ]
}

/// What each probe saw before, during and after.
pub(super) fn windows(report: &Report) -> Markup {
    if report.probes.is_empty() {
        return html! {};
    }
    let has_values = report.probes.iter().any(|probe| probe.value.is_some());
    html! {
        section {
            h2 { "Observed" }
            table.cards {
                thead { tr {
                    th scope="col" { "probe" } th.n scope="col" { "attempts" }
                    th.n scope="col" { "succeeded" } th.n scope="col" { "p50" } th.n scope="col" { "p99" }
                    th.n scope="col" { "longest" }
                    @if has_values { th.n scope="col" { "value" } }
                    th scope="col" { "failures" }
                } }
                tbody {
                    @for probe in report.probes.iter().take(ROWS_MAX) {
                        @for window in windows_of(probe) { (window_row(probe, &window, has_values)) }
                    }
                }
            }
        }
    }
}

fn window_row(probe: &ProbeReport, window: &Window<'_>, has_values: bool) -> Markup {
    let Window { name, asked_as, seen, value } = window;
    let latency = seen.latency.as_ref();
    let class = |figure: &str| match probe.figure(asked_as, figure).map(|asked| asked.outcome) {
        Some(Outcome::Held) => "n good",
        Some(Outcome::Deviated | Outcome::Inconclusive) => "n bad",
        Some(Outcome::NotJudged) | None => "n",
    };
    let failures: Vec<String> =
        seen.failures.iter().map(|(kind, count)| format!("{kind} {count}")).collect();
    html! {
        tr {
            th scope="row" { (probe.name) small { (name) } }
            td.n data-label="attempts" { (seen.attempts) }
            td class=(class("success")) data-label="succeeded" { (share(seen)) }
            td class=(class("p50")) data-label="p50" { (ms_or_dash(latency.map(|l| l.p50_ms))) }
            td class=(class("p99")) data-label="p99" { (ms_or_dash(latency.map(|l| l.p99_ms))) }
            td class=(class("max")) data-label="longest" { (ms_or_dash(latency.map(|l| l.max_ms))) }
            @if has_values {
                td class=(class("value")) data-label="value" { (value.map_or("–", String::as_str)) }
            }
            td data-label="failures" { @if failures.is_empty() { "–" } @else { (failures.join(", ")) } }
        }
    }
}

/// Whether every fault is proven to be reverted, and nothing else is left.
pub(super) fn is_clean(report: &Report) -> bool {
    let is_reverted = |i: &InjectionReport| i.state == "reverted" && i.residue.is_empty();
    report.residue.is_empty() && report.injections.iter().all(is_reverted)
}

/// What is left, or the proof that nothing is.
pub(super) fn residue(report: &Report) -> Markup {
    let clean = report.injections.iter().filter(|i| i.state == "reverted" && i.residue.is_empty());
    let (clean, all) = (clean.count(), report.injections.len());
    html! {
        section {
            h2 { "Residue" }
            @if is_clean(report) {
                p { b.good { "Nothing is left." } " "
                    @if all == 0 { "Nothing was injected." } @else {
                        (clean) " of " (all) " faults are proven to be reverted: their kernels were read back."
                    }
                }
            } @else {
                p { b.bad { (all - clean) " of " (all) " faults are not proven to be reverted." } }
                ul { @for residue in report.residue.iter().take(ROWS_MAX) { li { (residue) } } }
            }
            @if !report.not_followed.is_empty() {
                ul { @for text in report.not_followed.iter().take(ROWS_MAX) { li { (text) } } }
            }
        }
    }
}

/// What it ran on, and how to run it again.
pub(super) fn environment(report: &Report) -> Markup {
    let environment = &report.environment;
    html! {
        section {
            h2 { "Environment" }
            dl.facts {
                (fact("place", &report.place))
                (fact("file", &report.file))
                (fact("seed", &report.seed.to_string()))
                (fact("faultline", &environment.faultline_version))
                (fact("kernel", &environment.kernel))
                (fact("architecture", &environment.architecture))
                @for (name, value) in &report.labels { (fact(name, value)) }
            }
            @if !report.agents.is_empty() {
                table.cards {
                    thead { tr {
                        th scope="col" { "agent" } th scope="col" { "version" } th scope="col" { "kernel" }
                        th scope="col" { "control groups" } th.n scope="col" { "round trip" }
                        th.n scope="col" { "clock" }
                    } }
                    tbody {
                        @for agent in report.agents.iter().take(ROWS_MAX) {
                            tr {
                                th scope="row" { (agent.node) }
                                td data-label="version" { (agent.version) }
                                td data-label="kernel" { (agent.kernel) }
                                td data-label="control groups" {
                                    @match agent.cgroup_version {
                                        Some(version) => { "version " (version) }
                                        None => { "none" }
                                    }
                                }
                                td.n data-label="round trip" { (ms(agent.rtt_ms)) }
                                td.n data-label="clock" { "± " (ms(agent.clock_uncertainty_ms)) }
                            }
                        }
                    }
                }
            }
            p.soft { "With seed " (report.seed) " the same targets are chosen again." }
        }
    }
}

pub(super) fn more(count: usize) -> Markup {
    html! { @if count > ROWS_MAX { p.soft { "and " (count - ROWS_MAX) " more in run.json" } } }
}
