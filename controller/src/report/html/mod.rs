//! A report as one page: no script, no network, nothing beside it. Light and dark, on a phone and on
//! paper. Everything that is not ours is escaped.

mod asked;
mod chart;
mod events;
mod pods;
mod tables;
mod timeline;

use std::time::Duration;

use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::{Report, Verdict, journal::Line, time, utc};

/// Shown of a list that may be of any length.
const ROWS_MAX: usize = 500;

/// The page of a run.
pub(super) fn page(report: &Report, lines: &[Line]) -> String {
    let title = format!("{}: {}", report.experiment, report.verdict.name());
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                // Whatever is in the text: nothing is loaded and nothing is run.
                meta http-equiv="Content-Security-Policy"
                    content="default-src 'none'; style-src 'unsafe-inline'";
                title { (title) }
                style { (PreEscaped(include_str!("style.css"))) }
            }
            body {
                (head(report))
                main {
                    (timeline::section(report))
                    (asked::section(report))
                    (tables::injections(report))
                    (tables::recovery(report))
                    (pods::section(report))
                    (tables::windows(report))
                    (tables::residue(report))
                    (events::section(lines))
                    (tables::environment(report))
                }
                footer {
                    "Written by faultline " (report.environment.faultline_version) " from the run's journal. "
                    "Times are counted from the beginning of the run on a monotonic clock."
                }
            }
        }
    }
    .into_string()
}

/// The verdict first, then what was expected, then why.
fn head(report: &Report) -> Markup {
    let (class, word, means) = verdict(report);
    let (first, others) =
        report.reasons.split_first().map_or((None, &[][..]), |(a, b)| (Some(a), b));
    html! {
        header class=(class) {
            p.verdict { span.badge { (word) } " " span.means { (means) } }
            h1 { (report.experiment) }
            @if let Some(hypothesis) = &report.hypothesis {
                p.hypothesis { (hypothesis) }
            }
            @if let Some(reason) = first {
                p.reason { (reason.trim_end()) }
            }
            @if !others.is_empty() {
                details {
                    summary { (super::counted(others.len(), "further reason")) }
                    ul { @for reason in others.iter().take(ROWS_MAX) { li { (reason.trim_end()) } } }
                }
            }
            dl.facts {
                (fact("run", &report.run_id))
                (fact("began", &utc(Duration::from_secs(report.started_unix_seconds))))
                (fact("took", &ms(report.duration_ms)))
                (fact("faults", &report.injections.len().to_string()))
                @if let Some(downtime) = &report.downtime {
                    (fact("downtime", &tables::downtime(downtime)))
                }
                (fact("residue", if tables::is_clean(report) { "none" } else { "see below" }))
            }
        }
    }
}

fn fact(name: &str, value: &str) -> Markup {
    html! { div { dt { (name) } dd { (value) } } }
}

/// How a verdict looks, its word, and what it means.
fn verdict(report: &Report) -> (&'static str, &'static str, String) {
    let untouched = report.injections.is_empty();
    let (class, word, means) = match report.verdict {
        Verdict::Held if report.probes.is_empty() && report.assertions.is_empty() => {
            ("good", "Done", "nothing was asked")
        }
        Verdict::Held => return ("good", "Held", held(report)),
        Verdict::Deviated => ("bad", "Deviated", "it is not as it was expected"),
        Verdict::Refused if untouched => ("warn", "Refused", "nothing was changed"),
        Verdict::Refused => ("warn", "Refused", "everything is reverted"),
        Verdict::Residue => ("bad", "Residue", "a revert is not proven"),
        Verdict::Interrupted if untouched => ("warn", "Interrupted", "nothing was changed"),
        Verdict::Interrupted => ("warn", "Interrupted", "everything is reverted"),
        Verdict::Unfinished => ("bad", "Unfinished", "there is no verdict"),
    };
    (class, word, means.into())
}

/// What held: no more than was asked and seen.
fn held(report: &Report) -> String {
    let asks = |window: &str| {
        report.probes.iter().flat_map(|probe| &probe.bounds).any(|bound| bound.window == window)
    };
    let held = if asks("during") || asks("recovery") || !report.assertions.is_empty() {
        "the hypothesis held"
    } else {
        "nothing was asked of the time of the fault"
    };
    let failing = report.probes.iter().filter(|probe| probe.downtime.ongoing);
    let failing: Vec<&str> = failing.map(|probe| probe.name.as_str()).collect();
    match failing.as_slice() {
        [] if asks("recovery") => format!("{held}, and the system recovered"),
        [] => held.into(),
        names => format!("{held}; {} still failed, and nothing more was asked", names.join(", ")),
    }
}

/// A number of milliseconds, for a person.
fn ms(ms: f64) -> String {
    time(Duration::try_from_secs_f64(ms / 1e3).unwrap_or_default())
}

/// The same, or a dash.
fn ms_or_dash(value: Option<f64>) -> String {
    value.map_or_else(|| "–".into(), ms)
}
