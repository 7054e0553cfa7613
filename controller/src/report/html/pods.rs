//! The pods that were lost, and how long each took to come back.

use maud::{Markup, html};

use super::{ROWS_MAX, ms, ms_or_dash, tables::more};
use crate::report::{PodReport, Report};

/// Each time that a pod was lost; nothing where none was.
pub(super) fn section(report: &Report) -> Markup {
    if report.pods.is_empty() {
        return html! {};
    }
    html! {
        section {
            h2 { "Pods" }
            p.soft { "Counted from when each was seen to be lost." }
            table.cards {
                thead { tr {
                    th scope="col" { "pod" } th scope="col" { "lost" }
                    th.n scope="col" { "recreated after" } th.n scope="col" { "scheduled after" }
                    th.n scope="col" { "ready after" } th.n scope="col" { "±" } th.n scope="col" { "restarts" }
                } }
                tbody { @for pod in report.pods.iter().take(ROWS_MAX) { (row(pod)) } }
            }
            (more(report.pods.len()))
        }
    }
}

fn row(pod: &PodReport) -> Markup {
    let ready = if pod.time_to_ready_ms.is_some() { "n good" } else { "n bad" };
    html! {
        tr {
            th scope="row" {
                (pod.who())
                small { (pod.targets.join(", ")) @if let Some(node) = &pod.node { " on " (node) } }
            }
            td data-label="lost" { (pod.how()) " at " (ms(pod.lost_at_ms)) }
            td.n data-label="recreated after" { (ms_or_dash(pod.time_to_recreated_ms)) }
            td.n data-label="scheduled after" { (ms_or_dash(pod.time_to_scheduled_ms)) }
            td class=(ready) data-label="ready after" { (ms_or_dash(pod.time_to_ready_ms)) }
            td.n data-label="±" { (ms(pod.uncertainty_ms)) }
            td.n data-label="restarts" { (pod.restarts) }
        }
    }
}
