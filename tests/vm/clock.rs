//! Jumps of the wall clock: no lease is longer or shorter by them, whoever holds it.
//!
//! Times are taken from `CLOCK_MONOTONIC` and `CLOCK_BOOTTIME`, which such a jump does not move.

use std::{
    thread,
    time::{Duration, Instant},
};

use faultline_agent::{
    fault::{AnyInjection, Injection as _, partition::PartitionInjection},
    helper,
    kernel::{clock, netns::NetNs},
    resolve::Resolved,
};
use faultline_proto::{
    boottime::BootTime,
    fault::{
        Fault, Kill, KubeletPath, Level, MemoryPressure, OomVictim, Partition, PeerSet, PortSide,
        Processes, Protocol, Signal, Verdict,
    },
    id::FaultId,
    target::Target,
};
use faultline_tests::{
    netns::{B4, Pair, Prober},
    process::{Agent, Pod, resolver, state, wait_for},
};
use nix::{
    sys::{signal::Signal as Posix, time::TimeSpec},
    time::{ClockId, clock_gettime, clock_settime},
};

use crate::own_machine;

const HELPER: &str = env!("CARGO_BIN_EXE_helper");
const LEASE: Duration = Duration::from_secs(3);
/// How far from the lease an end may be seen: the machine is emulated.
const TOLERANCE: Duration = Duration::from_millis(500);
const MIB: u64 = 1 << 20;
/// Forward and back, by more than any lease or deadline.
const JUMPS_S: [i64; 2] = [2 * 86_400, -2 * 86_400];

/// The clock, jumped. Put right when this is dropped, by as much as it was put wrong.
struct Jumped {
    by_s: i64,
}

impl Jumped {
    fn by(by_s: i64) -> Self {
        move_clock(by_s);
        Self { by_s }
    }
}

impl Drop for Jumped {
    fn drop(&mut self) {
        move_clock(-self.by_s);
    }
}

fn move_clock(by_s: i64) {
    let now = clock_gettime(ClockId::CLOCK_REALTIME).expect("a clock");
    let then = TimeSpec::new(now.tv_sec() + by_s, now.tv_nsec());
    clock_settime(ClockId::CLOCK_REALTIME, then).expect("the clock can be set");
    let moved = clock_gettime(ClockId::CLOCK_REALTIME).expect("a clock").tv_sec() - now.tv_sec();
    assert!((moved - by_s).abs() <= 2, "the clock has moved by {moved} s");
}

fn cut(pair: &Pair) -> PartitionInjection {
    let everything = || Some(PeerSet::Everything);
    let partition = Partition {
        egress: everything(),
        ingress: everything(),
        protocol: Protocol::Any,
        ports: Vec::new(),
        port_side: PortSide::Either,
        verdict: Verdict::Drop,
        kubelet: KubeletPath::Cut,
    };
    let resolved = Resolved {
        target: Target {
            namespace: "shop".into(),
            pod: "api-1".into(),
            uid: "0123456789abcdef0123456789abcdef".into(),
            container: None,
        },
        net_ns: NetNs::of_process(pair.a.pid()).expect("it has a process"),
        host_network: false,
        node_addresses: Vec::new(),
        siblings: Vec::new(),
        container: None,
    };
    let id = FaultId::random().expect("random bits");
    PartitionInjection::plan(id, &partition, &resolved).expect("planned")
}

#[test]
fn a_partition_is_held_and_ended_by_its_lease() {
    let _turn = own_machine();
    for by_s in JUMPS_S {
        let pair = Pair::new();
        let plan = cut(&pair);
        let prober = Prober::start(&pair.a, &pair.b, (B4, 9000).into());
        thread::sleep(Duration::from_millis(200));
        let begun = Instant::now();
        let mut live = plan.inject(clock::now().after(LEASE)).expect("injected");
        thread::sleep(LEASE / 3);
        let jumped = Jumped::by(by_s);
        thread::sleep(LEASE / 3);
        live.renew(clock::now().after(LEASE)).expect("renewed, whatever the clock says");
        let renewed = Instant::now();
        thread::sleep(LEASE + 2 * TOLERANCE);
        drop(jumped);
        let (gap_begin, gap_end) = prober.longest_gap();
        assert!(gap_begin.duration_since(begun) < TOLERANCE, "the jump opened nothing");
        let late = gap_end.duration_since(renewed).abs_diff(LEASE);
        assert!(late < TOLERANCE, "{by_s} s: {late:?} off the lease");
        plan.revert().expect("reverted");
        assert_eq!(plan.residue().expect("read"), Vec::<String>::new());
    }
}

/// Plans a fault on a sleeping container, has an agent inject it and be stopped for good, jumps, and
/// returns how far from the end of its lease the effect was over.
fn held_by_a_helper(
    by_s: i64,
    fault: &Fault,
    acts: impl Fn(&faultline_tests::process::Container, Option<char>) -> bool,
) -> Duration {
    assert!(helper::use_executable(HELPER.as_ref()));
    let mut pod = Pod::new().expect("the memory controller");
    let container = pod.container();
    let main = pod.spawn(&container, &["sleep", "1001"]);
    let id = FaultId::random().expect("random bits");
    let target = pod.resolved(&container, main);
    let plan = AnyInjection::plan(id, fault, &target, &resolver()).expect("planned");
    let agent = Agent::inject(HELPER.as_ref(), &plan, LEASE);
    wait_for("the effect", || acts(&container, state(main)));
    // Nobody but the helper can end it now.
    agent.signal(Posix::SIGSTOP);
    let jumped = Jumped::by(by_s);
    assert!(acts(&container, state(main)), "the jump ended it");
    wait_for("the end of the effect", || !acts(&container, state(main)));
    let (end, lease_end) = (clock::now(), agent.lease_end);
    drop(jumped);
    drop(agent);
    plan.as_injection().revert().expect("reverted");
    assert_eq!(plan.as_injection().residue().expect("read"), Vec::<String>::new());
    distance(end, lease_end)
}

fn distance(a: BootTime, b: BootTime) -> Duration {
    a.since(b).max(b.since(a))
}

#[test]
fn stopped_processes_are_held_and_continued_by_the_lease() {
    let _turn = own_machine();
    let signal = Signal::from_name("STOP").expect("a signal");
    let fault = Fault::Kill(Kill { signal, processes: Processes::Main, every: None });
    for by_s in JUMPS_S {
        let off = held_by_a_helper(by_s, &fault, |_, state| state == Some('T'));
        assert!(off < TOLERANCE, "{by_s} s: {off:?} off the lease");
    }
}

#[test]
fn memory_is_held_and_given_back_by_the_lease() {
    let _turn = own_machine();
    let (level, oom_victim) = (Level::Bytes(64 * MIB), OomVictim::Helper);
    let fault = MemoryPressure { level, ramp: Duration::ZERO, oom_victim };
    for by_s in JUMPS_S {
        let fault = Fault::MemoryPressure(fault.clone());
        let off = held_by_a_helper(by_s, &fault, |group, _| group.usage() > 32 * MIB);
        assert!(off < TOLERANCE, "{by_s} s: {off:?} off the lease");
    }
}
