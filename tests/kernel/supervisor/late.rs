//! Requests that waited until nobody wanted them any more.

use std::time::Duration;

use faultline_agent::{
    kernel::clock,
    supervisor::{AmendError, AmendItem, PrepareError, ResumeError},
};
use faultline_proto::fault::{Fault, Verdict};
use faultline_tests::process::one_at_a_time;

use super::{Node, Victim, cut};

#[test]
fn a_change_and_a_resume_that_nobody_waits_for_are_not_made() {
    let _one = one_at_a_time();
    let Some(victim) = Victim::new() else { return };
    let node = Node::new();
    let handle = &node.supervisor.handle;
    let id = node.inject(&victim.target, Fault::Partition(cut()));
    let mut other = cut();
    other.verdict = Verdict::Reject;
    let amend = |not_after| {
        let item = AmendItem { fault_id: id, fault: Fault::Partition(other.clone()) };
        node.runtime.block_on(handle.amend(vec![item], not_after)).expect("it runs")
    };
    let rules = || victim.namespace.run("nft", &["list", "ruleset"]);
    let past = clock::now();
    std::thread::sleep(Duration::from_millis(2));
    assert!(matches!(amend(Some(past)), Err(AmendError::TooLate)));
    assert!(!rules().contains("reject"), "nothing was changed");
    let later = clock::now().after(Duration::from_secs(10));
    amend(Some(later)).expect("in time");
    assert!(rules().contains("reject"), "{}", rules());

    node.runtime.block_on(handle.halt("a test".into(), false)).expect("it runs").expect("halted");
    let resume =
        |not_after| node.runtime.block_on(handle.resume(Vec::new(), not_after)).expect("it runs");
    assert!(matches!(resume(Some(past)), Err(ResumeError::TooLate)));
    let refused = node.prepare(&victim.target, Fault::Partition(cut())).expect_err("halted");
    assert!(matches!(refused, PrepareError::Halted(_)), "{refused:?}");
    resume(Some(later)).expect("in time");
    node.prepare(&victim.target, Fault::Partition(cut())).expect("resumed");
}
