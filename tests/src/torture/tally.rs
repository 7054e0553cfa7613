//! What all rounds came to: a table by fault kind and action, and how late effects ended.

use std::{collections::BTreeMap, time::Duration};

use super::{action::Action, round::Outcome};

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
    /// By what ends the effect: how much later than its lease, in microseconds.
    late_us: BTreeMap<&'static str, Vec<i64>>,
    /// By step: rounds, deaths there, failures.
    steps: BTreeMap<&'static str, [u64; 3]>,
    committed: u64,
    faults: u64,
}

impl Tally {
    /// Takes a round in.
    pub(super) fn add(&mut self, outcome: &Outcome) {
        self.rounds += 1;
        let failed = u64::from(!outcome.problems.is_empty());
        self.failures += failed;
        for fault in &outcome.plan.faults {
            let cell = self.cells.entry((fault.kind, outcome.plan.action)).or_default();
            cell.rounds += 1;
            cell.failures += failed;
        }
        if let Some(step) = outcome.plan.step {
            let of_step = self.steps.entry(step.name).or_default();
            for (total, more) in of_step.iter_mut().zip([1, u64::from(outcome.died), failed]) {
                *total += more;
            }
        }
        self.faults += u64::try_from(outcome.plan.faults.len()).unwrap_or(0);
        self.committed += outcome.committed;
        for why in &outcome.refused {
            *self.refused.entry(why.clone()).or_default() += 1;
        }
        for (what, late_us) in &outcome.late_us {
            self.late_us.entry(what).or_default().push(*late_us);
        }
    }

    /// Rounds that failed.
    pub(super) fn failures(&self) -> u64 {
        self.failures
    }

    /// Prints it.
    pub(super) fn print(&mut self, took: Duration) {
        let took = took.as_secs_f64();
        println!(
            "\n{} rounds in {took:.0} s, {} failed; {} faults asked for, {} known to be committed",
            self.rounds, self.failures, self.faults, self.committed
        );
        println!("\n{:16} {:20} {:>8} {:>8}", "fault", "action", "rounds", "failed");
        for ((kind, action), cell) in &self.cells {
            println!("{kind:16} {action:20} {:8} {:8}", cell.rounds, cell.failures);
        }
        println!("\n{:36} {:>8} {:>8} {:>8}", "agent dies at", "rounds", "reached", "failed");
        for (step, [rounds, reached, failed]) in &self.steps {
            println!("{step:36} {rounds:8} {reached:8} {failed:8}");
        }
        println!();
        for (why, times) in &self.refused {
            println!("not injected: {times:6} times: {why}");
        }
        println!("\neffect ended - lease ended, in ms (negative: before)");
        for (what, values) in &mut self.late_us {
            values.sort_unstable();
            let at = |percent: usize| millis(values[(values.len() - 1) * percent / 100]);
            println!(
                "{what:20} {:6} times   min {:8.1}   p50 {:8.1}   p99 {:8.1}   max {:8.1}",
                values.len(),
                at(0),
                at(50),
                at(99),
                at(100)
            );
        }
    }
}

/// For a person: microseconds as milliseconds.
fn millis(micros: i64) -> f64 {
    // Hours of microseconds fit.
    f64::from(i32::try_from(micros).unwrap_or(i32::MAX)) / 1e3
}
