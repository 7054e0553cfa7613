//! What a run came to, from its journal alone.

use super::{Event, Journal, Line, unfinished};
use crate::report::{Report, cleaned};

/// A run, as its journal tells it.
#[derive(Debug, Clone)]
pub struct Rebuilt {
    /// What it came to; if it has no end, what was known when it was ended.
    pub report: Report,
    /// What happened, in order, without the attempts of probes.
    pub events: Vec<Line>,
    /// What is to be said beside it.
    pub remarks: Vec<String>,
    /// The run still goes on.
    pub is_live: bool,
}

/// Makes of a journal what the run came to.
pub fn rebuild(journal: Journal) -> Rebuilt {
    let mut report = None;
    let mut ended = None;
    let mut remarks = Vec::new();
    let mut lost = 0;
    for line in &journal.lines {
        match &line.event {
            Event::Verdict(verdict) => report = Some(verdict.as_ref().clone()),
            Event::Ended { residue } => ended = Some(residue.clone()),
            Event::Lost { samples } => lost += samples,
            _ => {}
        }
    }
    remarks.extend(journal.left_out.clone());
    if lost > 0 {
        remarks.push(format!(
            "{lost} attempts of probes are missing in it: the disk was too slow or too full"
        ));
    }
    let report = match (report, ended) {
        (Some(mut report), Some(residue)) => {
            report.add_residue(residue);
            report
        }
        (Some(report), None) if journal.is_live => {
            remarks.push("the run is still leaving its place".into());
            report
        }
        (Some(report), None) => {
            remarks.push(
                "the journal ends with the verdict: the controller was ended before it had left the place; \
                 what is left of a sandbox is swept by the next one"
                    .into(),
            );
            report
        }
        (None, _) => cleaned(unfinished::report(&journal)),
    };
    let is_live = journal.is_live;
    let is_told = |line: &Line| !matches!(line.event, Event::Sample(_) | Event::Alive);
    let events = journal.lines.into_iter().filter(is_told).collect();
    Rebuilt { report, events, remarks, is_live }
}
