//! Several faults on one target at once: they compose, and reverting one never disturbs another; where
//! they cannot, the second is refused with the id of the first.

use std::{net::UdpSocket, time::Duration};

use faultline_agent::{fault::Refusal, supervisor::PrepareError};
use faultline_proto::{
    fault::{
        Cidr, Fault, Kill, Level, MemoryPressure, OomVictim, Partition, PeerSet, Processes, Signal,
    },
    id::FaultId,
    status::State,
};
use faultline_tests::process::{one_at_a_time, state, wait_for};

use super::{Node, Victim, cut};

fn stop(processes: Processes) -> Fault {
    Fault::Kill(Kill { signal: Signal::STOP, processes, every: None })
}

fn pressure(mebibytes: u64) -> Fault {
    Fault::MemoryPressure(MemoryPressure {
        level: Level::Bytes(mebibytes << 20),
        ramp: Duration::ZERO,
        oom_victim: OomVictim::Helper,
    })
}

fn cut_off_from(cidr: &str) -> Fault {
    let peers: Cidr = cidr.parse().expect("a range");
    Fault::Partition(Partition {
        egress: Some(PeerSet::Cidrs(vec![peers])),
        ingress: None,
        ..cut()
    })
}

/// Which fault another one is refused for.
fn conflicts_with(refused: Result<FaultId, PrepareError>) -> FaultId {
    match refused {
        Err(PrepareError::Refused { source: Refusal::Conflict { with, .. }, .. }) => with,
        other => panic!("no conflict: {other:?}"),
    }
}

#[test]
fn of_two_partitions_each_is_reverted_without_the_other() {
    let _one = one_at_a_time();
    let Some(victim) = Victim::new() else { return };
    let node = Node::new();
    for command in [
        "link add eth0 type veth peer name eth1",
        "addr add 10.77.0.1/24 dev eth0",
        "link set eth1 up",
        "link set eth0 up",
    ] {
        victim.namespace.run("ip", &command.split(' ').collect::<Vec<_>>());
    }
    // Nobody is there; a cut shows before that, as an error of the sender.
    let reaches = |address: &str| {
        let socket = victim.namespace.inside(|| UdpSocket::bind("10.77.0.1:0").expect("a port"));
        socket.send_to(&[0], (address, 7)).is_ok()
    };
    let table = |id: FaultId| {
        let name = id.object_name();
        // Stateless: what a lease has left changes by itself, and counters by what is sent.
        let args = ["-j", "-s", "list", "table", "inet", &name];
        victim.namespace.run("nft", &args)
    };
    assert!(reaches("10.77.0.8") && reaches("10.77.0.9"));
    let one = node.inject(&victim.target, cut_off_from("10.77.0.8/32"));
    let other = node.inject(&victim.target, cut_off_from("10.77.0.9/32"));
    assert!(!reaches("10.77.0.8") && !reaches("10.77.0.9"), "both are in effect");
    let before = table(other);
    assert!(before.contains("10.77.0.9"), "{before}");
    assert_eq!(node.revert(one).state, State::Reverted);
    assert_eq!(victim.tables(), [other.object_name()]);
    assert_eq!(table(other), before, "byte for byte");
    assert!(reaches("10.77.0.8") && !reaches("10.77.0.9"), "the other one still acts");
    assert_eq!(node.revert(other).state, State::Reverted);
    assert!(victim.tables().is_empty() && reaches("10.77.0.9"));
}

#[test]
fn the_usage_of_a_control_group_is_held_by_one_fault_only() {
    let _one = one_at_a_time();
    let Some(victim) = Victim::new() else { return };
    let node = Node::new();
    let first = node.inject(&victim.target, pressure(32));
    wait_for("the level", || victim.container.usage() >= 31 << 20);
    // Also where the level asked for is passed already, which alone would be refused.
    for mebibytes in [64, 8] {
        assert_eq!(conflicts_with(node.prepare(&victim.target, pressure(mebibytes))), first);
    }
    assert_eq!(node.revert(first).state, State::Reverted);
    let second = node.inject(&victim.target, pressure(32));
    assert_eq!(node.revert(second).state, State::Reverted);
    assert!(victim.container.groups_below().is_empty());
}

#[test]
fn what_a_fault_of_ours_has_stopped_is_not_taken_for_somebody_elses() {
    let _one = one_at_a_time();
    let Some(victim) = Victim::new() else { return };
    let node = Node::new();
    let first = node.inject(&victim.target, stop(Processes::Main));
    wait_for("the stop", || state(victim.main) == Some('T'));
    for processes in [Processes::Main, Processes::All] {
        assert_eq!(conflicts_with(node.prepare(&victim.target, stop(processes))), first);
    }
    assert_eq!(state(victim.main), Some('T'));
    assert_eq!(node.revert(first).state, State::Reverted);
    wait_for("the process to go on", || state(victim.main) == Some('S'));
    let second = node.inject(&victim.target, stop(Processes::Main));
    assert_eq!(node.revert(second).state, State::Reverted);
}

#[test]
fn three_kinds_on_one_target_compose() {
    let _one = one_at_a_time();
    let Some(victim) = Victim::new() else { return };
    let node = Node::new();
    let kinds: [fn() -> Fault; 3] =
        [|| Fault::Partition(cut()), || stop(Processes::Main), || pressure(32)];
    let seen = || {
        let is_stopped = state(victim.main) == Some('T');
        let is_full = victim.container.usage() >= 31 << 20;
        [!victim.tables().is_empty(), is_stopped, is_full]
    };
    // Each of them is once the first to be taken back.
    for first in 0..kinds.len() {
        let ids = kinds.map(|kind| node.inject(&victim.target, kind()));
        wait_for("all of them", || seen() == [true; 3]);
        let mut left = [true; 3];
        for turn in 0..kinds.len() {
            let n = (first + turn) % kinds.len();
            assert_eq!(node.revert(ids[n]).state, State::Reverted);
            left[n] = false;
            wait_for("one of them to end, and no other", || seen() == left);
        }
    }
}
