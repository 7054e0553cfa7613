//! What is counted of faults that come and go.

use std::time::Duration;

use faultline_agent::{kernel::clock, supervisor::When};
use faultline_proto::{fault::Fault, status::State};
use faultline_tests::process::one_at_a_time;

use super::{Node, Victim, cut};

fn value(text: &str, series: &str) -> f64 {
    let line = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("{series} is not in\n{text}")).parse().expect("a number")
}

#[test]
fn a_fault_is_counted_while_it_is_in_effect_and_once_when_it_is_over() {
    let _one = one_at_a_time();
    let Some(victim) = Victim::new() else { return };
    let node = Node::new();
    let id = node.inject(&victim.target, Fault::Partition(cut()));
    let text = node.metrics();
    assert!(
        (value(&text, "faultline_agent_injections_active{kind=\"partition\"}") - 1.0).abs() < 1e-9,
        "{text}"
    );
    assert!((value(&text, "faultline_agent_journal_records") - 1.0).abs() < 1e-9, "{text}");
    let left = value(&text, "faultline_agent_lease_seconds_left");
    assert!((1.0..=30.0).contains(&left), "of 30 s: {left}");

    assert_eq!(node.revert(id).state, State::Reverted);
    assert_eq!(node.revert(id).state, State::Reverted);
    let text = node.metrics();
    for (series, expected) in [
        ("faultline_agent_injections_active{kind=\"partition\"}", 0.0),
        ("faultline_agent_journal_records", 0.0),
        ("faultline_agent_reverts_total{kind=\"partition\",reason=\"asked\"}", 1.0),
        ("faultline_agent_revert_duration_seconds_count{kind=\"partition\"}", 1.0),
        ("faultline_agent_revert_failures_total{kind=\"partition\"}", 0.0),
    ] {
        assert!(
            (value(&text, series) - expected).abs() < 1e-9,
            "{series} is not {expected}\n{text}"
        );
    }
    let of = |result: &str| {
        value(
            &text,
            &format!("faultline_agent_injections_total{{kind=\"partition\",result=\"{result}\"}}"),
        )
    };
    assert!((of("proven") + of("unproven") - 1.0).abs() < 1e-9, "one, however it was seen\n{text}");
    let seen = value(&text, "faultline_agent_time_to_effect_seconds_count{kind=\"partition\"}");
    assert!((seen - of("proven")).abs() < 1e-9, "{text}");
    assert!(!text.contains("lease_seconds_left"), "nothing is in effect\n{text}");
}

#[test]
fn what_was_never_committed_took_no_time_to_revert() {
    let _one = one_at_a_time();
    let Some(victim) = Victim::new() else { return };
    let node = Node::new();
    let id = node.prepare(&victim.target, Fault::Partition(cut())).expect("prepared");
    let past = clock::now();
    std::thread::sleep(Duration::from_millis(5));
    let refused = node.commit(id, When { at: None, not_after: Some(past) }).expect_err("too late");
    assert!(refused.contains("given up"), "{refused}");
    assert_eq!(node.revert(id).state, State::Reverted);
    let text = node.metrics();
    let reverted = "faultline_agent_reverts_total{kind=\"partition\",reason=\"asked\"} 1\n";
    assert!(text.contains(reverted), "{text}");
    let took = "faultline_agent_revert_duration_seconds_count{kind=\"partition\"} 0\n";
    assert!(text.contains(took), "the kernel was never touched\n{text}");
}
