//! The summary of a run, for a person.

use std::time::Duration;

use anstyle::{AnsiColor, Style};

use super::{
    FollowReport, InjectionReport, LatencyReport, MoveReport, PodReport, ProbeReport, Report,
    ValueReport, Verdict, WindowReport, console::time,
};

/// Losses of pods that are shown, and probes that went on from another one.
const PODS_MAX: usize = 20;
/// Shown of a value in a table: a command's output may be long.
const VALUE_CHARS_MAX: usize = 24;

/// What a run came to, with colours.
pub(super) fn summary(report: &Report) -> String {
    let mut out = String::new();
    if !report.injections.is_empty() {
        out.push('\n');
        for injection in &report.injections {
            fault(&mut out, injection);
        }
    }
    if !report.probes.is_empty() {
        out.push('\n');
        probes(&mut out, &report.probes);
    }
    if !report.pods.is_empty() {
        out.push('\n');
        pods(&mut out, &report.pods);
    }
    if !report.assertions.is_empty() {
        out.push('\n');
        for assertion in &report.assertions {
            line(&mut out, &format!("  {}: {}", assertion.outcome.name(), assertion.sentence()));
        }
    }
    out.push('\n');
    verdict(&mut out, report);
    out
}

fn fault(out: &mut String, injection: &InjectionReport) {
    let InjectionReport { kind, target, node, .. } = injection;
    let mut parts = vec![match injection.time_to_effect_ms {
        Some(after) => {
            let off = injection.time_to_effect_uncertainty_ms;
            let off = off.map_or(String::new(), |off| format!(" ± {}", time(from_ms(off))));
            format!("effect {} after {}{off}", injection.effect, time(from_ms(after)))
        }
        None if injection.effect == "pending" => "effect not seen before it ended".into(),
        None => format!("effect {}", injection.effect),
    }];
    if let Some(lasted) = injection.lasted_ms {
        parts.push(format!("lasted {}", time(from_ms(lasted))));
    }
    parts.push(match (injection.state.as_str(), injection.time_to_revert_ms) {
        ("reverted", Some(took)) => format!("reverted in {}, nothing is left", time(from_ms(took))),
        ("reverted", None) => "reverted, nothing is left".into(),
        (state, _) => state.to_owned(),
    });
    if let Some(why) = &injection.let_go {
        parts.push(format!("let go: {why}"));
    }
    if injection.changes > 0 {
        parts.push(format!("changed {}", counted_times(injection.changes)));
    }
    line(out, &format!("  {kind} of {target} on {node}: {}", parts.join(", ")));
    if let Some(follow) = &injection.follow {
        line(out, &format!("      {}", followed(follow)));
    }
    if !injection.evidence.is_empty() {
        line(out, &format!("      {}", injection.evidence));
    }
    for change in &injection.changed_by_others {
        line(out, &format!("      left alone: {change}"));
    }
    if let Some(failure) = &injection.failure {
        line(out, &format!("      {failure}"));
    }
}

fn counted_times(count: u32) -> String {
    if count == 1 { "once".into() } else { format!("{count} times") }
}

fn followed(follow: &FollowReport) -> String {
    let seen = time(from_ms(follow.seen_ms));
    let instead = follow.instead_of.as_ref();
    let instead = instead.map_or(String::new(), |old| format!(" in the place of {old}"));
    let effect = follow.time_to_effect_ms;
    let effect =
        effect.map_or(String::new(), |ms| format!(", in effect {} later", time(from_ms(ms))));
    format!("followed{instead}: first seen {seen} after the injection{effect}")
}

fn probes(out: &mut String, probes: &[ProbeReport]) {
    let mut heading =
        vec!["probe", "before", "during", "p50", "p99", "downtime", "detected", "recovered"];
    // Most probes observe none.
    let has_values = probes.iter().any(|probe| probe.value.is_some());
    heading.extend(has_values.then_some("value"));
    let mut rows: Vec<Vec<String>> = vec![heading.into_iter().map(str::to_owned).collect()];
    for probe in probes {
        let or_dash = |ms: Option<f64>| ms.map_or("-".to_owned(), |ms| time(from_ms(ms)));
        let downtime = &probe.downtime;
        let down = match (downtime.outages, downtime.ongoing) {
            (0, _) => "none".to_owned(),
            (_, ongoing) => format!(
                "{} ± {}{}",
                time(from_ms(downtime.total_ms)),
                time(from_ms(downtime.uncertainty_ms)),
                if ongoing { ", not over" } else { "" }
            ),
        };
        let role = if probe.is_load { " (load)" } else { "" };
        let mut row = vec![
            format!("{}{role}", probe.name),
            share(probe, &probe.steady, "steady"),
            share(probe, &probe.during, "during"),
            quantile(probe, "p50", |latency| latency.p50_ms),
            quantile(probe, "p99", |latency| latency.p99_ms),
            down,
            or_dash(probe.time_to_detect_ms),
            format!(
                "{}{}",
                or_dash(probe.time_to_recover_ms),
                mark(probe, &["recovery"], "recovery")
            ),
        ];
        row.extend(has_values.then(|| values(probe)));
        rows.push(row);
    }
    let width =
        |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..rows[0].len()).map(width).collect();
    for row in rows {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        line(out, format!("  {}", cells.collect::<Vec<_>>().join("  ")).trim_end());
    }
    let moves = probes.iter().flat_map(|probe| probe.moves.iter().map(move |one| (probe, one)));
    for (probe, one) in moves.clone().take(PODS_MAX) {
        let MoveReport { pod, instead_of, since_ms } = one;
        let (name, since) = (&probe.name, time(from_ms(*since_ms)));
        line(out, &format!("      {name}: from {pod} in the place of {instead_of}, since {since}"));
    }
    let more = moves.count().saturating_sub(PODS_MAX);
    if more > 0 {
        line(out, &format!("      and {more} more, in run.json"));
    }
}

/// Every time that a pod was lost.
fn pods(out: &mut String, pods: &[PodReport]) {
    for pod in pods.iter().take(PODS_MAX) {
        line(out, &format!("  {}", super::pod::sentence(pod)));
    }
    if pods.len() > PODS_MAX {
        line(out, &format!("  and {} more, in run.json", pods.len() - PODS_MAX));
    }
}

/// What stands behind a figure that is not as it was asked in one of these windows.
fn mark(probe: &ProbeReport, windows: &[&str], figure: &str) -> &'static str {
    let mut asked = windows.iter().filter_map(|window| probe.figure(window, figure));
    if asked.any(|figure| figure.outcome.is_bad()) { " (!)" } else { "" }
}

/// Of the attempts that succeeded, before and during the fault: `1.6 → 3.8 ms`.
fn quantile(probe: &ProbeReport, name: &str, pick: impl Fn(&LatencyReport) -> f64) -> String {
    let of = |window: &WindowReport| window.latency.as_ref().map(|l| time(from_ms(pick(l))));
    let mark = mark(probe, &["steady", "during"], name);
    match (of(&probe.steady), of(&probe.during)) {
        (None, None) => format!("-{mark}"),
        (before, during) => {
            let [before, during] = [before, during].map(|time| time.unwrap_or_else(|| "-".into()));
            // One unit for both is enough.
            let unit = during.split_once(' ').map_or("", |(_, unit)| unit);
            let before = before.strip_suffix(unit).map_or(before.as_str(), str::trim_end);
            format!("{before} → {during}{mark}")
        }
    }
}

/// The last ones before, during and after the fault: `41 → 41 → 42`.
fn values(probe: &ProbeReport) -> String {
    let Some(ValueReport { before, during, after }) = &probe.value else { return "-".into() };
    let shown = [before, during, after].map(|value| {
        let line = value.as_deref().unwrap_or("-").lines().next().unwrap_or("");
        match line.char_indices().nth(VALUE_CHARS_MAX) {
            Some((end, _)) => format!("{}…", &line[..end]),
            None => line.to_owned(),
        }
    });
    format!("{}{}", shown.join(" → "), mark(probe, &["during", "recovery"], "value"))
}

fn share(probe: &ProbeReport, share: &WindowReport, window: &str) -> String {
    let mark = mark(probe, &[window], "success");
    if share.attempts == 0 {
        return format!("-{mark}");
    }
    // Rounded down to a tenth: 99.99 % is not all of them.
    let tenths = u128::from(share.successes) * 1000 / u128::from(share.attempts);
    match tenths % 10 {
        0 => format!("{} %{mark}", tenths / 10),
        tenth => format!("{}.{tenth} %{mark}", tenths / 10),
    }
}

fn verdict(out: &mut String, report: &Report) {
    let colour = |colour: AnsiColor| Style::new().fg_color(Some(colour.into())).bold();
    let untouched = report.injections.is_empty();
    let (style, word) = match report.verdict {
        // Nothing was looked at, so nothing can have held.
        Verdict::Held if report.probes.is_empty() => (colour(AnsiColor::Green), "DONE"),
        Verdict::Held => (colour(AnsiColor::Green), "HELD"),
        Verdict::Deviated => (colour(AnsiColor::Red), "DEVIATED"),
        Verdict::Refused if untouched => {
            (colour(AnsiColor::Yellow), "REFUSED, nothing was changed")
        }
        Verdict::Refused => (colour(AnsiColor::Yellow), "REFUSED, everything is reverted"),
        Verdict::Interrupted if untouched => {
            (colour(AnsiColor::Yellow), "INTERRUPTED, nothing was changed")
        }
        Verdict::Residue => (colour(AnsiColor::Red), "RESIDUE, a revert is not proven"),
        Verdict::Interrupted => (colour(AnsiColor::Yellow), "INTERRUPTED, everything is reverted"),
        Verdict::Unfinished => (colour(AnsiColor::Red), "UNFINISHED, there is no verdict"),
    };
    line(out, &format!("  {style}{word}{style:#}  {}", report.experiment));
    if let Some(hypothesis) = &report.hypothesis {
        line(out, &format!("  {hypothesis}"));
    }
    for reason in &report.reasons {
        line(out, &format!("    - {reason}"));
    }
    if let Some(text) = report.stopped.as_ref().and_then(super::StopReport::text) {
        line(out, &format!("    - {text}"));
    }
    for pod in &report.not_followed {
        line(out, &format!("    - {pod}"));
    }
    for residue in &report.residue {
        line(out, &format!("    - left: {residue}"));
    }
    let again = format!("seed {} gives the same choices again", report.seed);
    line(
        out,
        &format!("  run {} took {}; {again}", report.run_id, time(from_ms(report.duration_ms))),
    );
}

/// One line; what has lines of its own, the end of a log say, is further to the right.
fn line(out: &mut String, text: &str) {
    let spaces = text.len() - text.trim_start_matches(' ').len();
    out.push_str(&text.trim_end().replace('\n', &format!("\n{:1$}", "", spaces + 2)));
    out.push('\n');
}

fn from_ms(ms: f64) -> Duration {
    Duration::try_from_secs_f64(ms / 1e3).unwrap_or_default()
}
