//! What all rounds came to: a table by fault kind and action, one by step, and how late effects ended.

use std::{collections::BTreeMap, time::Duration};

use faultline_proto::fault::{EndedBy, Observable};

use super::{action::Action, round::Outcome, verdict::millis};

/// Rounds and those of them that failed.
#[derive(Debug, Clone, Copy, Default)]
struct Cell {
    rounds: u64,
    failures: u64,
}

/// The rounds so far.
#[derive(Debug, Default)]
pub(super) struct Tally {
    rounds: u64,
    failures: u64,
    cells: BTreeMap<(&'static str, Action), Cell>,
    refused: BTreeMap<String, u64>,
    /// How much later than its lease an effect ended, in microseconds.
    late_us: BTreeMap<(Observable, EndedBy), Vec<i64>>,
    spread_us: Vec<i64>,
    /// By step: rounds, deaths there, failures.
    steps: BTreeMap<&'static str, [u64; 3]>,
    committed: u64,
    faults: u64,
    together: u64,
    spoiled: u64,
}

impl Tally {
    /// Takes a round in.
    pub(super) fn add(&mut self, outcome: &Outcome) {
        let plan = &outcome.plan;
        self.rounds += 1;
        let failed = u64::from(!outcome.problems.is_empty());
        self.failures += failed;
        for fault in &plan.faults {
            let cell = self.cells.entry((fault.kind, plan.action)).or_default();
            cell.rounds += 1;
            cell.failures += failed;
        }
        if let Some(step) = plan.step {
            let of_step = self.steps.entry(step.name).or_default();
            for (total, more) in of_step.iter_mut().zip([1, u64::from(outcome.died), failed]) {
                *total += more;
            }
        }
        self.together += u64::from(plan.together);
        self.spoiled += u64::from(plan.spoiled_on.is_some());
        self.faults += u64::try_from(plan.faults.len()).unwrap_or(0);
        self.committed += outcome.committed;
        for why in &outcome.refused {
            *self.refused.entry(why.clone()).or_default() += 1;
        }
        for (what, late_us) in &outcome.late {
            self.late_us.entry(*what).or_default().push(*late_us);
        }
        self.spread_us.extend(outcome.spread_us);
    }

    /// Rounds played.
    pub(super) fn rounds(&self) -> u64 {
        self.rounds
    }

    /// Rounds that failed.
    pub(super) fn failures(&self) -> u64 {
        self.failures
    }

    /// Prints it.
    pub(super) fn print(&mut self, took: Duration) {
        let took = took.as_secs_f64();
        println!("\n{:16} {:24} {:>8} {:>8}", "fault", "action", "faults", "failed");
        for ((kind, action), cell) in &self.cells {
            println!("{kind:16} {action:24} {:8} {:8}", cell.rounds, cell.failures);
        }
        println!("\n{:36} {:>8} {:>8} {:>8}", "dies at", "rounds", "reached", "failed");
        for (step, [rounds, reached, failed]) in &self.steps {
            println!("{step:36} {rounds:8} {reached:8} {failed:8}");
        }
        println!();
        for (why, times) in &self.refused {
            println!("not done: {times:6} times: {why}");
        }
        println!("\neffect ended - lease ended, in ms (negative: before)");
        for ((seen_by, ended_by), values) in &mut self.late_us {
            let ended_by = match ended_by {
                EndedBy::Kernel => "kernel",
                EndedBy::Holder => "holder",
            };
            distribution(&format!("{seen_by:?} by {ended_by}"), values);
        }
        println!("\nbetween the Commits of one run on two nodes, in ms");
        distribution("Commit", &mut self.spread_us);
        println!(
            "\n{} rounds in {took:.0} s, {} failed; {} faults asked for, {} known to be committed; \
             {} rounds of one run, {} of them to be refused",
            self.rounds, self.failures, self.faults, self.committed, self.together, self.spoiled
        );
    }
}

fn distribution(what: &str, values: &mut [i64]) {
    values.sort_unstable();
    let at = |permille: usize| {
        let index = values.len().saturating_sub(1) * permille / 1000;
        values.get(index).map_or(f64::NAN, |value| millis(*value))
    };
    println!(
        "{what:22} {:6} times   min {:7.1}   p50 {:7.1}   p90 {:7.1}   p99 {:7.1}   p99.9 {:7.1}   \
         max {:7.1}",
        values.len(),
        at(0),
        at(500),
        at(900),
        at(990),
        at(999),
        at(1000)
    );
}
