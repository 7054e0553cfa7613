//! A commit that comes too late: nobody waits for it any more, and nothing is injected.

use std::time::Duration;

use faultline_agent::{kernel::clock, supervisor::When};
use faultline_proto::{
    fault::Fault,
    status::{RevertReason, State},
};
use faultline_tests::process::one_at_a_time;

use super::{Node, Victim, cut};

#[test]
fn a_commit_that_is_heard_too_late_changes_no_kernel() {
    let _one = one_at_a_time();
    let Some(victim) = Victim::new() else { return };
    let node = Node::new();
    let id = node.prepare(&victim.target, Fault::Partition(cut())).expect("prepared");
    let late = When { at: None, not_after: Some(clock::now()) };
    let refused = node.commit(id, late).expect_err("too late");
    assert!(refused.contains("has given up"), "{refused}");
    assert!(victim.tables().is_empty());
    // It is as it was, and whoever still waits may have it.
    let soon = When { at: None, not_after: Some(clock::now().after(Duration::from_mins(1))) };
    assert_eq!(node.commit(id, soon).expect("committed").state, State::Active);
    assert_eq!(victim.tables(), [id.object_name()]);
    assert_eq!(node.revert(id).state, State::Reverted);
    assert!(victim.tables().is_empty());
}

#[test]
fn an_appointment_that_is_missed_is_given_up() {
    let _one = one_at_a_time();
    let Some(victim) = Victim::new() else { return };
    let node = Node::new();
    let id = node.prepare(&victim.target, Fault::Partition(cut())).expect("prepared");
    // Nobody wakes up at the very nanosecond: whatever came in between, this is late.
    let at = Some(clock::now().after(Duration::from_millis(50)));
    let status = node.commit(id, When { at, not_after: at }).expect("an appointment");
    assert_eq!(status.state, State::Reverted, "{status:?}");
    assert_eq!(status.reason, Some(RevertReason::NeverCommitted));
    assert!(status.failure.contains("has given up"), "{status:?}");
    assert_eq!(status.committed, None);
    assert!(victim.tables().is_empty());
}
