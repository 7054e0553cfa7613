//! What was asked, of probes and of the run, and what became of it.

use maud::{Markup, html};

use super::ROWS_MAX;
use crate::report::{Outcome, Report};

/// The section; nothing where nothing was asked.
pub(super) fn section(report: &Report) -> Markup {
    let bounds = report.probes.iter().flat_map(|probe| {
        probe.bounds.iter().map(move |bound| {
            let name = format!("probe {}, {}", probe.name, bound.shown());
            let was = match bound.outcome {
                Outcome::Held => "as it was asked".into(),
                Outcome::NotJudged => "the run ended before".into(),
                Outcome::Deviated | Outcome::Inconclusive => bound.why.join("; "),
            };
            (name, String::new(), was, bound.outcome)
        })
    });
    let assertions = report.assertions.iter().map(|assertion| {
        let by = assertion.probe.as_ref().map(|probe| format!(" ({probe})")).unwrap_or_default();
        let was = assertion.was.strip_prefix("was ").unwrap_or(&assertion.was);
        let was = format!("{was}{by}");
        (assertion.asked.clone(), assertion.place.clone(), was, assertion.outcome)
    });
    let rows: Vec<_> = bounds.chain(assertions).take(ROWS_MAX).collect();
    if rows.is_empty() {
        return html! {};
    }
    html! {
        section {
            h2 { "Asked" }
            table.cards {
                thead { tr {
                    th scope="col" { "what" } th scope="col" { "was" } th scope="col" { "outcome" }
                } }
                tbody {
                    @for (asked, place, was, outcome) in &rows {
                        tr {
                            th scope="row" { (asked) @if !place.is_empty() { small { (place) } } }
                            td.wide data-label="was" { (was) }
                            td class={ "word " (class(*outcome)) } data-label="outcome" { (outcome.name()) }
                        }
                    }
                }
            }
        }
    }
}

fn class(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Held => "good",
        Outcome::Deviated | Outcome::Inconclusive => "bad",
        Outcome::NotJudged => "warn",
    }
}
