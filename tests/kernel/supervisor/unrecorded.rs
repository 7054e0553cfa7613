//! A revert of a fault that the agent has no record of: it was restarted since, or its journal is lost.

use std::{fs, time::Duration};

use faultline_agent::{
    fault::{Injection, partition::PartitionInjection},
    kernel::{clock, netns::NetNs},
    resolve::Resolved,
    supervisor::{RevertScope, Reverted},
};
use faultline_proto::{fault::Fault, id::FaultId, status::State};
use faultline_tests::process::one_at_a_time;

use super::{Node, Victim, cut};

impl Node {
    fn revert_all(&self, ids: &[FaultId]) -> Reverted {
        let asked = self.supervisor.handle.revert(RevertScope::Faults(ids.to_vec()));
        self.runtime.block_on(asked).expect("it runs")
    }
}

/// What is left of a fault that the node has no record of, as it says.
fn left_of(node: &Node, id: FaultId) -> Vec<String> {
    let mut reverted = node.revert_all(&[id]);
    assert!(reverted.injections.is_empty(), "{reverted:?}");
    let unrecorded = reverted.unrecorded.remove(0);
    assert_eq!(unrecorded.fault_id, id);
    unrecorded.residue
}

#[test]
fn an_agent_that_was_restarted_twice_still_says_that_nothing_is_left() {
    let _one = one_at_a_time();
    let Some(victim) = Victim::new() else { return };
    let node = Node::new();
    let id = node.inject(&victim.target, Fault::Partition(cut()));
    let known = node.inject(&victim.target, Fault::Partition(cut()));
    assert_eq!(victim.tables().len(), 2);
    let node = node.restart();
    assert!(victim.tables().is_empty() && node.status(id).is_none());
    assert_eq!(left_of(&node, id), Vec::<String>::new());
    // Beside one that it knows.
    let held = node.inject(&victim.target, Fault::Partition(cut()));
    let reverted = node.revert_all(&[known, held]);
    assert_eq!(reverted.injections[0].state, State::Reverted);
    assert_eq!(reverted.unrecorded[0].fault_id, known);
    assert!(reverted.unrecorded[0].residue.is_empty());
}

#[test]
fn what_bears_the_name_of_a_fault_without_a_record_is_taken_away_and_nothing_else() {
    let _one = one_at_a_time();
    let Some(victim) = Victim::new() else { return };
    let node = Node::new();
    let resolved = Resolved {
        net_ns: NetNs::of_process(victim.main.pid).expect("it runs"),
        ..victim.pod.resolved(&victim.container, victim.main)
    };
    // As of an agent whose journal is lost: in effect, with a lease.
    let plant = || {
        let id = FaultId::random().expect("random bits");
        let plan = PartitionInjection::plan(id, &cut(), &resolved).expect("planned");
        drop(plan.inject(clock::now().after(Duration::from_mins(1))).expect("injected"));
        (id, plan)
    };
    let ((lost, _), (other, others)) = (plant(), plant());
    victim.namespace.nft("add table inet somebody_elses");
    assert_eq!(left_of(&node, lost), Vec::<String>::new());
    assert_eq!(victim.tables(), [other.object_name(), "somebody_elses".into()]);
    others.revert().expect("reverted");

    // What cannot be taken away is named.
    let id = FaultId::random().expect("random bits");
    let group = victim.container.dir.join(id.object_name());
    let inside = group.join("somebody-elses");
    fs::create_dir_all(&inside).expect("made");
    let left = left_of(&node, id);
    assert!(left.len() == 1 && left[0].contains(&id.object_name()), "{left:?}");
    fs::remove_dir(&inside).expect("removed");
    assert_eq!(left_of(&node, id), Vec::<String>::new());
    assert!(!group.exists());
}

#[test]
fn a_file_that_is_not_understood_proves_nothing() {
    let _one = one_at_a_time();
    if !faultline_tests::netns::can_test() {
        return;
    }
    let node = Node::new();
    let id = FaultId::random().expect("random bits");
    let file = node.dir.path().join("state/journal").join(format!("{id}.json"));
    fs::write(&file, "torn").expect("written");
    let node = node.restart();
    let left = left_of(&node, id);
    assert!(left.len() == 1 && left[0].contains("the journal file"), "{left:?}");
    assert!(file.exists());
}
