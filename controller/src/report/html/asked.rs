//! What was asked, of probes and of the run, and what became of it.

use maud::{Markup, html};

use super::{ROWS_MAX, tables};
use crate::report::{AssertionReport, Outcome, ProbeReport, Report};

/// One thing that was asked.
struct Row {
    asked: String,
    was: String,
    /// Of which probe and when, or where it is written.
    place: String,
    outcome: Outcome,
}

/// The section; nothing where nothing was asked.
pub(super) fn section(report: &Report) -> Markup {
    let of_probes = report.probes.iter().flat_map(of_probe);
    let rows: Vec<Row> = of_probes.chain(report.assertions.iter().map(of_assertion)).collect();
    if rows.is_empty() {
        return html! {};
    }
    html! {
        section {
            h2 { "Asked" }
            table.cards {
                thead { tr {
                    th scope="col" { "asked" } th scope="col" { "was" } th scope="col" { "where" }
                    th scope="col" { "outcome" }
                } }
                tbody {
                    @for row in rows.iter().take(ROWS_MAX) {
                        tr {
                            th scope="row" { (row.asked) }
                            td.wide data-label="was" { (row.was) }
                            td.wide data-label="where" { (row.place) }
                            td class={ "word " (class(row.outcome)) } data-label="outcome" {
                                (row.outcome.name())
                            }
                        }
                    }
                }
            }
            (tables::more(rows.len()))
        }
    }
}

fn of_probe(probe: &ProbeReport) -> impl Iterator<Item = Row> {
    probe.bounds.iter().flat_map(move |bound| {
        bound.figures.iter().map(move |figure| {
            let why = bound.why.join("; ");
            let was = match (&figure.was, figure.outcome) {
                (_, Outcome::NotJudged) => "the run ended before".into(),
                (None, Outcome::Held) => "as it was asked".into(),
                // The last value may be right again.
                (Some(was), outcome) if !outcome.is_bad() || figure.figure != "value" => {
                    was.clone()
                }
                _ => why,
            };
            Row {
                asked: format!("{} {}", figure.figure, figure.bound),
                was,
                place: format!("probe {}, {}", probe.name, bound.shown()),
                outcome: figure.outcome,
            }
        })
    })
}

fn of_assertion(assertion: &AssertionReport) -> Row {
    let by = assertion.probe.as_ref().map(|probe| format!(" ({probe})")).unwrap_or_default();
    let was = assertion.was.strip_prefix("was ").unwrap_or(&assertion.was);
    Row {
        asked: assertion.asked.clone(),
        was: format!("{was}{by}"),
        place: assertion.place.clone(),
        outcome: assertion.outcome,
    }
}

fn class(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Held => "good",
        Outcome::Deviated | Outcome::Inconclusive => "bad",
        Outcome::NotJudged => "warn",
    }
}
