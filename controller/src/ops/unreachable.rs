//! Nodes whose agent cannot be reached, and until when at most their faults last.
//!
//! No agent has to be asked for that: a fault ends with its lease, and no lease is longer than the
//! contract allows. Where the agent said what it held before it fell silent, its leases are known.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use faultline_proto::{boottime::BootTime, limits::LEASE_MAX, pb, status::State};
use serde::Serialize;

use crate::{
    agents::{Agent, AgentError},
    report::{millis, time},
    run::one_line,
};

/// A node that could not be asked.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Unreachable {
    /// The node.
    pub node: String,
    /// Why not.
    pub reason: String,
    /// When its faults end by themselves, if nobody renews them; `None`: it held none when it was last
    /// asked.
    pub faults_end: Option<FaultsEnd>,
    /// It was to be halted, and did not say that it is.
    pub needs_halt: bool,
}

/// The end of the last lease of a node, if nobody renews it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct FaultsEnd {
    /// From now on.
    pub in_ms: f64,
    /// Milliseconds since the beginning of 1970 in UTC, by the clock of this machine.
    pub at_unix_ms: u64,
    /// Whether the agent said so before it fell silent. Otherwise it is the longest there can be.
    pub is_known: bool,
}

impl Unreachable {
    /// What is to be said of the node of an agent that did not answer; `held` is what it said of its
    /// injections before, where it did.
    pub(super) fn new(error: &AgentError, held: Option<(&Agent, &[pb::InjectionStatus])>) -> Self {
        let faults_end = match held {
            Some((agent, held)) => last_lease(agent, held).map(|left| FaultsEnd::new(left, true)),
            None => Some(FaultsEnd::new(LEASE_MAX, false)),
        };
        let (node, reason) = (error.node().to_owned(), one_line(error));
        Self { node, reason, faults_end, needs_halt: false }
    }

    /// For a person, in lines.
    pub(super) fn lines(&self) -> Vec<String> {
        let mut lines = vec![format!("not reached: {}", self.reason)];
        lines.push(match &self.faults_end {
            None => "    it held no fault when it was last asked".into(),
            Some(end) => {
                let at = format!("{} (in {})", clock_time(end.at_unix_ms), time(end.left()));
                if end.is_known {
                    format!("    its last lease ends at {at}, if nobody renews it")
                } else {
                    format!("    what it holds ends by {at} at the latest, if nobody renews it")
                }
            }
        });
        if self.needs_halt {
            lines.push("    it did not say that it is halted: halt again when it is back".into());
        }
        lines
    }
}

impl FaultsEnd {
    fn new(left: Duration, is_known: bool) -> Self {
        let at = (SystemTime::now() + left).duration_since(UNIX_EPOCH).unwrap_or_default();
        let at_unix_ms = u64::try_from(at.as_millis()).unwrap_or(u64::MAX);
        Self { in_ms: millis(left), at_unix_ms, is_known }
    }

    fn left(&self) -> Duration {
        Duration::from_secs_f64(self.in_ms / 1e3)
    }
}

/// Until the last of the leases ends; `None` where there is none. What is only prepared is not in a
/// kernel.
fn last_lease(agent: &Agent, held: &[pb::InjectionStatus]) -> Option<Duration> {
    let in_kernel = |status: &&pb::InjectionStatus| {
        let state = State::from_wire(status.state);
        matches!(state, Some(State::Injecting | State::Active | State::Reverting | State::Stuck))
    };
    let ends = held.iter().filter(in_kernel).map(|status| status.lease_end_boottime_ns);
    let last = ends.max().map(|end| agent.clock().to_here(BootTime::from_nanos(end)))?;
    Some(last.saturating_duration_since(Instant::now()))
}

/// The time of day in UTC: whoever reads this may be in another time zone than whoever ran it.
fn clock_time(unix_ms: u64) -> String {
    let second = unix_ms / 1000 % 86_400;
    format!("{:02}:{:02}:{:02} UTC", second / 3600, second / 60 % 60, second % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_an_answer_the_longest_lease_there_can_be_is_told() {
        let error = AgentError::Missing { node: "node1".into(), why: None };
        let unreachable = Unreachable::new(&error, None);
        let end = unreachable.faults_end.expect("it may hold something");
        assert_eq!((end.left(), end.is_known), (LEASE_MAX, false));
        let text = unreachable.lines().join("\n");
        assert!(text.contains(" UTC (in 5.0 min) at the latest, if nobody renews it"), "{text}");
    }

    #[test]
    fn times_of_day_are_those_of_utc() {
        assert_eq!(clock_time(0), "00:00:00 UTC");
        assert_eq!(clock_time(86_399_999), "23:59:59 UTC");
        assert_eq!(clock_time(1_000_000_000_000), "01:46:40 UTC");
    }
}
