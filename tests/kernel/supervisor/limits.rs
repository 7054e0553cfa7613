//! The limits that need targets: how many faults a node holds, and how many requests may wait.

use std::time::Duration;

use faultline_agent::{
    kernel::clock,
    supervisor::{PrepareError, PrepareItem, QueueError},
};
use faultline_proto::{
    fault::{Fault, Kill, Processes, Signal},
    id::{FaultId, RunId},
    limits::{FAULTS_PER_NODE_MAX, QUEUE_LEN_MAX},
    target::Target,
};
use faultline_tests::process::one_at_a_time;

use super::{Node, Victim};

/// So many that are never committed, on one target.
fn items(target: &Target, count: usize) -> Vec<PrepareItem> {
    let kill = Kill { signal: Signal::TERM, processes: Processes::Main, every: None };
    let item = |_| PrepareItem {
        fault_id: FaultId::random().expect("random bits"),
        target: target.clone(),
        fault: Fault::Kill(kill.clone()),
        lease: Duration::from_secs(30),
        deadline: clock::now().after(Duration::from_mins(1)),
    };
    (0..count).map(item).collect()
}

#[test]
fn a_node_holds_no_more_faults_than_the_limit_and_says_it() {
    let _one = one_at_a_time();
    let Some(victim) = Victim::new() else { return };
    let node = Node::new();
    let handle = &node.supervisor.handle;
    let prepare = |count| {
        let items = items(&victim.target, count);
        node.runtime.block_on(handle.prepare(RunId::from_bits(1), items, false)).expect("it runs")
    };
    assert_eq!(
        prepare(FAULTS_PER_NODE_MAX).expect("as many as there may be").len(),
        FAULTS_PER_NODE_MAX
    );
    let refused = prepare(1).expect_err("one more");
    assert!(matches!(refused, PrepareError::TooMany { .. }), "{refused:?}");
    assert!(refused.to_string().contains(&FAULTS_PER_NODE_MAX.to_string()), "{refused}");
}

#[test]
fn no_more_requests_wait_than_the_limit_and_it_is_said() {
    let _one = one_at_a_time();
    let Some(victim) = Victim::new() else { return };
    let node = Node::new();
    let handle = &node.supervisor.handle;
    // Every one of these looks for the pod among all processes: that keeps the supervisor busy.
    let items = items(&victim.target, FAULTS_PER_NODE_MAX);
    let (long, lists) = node.runtime.block_on(async {
        let mut lists = tokio::task::JoinSet::new();
        let long = handle.prepare(RunId::from_bits(1), items, true);
        tokio::pin!(long);
        // Asked first, and then all the others in the same moment.
        tokio::select! {
            biased;
            _ = &mut long => panic!("it cannot be answered so soon"),
            () = std::future::ready(()) => {}
        }
        for _ in 0..2 * QUEUE_LEN_MAX {
            let handle = handle.clone();
            lists.spawn(async move { handle.list().await });
        }
        (long.await, lists.join_all().await)
    });
    long.expect("it runs").expect("planned");
    let full = lists.iter().filter(|list| matches!(list, Err(QueueError::Full))).count();
    // The long one may have been taken from the queue by then, or be one of those that waited.
    assert!((QUEUE_LEN_MAX..=QUEUE_LEN_MAX + 1).contains(&full), "{full} were refused");
    assert!(lists.iter().all(|list| matches!(list, Ok(_) | Err(QueueError::Full))));
    assert!(QueueError::Full.to_string().contains(&QUEUE_LEN_MAX.to_string()));
}
