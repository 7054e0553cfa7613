//! The events of a page: the journal without the attempts of probes, each as a sentence.

use maud::{Markup, html};

use super::{ROWS_MAX, ms};
use crate::report::{
    counted,
    journal::{Event, Line},
};

/// What happened, in order; nothing where the journal is not there.
pub(super) fn section(lines: &[Line]) -> Markup {
    let said: Vec<(f64, &'static str, String)> = lines
        .iter()
        .filter_map(|line| {
            let (what, text) = say(&line.event)?;
            Some((line.at_ms, what, text))
        })
        .collect();
    if said.is_empty() {
        return html! {};
    }
    html! {
        section {
            h2 { "Events" }
            ol.events {
                @for (at, what, text) in said.iter().take(ROWS_MAX) {
                    li { span.at { (ms(*at)) } span.what { (what) } span.text { (text) } }
                }
            }
            @if said.len() > ROWS_MAX {
                p.soft { "and " (said.len() - ROWS_MAX) " more in journal.jsonl" }
            }
        }
    }
}

/// A heading and a sentence; `None` for what is told elsewhere on the page.
fn say(event: &Event) -> Option<(&'static str, String)> {
    let faults = |faults: &[String]| match faults {
        [one] => one.clone(),
        several => counted(several.len(), "fault"),
    };
    Some(match event {
        Event::Begun(begun) => ("begun", format!("{} in {}", begun.experiment, begun.place)),
        Event::Target { name, chosen } => ("target", format!("{name}: {}", chosen.join(", "))),
        Event::Agent(agent) => ("agent", format!("{}, {}", agent.node, agent.version)),
        Event::Phase { phase, step } => {
            let step = step.map(|step| format!(" of step {step}")).unwrap_or_default();
            ("phase", format!("{}{step}", phase.name()))
        }
        Event::Prepared(p) => {
            ("prepared", format!("{} of {} on {} ({})", p.kind, p.target, p.node, p.fault))
        }
        Event::Ordered { faults: ids } => ("ordered", faults(ids)),
        Event::Committed { fault, injected_ms } => {
            ("injected", format!("{fault}, at {}", ms(*injected_ms)))
        }
        Event::Proven { fault, evidence, .. } => ("effect", format!("{fault}: {evidence}")),
        Event::NoEffect { fault, why } => ("no effect", format!("{fault}: {why}")),
        Event::Amended { fault } => ("changed", format!("{fault}, with its targets, proven")),
        Event::RenewalFailed { node, why } => ("renewal", format!("{node}: {why}")),
        Event::RevertAsked { faults: ids } => ("revert", faults(ids)),
        Event::Reverted { fault, reason, .. } => {
            let reason = reason.as_ref().map(|r| format!(" ({r})")).unwrap_or_default();
            ("reverted", format!("{fault}: proven, nothing is left{reason}"))
        }
        Event::Deviation { phase, text } => ("deviation", format!("{phase}: {text}")),
        Event::Residue { text } => ("residue", text.clone()),
        Event::Stopped { reasons } => ("stopped", reasons.join("; ")),
        Event::Full { why } => ("full", format!("the disk has no room for everything: {why}")),
        Event::Lost { samples } => ("lost", format!("{samples} attempts of probes are missing")),
        Event::Verdict(report) => ("verdict", report.verdict.name().into()),
        Event::Ended { residue } if residue.is_empty() => ("ended", "the place was left".into()),
        Event::Ended { residue } => ("ended", format!("left: {}", residue.join("; "))),
        Event::Moved { probe, pod, instead_of, since_ms } => {
            let at = ms(*since_ms);
            ("observe", format!("{probe}: from {pod} in the place of {instead_of}, since {at}"))
        }
        Event::Pod { pod, .. } => {
            let ready = pod.time_to_ready_ms.map(|after| format!(", ready after {}", ms(after)));
            ("pod", format!("{} {}{}", pod.who(), pod.how(), ready.unwrap_or_default()))
        }
        Event::Injection(_) | Event::Sample(_) | Event::Alive => return None,
    })
}
