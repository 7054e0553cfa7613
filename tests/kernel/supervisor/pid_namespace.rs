//! An agent that was started again without the host's pid namespace sees no process of any target: that
//! is not the same as that they have gone.

use std::{fs, time::Duration};

use faultline_agent::{
    fault::{AnyInjection, Injection, partition::PartitionInjection},
    journal::{Journal, Record},
    kernel::{clock, netns::NetNs},
    resolve::Resolved,
};
use faultline_proto::{
    fault::Fault,
    id::{FaultId, RunId},
    status::State,
};
use faultline_tests::process::one_at_a_time;

use super::{Node, Victim, cut};

/// In effect, and in the journal of an agent of this pid namespace that has ended without a word.
fn leave(victim: &Victim, node: &Node, pid_ns: Option<&str>) -> FaultId {
    let resolved = Resolved {
        net_ns: NetNs::of_process(victim.main.pid).expect("it runs"),
        ..victim.pod.resolved(&victim.container, victim.main)
    };
    let id = FaultId::random().expect("random bits");
    let plan = PartitionInjection::plan(id, &cut(), &resolved).expect("planned");
    let boot_id = fs::read_to_string("/proc/sys/kernel/random/boot_id").expect("readable");
    let deadline = clock::now().after(Duration::from_mins(1));
    drop(plan.inject(deadline).expect("injected"));
    let record = Record {
        fault_id: id,
        run_id: RunId::from_bits(1),
        boot_id: boot_id.trim().into(),
        pid_ns: pid_ns.map(Into::into),
        target: victim.target.clone(),
        fault: Fault::Partition(cut()),
        lease: Duration::from_secs(30),
        deadline,
        injection: AnyInjection::Partition(plan),
    };
    let (journal, _) = Journal::open(&node.dir.path().join("state/journal")).expect("opened");
    journal.append(vec![record]).expect("appended");
    id
}

#[test]
fn who_was_known_in_another_pid_namespace_is_not_called_gone() {
    let _one = one_at_a_time();
    let Some(victim) = Victim::new() else { return };
    let node = Node::new();
    let here = fs::read_link("/proc/self/ns/pid").expect("readable");
    let same = leave(&victim, &node, here.to_str());
    let silent = leave(&victim, &node, None);
    let other = leave(&victim, &node, Some("pid:[1]"));
    assert_eq!(victim.tables().len(), 3);

    let node = node.restart();
    for id in [same, silent] {
        assert!(node.status(id).is_none_or(|status| status.state == State::Reverted));
    }
    let status = node.revert(other);
    assert_eq!(status.state, State::Stuck, "{status:?}");
    let why = status.residue.join("; ");
    let expected = format!("it was injected from pid:[1], and this agent is in {}", here.display());
    assert!(why.contains(&expected) && why.contains("hostPID"), "{why}");
    let text = node.metrics();
    assert!(text.contains("faultline_agent_stuck 1\n"), "{text}");

    // Its record is still there for an agent that can look.
    drop(node.prepare(&victim.target, Fault::Partition(cut())).expect_err("the node is stuck"));
    let record = node.dir.path().join(format!("state/journal/{other}.json"));
    assert!(record.exists(), "the record stays");
    fs::remove_file(record).expect("removed, as a person would");
}
