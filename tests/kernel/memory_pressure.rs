//! `memoryPressure` on the real kernel. Observed: the control group's own usage file, and `/proc`.

use std::{
    fs, thread,
    time::{Duration, Instant},
};

use faultline_agent::{
    fault::{AnyInjection, Live, Observation, Refusal, Wake},
    helper,
    kernel::{cgroup_dir, clock},
    resolve::Resolved,
};
use faultline_proto::{
    fault::{Fault, Level, MemoryPressure, OomVictim},
    id::FaultId,
};
use faultline_tests::process::{
    Agent, Container, PATIENCE, Pod, fault_id, helpers_of, listing, one_at_a_time, resolver,
    wait_for, wait_until,
};
use nix::{
    sched::{CloneFlags, unshare},
    sys::signal::{Signal, kill},
    unistd::Pid,
};

const HELPER: &str = env!("CARGO_BIN_EXE_helper");
const LEASE: Duration = Duration::from_mins(2);
const MIB: u64 = 1 << 20;

fn pressure(level: Level, oom_victim: OomVictim) -> MemoryPressure {
    MemoryPressure { level, ramp: Duration::ZERO, oom_victim }
}

fn to_bytes(bytes: u64) -> MemoryPressure {
    pressure(Level::Bytes(bytes), OomVictim::Helper)
}

fn to_percent(percent: u32, oom_victim: OomVictim) -> MemoryPressure {
    pressure(Level::LimitBasisPoints(percent * 100), oom_victim)
}

fn try_plan(fault: MemoryPressure, target: &Resolved) -> Result<AnyInjection, Refusal> {
    assert!(helper::use_executable(HELPER.as_ref()));
    let fault = Fault::MemoryPressure(fault);
    let plan = AnyInjection::plan(FaultId::random().expect("bits"), &fault, target, &resolver())?;
    // As the journal would: what is injected and reverted has been text.
    let text = serde_json::to_string(&plan).expect("plain data");
    Ok(serde_json::from_str(&text).expect("the same again"))
}

fn plan(fault: MemoryPressure, target: &Resolved) -> AnyInjection {
    try_plan(fault, target).expect("planned")
}

fn inject(plan: &AnyInjection) -> Box<dyn Live> {
    plan.as_injection().inject(clock::now().after(LEASE)).expect("injected")
}

fn proven(live: &mut dyn Live) -> String {
    let mut last = None;
    wait_until(PATIENCE, || {
        last = Some(live.prove().expect("a look"));
        matches!(last, Some(Observation::Proven(_)))
    });
    match last {
        Some(Observation::Proven(how)) => how,
        other => panic!("not proven: {other:?}"),
    }
}

fn assert_clean(plan: &AnyInjection, container: &Container) {
    assert_eq!(plan.as_injection().residue().expect("a look"), Vec::<String>::new());
    assert_eq!(container.groups_below(), Vec::<std::path::PathBuf>::new());
}

/// The usage is within 2 % of `level`.
fn assert_at(container: &Container, level: u64) {
    let usage = container.usage();
    assert!(usage.abs_diff(level) * 50 <= level, "{usage} is not within 2 % of {level}");
}

/// A container of one sleeping process and a limit.
fn sleeping(pod: &mut Pod, limit: Option<u64>) -> (Container, Resolved) {
    let container = pod.container();
    if let Some(limit) = limit {
        container.limit(limit);
    }
    let main = pod.spawn(&container, &["sleep", "1001"]);
    let target = pod.resolved(&container, main);
    (container, target)
}

#[test]
fn usage_is_brought_to_the_level_and_back() {
    let _one = one_at_a_time();
    let Some(mut pod) = Pod::new() else { return };
    for (limit, fault, level) in [
        (None, to_bytes(300 * MIB), 300 * MIB),
        (Some(256 * MIB), to_percent(80, OomVictim::Helper), 256 * MIB / 10 * 8),
        (Some(128 * MIB), to_percent(100, OomVictim::Helper), 128 * MIB),
        (Some(200 * MIB), to_bytes(64 * MIB), 64 * MIB),
    ] {
        let (container, target) = sleeping(&mut pod, limit);
        let (before, found) = (listing(), container.usage());
        let plan = plan(fault, &target);
        let mut live = inject(&plan);
        let how = proven(&mut *live);
        assert!(how.contains("rose from"), "{how}");
        wait_for("the level", || container.usage().abs_diff(level) * 50 <= level);
        // Held: looked at for half a second, by the file itself.
        for _look in 0..10 {
            thread::sleep(Duration::from_millis(50));
            assert_at(&container, level);
        }
        assert!(matches!(live.wake(clock::now()).unwrap(), Wake::At(_)));
        let residue = plan.as_injection().residue().unwrap();
        assert_eq!(residue.len(), 2, "group and helper: {residue:?}");
        plan.as_injection().revert().unwrap();
        drop(live);
        assert_clean(&plan, &container);
        // Per-CPU charges of a group that is gone drain a little later.
        wait_for("the usage to return", || container.usage() <= found + MIB);
        plan.as_injection().revert().unwrap();
        assert_eq!(listing(), before, "left behind");
    }
}

#[test]
fn a_revert_without_an_injection_does_nothing() {
    let _one = one_at_a_time();
    let Some(mut pod) = Pod::new() else { return };
    let (container, target) = sleeping(&mut pod, None);
    let before = listing();
    let plan = plan(to_bytes(64 * MIB), &target);
    plan.as_injection().revert().unwrap();
    assert_clean(&plan, &container);
    // Halfway: the group was made, and nothing was started in it.
    let half = container.dir.join(format!("faultline_{}", fault_id(&plan)));
    fs::create_dir(&half).unwrap();
    assert!(!plan.as_injection().residue().unwrap().is_empty());
    plan.as_injection().revert().unwrap();
    assert_clean(&plan, &container);
    assert_eq!(listing(), before);
}

#[test]
fn the_ramp_is_followed() {
    let _one = one_at_a_time();
    let Some(mut pod) = Pod::new() else { return };
    let (container, target) = sleeping(&mut pod, None);
    let level = 400 * MIB;
    let ramp = Duration::from_secs(2);
    let plan = plan(MemoryPressure { ramp, ..to_bytes(level) }, &target);
    let first = container.usage();
    let mut live = inject(&plan);
    let begin = Instant::now();
    while begin.elapsed() < ramp {
        thread::sleep(Duration::from_millis(100));
        let part = begin.elapsed().as_millis() * 1000 / ramp.as_millis();
        let part = u64::try_from(part).unwrap().min(1000);
        let wanted = first + (level - first) * part / 1000;
        let found = container.usage();
        // 5 % of the height: 100 ms of the ramp, on a machine with other work.
        assert!(found.abs_diff(wanted) <= level / 20, "at {part}: {found} of {wanted}");
        if part < 900 {
            assert!(matches!(live.prove().unwrap(), Observation::NotYet(_)), "at {part}");
        }
    }
    proven(&mut *live);
    assert_at(&container, level);
    plan.as_injection().revert().unwrap();
    drop(live);
    assert_clean(&plan, &container);
}

#[test]
fn what_the_container_takes_is_given_back_by_the_helper() {
    let _one = one_at_a_time();
    let Some(mut pod) = Pod::new() else { return };
    let (container, target) = sleeping(&mut pod, Some(800 * MIB));
    let level = 200 * MIB;
    let plan = plan(to_bytes(level), &target);
    let mut live = inject(&plan);
    proven(&mut *live);
    let other =
        pod.spawn(&container, &["perl", "-e", "$n = 100; $x = 'a' x ($n << 20); sleep 1000"]);
    let rss = |pid: i32| {
        let status = procfs::process::Process::new(pid).unwrap().status().unwrap();
        status.vmrss.unwrap_or(0) * 1024
    };
    wait_for("the container to take memory", || rss(other.pid) > 100 * MIB);
    wait_for("the level again", || container.usage().abs_diff(level) * 50 <= level);
    pod.end(other);
    let again = wait_until(PATIENCE, || container.usage().abs_diff(level) * 50 <= level);
    assert!(again, "usage {} of {level}: {:?}", container.usage(), live.wake(clock::now()));
    plan.as_injection().revert().unwrap();
    drop(live);
    assert_clean(&plan, &container);
}

#[test]
fn the_end_of_the_lease_gives_it_back_while_the_agent_is_stopped() {
    let _one = one_at_a_time();
    let Some(mut pod) = Pod::new() else { return };
    let (container, target) = sleeping(&mut pod, None);
    let (before, found) = (listing(), container.usage());
    let plan = plan(to_bytes(512 * MIB), &target);
    let agent = Agent::inject(HELPER.as_ref(), &plan, Duration::from_secs(2));
    wait_for("the level", || container.usage() >= 500 * MIB);
    agent.signal(Signal::SIGSTOP);
    wait_for("the usage to return", || container.usage() <= found + MIB);
    let at = clock::now();
    eprintln!("returned {:?} after the end of the lease", at - agent.lease_end);
    assert!(at >= agent.lease_end && at - agent.lease_end <= Duration::from_millis(500));
    wait_for("the helper to end", || helpers_of(&plan).is_empty());
    assert_clean(&plan, &container);
    drop(agent);
    assert_eq!(listing(), before);
}

#[test]
fn the_death_of_the_agent_gives_it_back_at_once() {
    let _one = one_at_a_time();
    let Some(mut pod) = Pod::new() else { return };
    let (container, target) = sleeping(&mut pod, None);
    let (before, found) = (listing(), container.usage());
    let plan = plan(to_bytes(512 * MIB), &target);
    let agent = Agent::inject(HELPER.as_ref(), &plan, LEASE);
    wait_for("the level", || container.usage() >= 500 * MIB);
    let begin = Instant::now();
    agent.kill_9();
    wait_for("the usage to return", || container.usage() <= found + MIB);
    eprintln!("returned {:?} after the agent was killed", begin.elapsed());
    assert!(begin.elapsed() <= Duration::from_millis(500));
    wait_for("the helper to end", || helpers_of(&plan).is_empty());
    assert_clean(&plan, &container);
    assert_eq!(listing(), before);
}

#[test]
fn a_helper_that_does_not_run_is_killed_by_its_timer() {
    let _one = one_at_a_time();
    let Some(mut pod) = Pod::new() else { return };
    let (container, target) = sleeping(&mut pod, None);
    let found = container.usage();
    let plan = plan(to_bytes(256 * MIB), &target);
    let lease_end = clock::now().after(Duration::from_millis(1_500));
    let mut live = plan.as_injection().inject(lease_end).unwrap();
    proven(&mut *live);
    let [helper] = helpers_of(&plan)[..] else { panic!("one helper") };
    kill(Pid::from_raw(helper.pid), Signal::SIGSTOP).unwrap();
    wait_for("the usage to return", || container.usage() <= found + MIB);
    let at = clock::now();
    eprintln!("returned {:?} after the end of the lease", at - lease_end);
    assert!(at >= lease_end && at - lease_end <= Duration::from_millis(500));
    plan.as_injection().revert().unwrap();
    drop(live);
    assert_clean(&plan, &container);
}

#[test]
fn the_end_of_the_target_ends_the_helper_and_frees_the_group() {
    let _one = one_at_a_time();
    let Some(mut pod) = Pod::new() else { return };
    let (container, target) = sleeping(&mut pod, None);
    let before = listing();
    let plan = plan(to_bytes(128 * MIB), &target);
    let mut live = inject(&plan);
    proven(&mut *live);
    let main = target.container.as_ref().unwrap().main;
    pod.end(main);
    // As a runtime does, without any help of the agent.
    wait_for("the group to be removable", || fs::remove_dir(&container.dir).is_ok());
    wait_for("the target to be missed", || live.wake(clock::now()).unwrap() == Wake::TargetGone);
    plan.as_injection().revert().unwrap();
    drop(live);
    assert_eq!(plan.as_injection().residue().unwrap(), Vec::<String>::new());
    let gone = |listing: &str| -> Vec<String> {
        let lines = listing.lines().filter(|line| !line.starts_with(&format!("{} ", main.pid)));
        lines.map(str::to_owned).collect()
    };
    assert_eq!(gone(&listing()), gone(&before));
}

#[test]
fn a_helper_that_a_stranger_kills_is_noticed() {
    let _one = one_at_a_time();
    let Some(mut pod) = Pod::new() else { return };
    let (container, target) = sleeping(&mut pod, None);
    let before = listing();
    let plan = plan(to_bytes(64 * MIB), &target);
    let mut live = inject(&plan);
    proven(&mut *live);
    let [helper] = helpers_of(&plan)[..] else { panic!("one helper") };
    kill(Pid::from_raw(helper.pid), Signal::SIGKILL).unwrap();
    let mut error = None;
    wait_for("the loss to be noticed", || {
        error = live.wake(clock::now()).err();
        error.is_some()
    });
    let error = error.unwrap().to_string();
    assert!(error.contains("before its time"), "{error}");
    plan.as_injection().revert().unwrap();
    drop(live);
    assert_clean(&plan, &container);
    assert_eq!(listing(), before);
}

#[test]
fn out_of_memory_takes_the_helper_and_not_the_container() {
    let _one = one_at_a_time();
    let Some(mut pod) = Pod::new() else { return };
    let (container, target) = sleeping(&mut pod, Some(128 * MIB));
    let plan = plan(to_percent(90, OomVictim::Helper), &target);
    let mut live = inject(&plan);
    proven(&mut *live);
    // Stopped, so that it cannot make room by itself.
    let [helper] = helpers_of(&plan)[..] else { panic!("one helper") };
    kill(Pid::from_raw(helper.pid), Signal::SIGSTOP).unwrap();
    let eater =
        pod.spawn(&container, &["perl", "-e", "$n = 90; $x = 'a' x ($n << 20); sleep 1000"]);
    let mut error = None;
    wait_for("the end of the helper to be noticed", || {
        error = live.wake(clock::now()).err();
        error.is_some()
    });
    let error = error.unwrap().to_string();
    assert!(error.contains("memory ran out"), "{error}");
    assert!(target.container.as_ref().unwrap().main.is_alive() && eater.is_alive());
    plan.as_injection().revert().unwrap();
    drop(live);
    assert_clean(&plan, &container);
}

#[test]
fn out_of_memory_on_purpose_is_proven_by_the_kill() {
    let _one = one_at_a_time();
    let Some(mut pod) = Pod::new() else { return };
    let (container, target) = sleeping(&mut pod, Some(64 * MIB));
    let before = listing();
    let plan = plan(to_percent(150, OomVictim::Kernel), &target);
    let mut live = inject(&plan);
    let how = proven(&mut *live);
    assert!(how.contains("lack of memory"), "{how}");
    assert!(live.wake(clock::now()).is_ok(), "what was asked for is not an error");
    live.renew(clock::now().after(LEASE)).unwrap();
    plan.as_injection().revert().unwrap();
    drop(live);
    assert_clean(&plan, &container);
    assert_eq!(listing(), before);
}

#[test]
fn what_makes_no_sense_is_refused_with_the_figures() {
    let _one = one_at_a_time();
    let Some(mut pod) = Pod::new() else { return };
    let (_container, target) = sleeping(&mut pod, Some(64 * MIB));
    let refusal = |fault: MemoryPressure, target: &Resolved| {
        try_plan(fault, target).expect_err("refused").to_string()
    };
    let text = refusal(to_bytes(100 * MIB), &target);
    assert!(text.contains("100MiB") && text.contains("64MiB"), "{text}");
    let (container, unlimited) = sleeping(&mut pod, None);
    let text = refusal(to_percent(50, OomVictim::Helper), &unlimited);
    assert!(text.contains("no memory limit"), "{text}");
    let text = refusal(to_bytes(1 << 44), &unlimited);
    assert!(text.contains("available"), "{text}");
    pod.spawn(&container, &["perl", "-e", "$n = 40; $x = 'a' x ($n << 20); sleep 1000"]);
    wait_for("usage", || container.usage() > 40 * MIB);
    let text = refusal(to_bytes(30 * MIB), &unlimited);
    assert!(text.contains("already"), "{text}");
    let mut nowhere = pod.resolved(&container, unlimited.container.as_ref().unwrap().main);
    nowhere.container.as_mut().unwrap().memory_cgroup = None;
    let refused = try_plan(to_bytes(64 * MIB), &nowhere);
    assert!(matches!(refused, Err(Refusal::Unsupported { .. })), "{refused:?}");
}

#[test]
fn out_of_memory_on_purpose_may_take_the_container_itself() {
    let _one = one_at_a_time();
    let Some(mut pod) = Pod::new() else { return };
    let container = pod.container();
    container.limit(64 * MIB);
    let main = pod.spawn(&container, &["perl", "-e", "$n = 45; $x = 'a' x ($n << 20); sleep 1000"]);
    wait_for("the container to be large", || container.usage() > 45 * MIB);
    let plan = plan(to_percent(150, OomVictim::Kernel), &pod.resolved(&container, main));
    let mut live = inject(&plan);
    // Its runtime removes what is left of it, before anybody looks.
    wait_for("the container to be killed", || pod.has_ended(main));
    wait_for("the group to be removable", || fs::remove_dir(&container.dir).is_ok());
    assert!(matches!(live.wake(clock::now()).unwrap(), Wake::At(_)), "to be seen first");
    let how = proven(&mut *live);
    assert!(how.contains("lack of memory"), "{how}");
    assert_eq!(live.wake(clock::now()).unwrap(), Wake::TargetGone);
    plan.as_injection().revert().unwrap();
    drop(live);
    assert_eq!(plan.as_injection().residue().unwrap(), Vec::<String>::new());
}

#[test]
fn what_is_left_when_all_are_killed_is_found_and_swept() {
    let _one = one_at_a_time();
    let Some(mut pod) = Pod::new() else { return };
    let (container, target) = sleeping(&mut pod, None);
    let plan = plan(to_bytes(64 * MIB), &target);
    let agent = Agent::inject(HELPER.as_ref(), &plan, LEASE);
    let [helper] = helpers_of(&plan)[..] else { panic!("one helper") };
    let swept = |id: &str| helper::sweep().unwrap().0.iter().any(|swept| swept.to_string() == id);
    assert!(!swept(&fault_id(&plan)) && helper.is_alive(), "its agent is alive");
    // First the helper and then the agent: nobody is left to remove the group.
    kill(Pid::from_raw(helper.pid), Signal::SIGKILL).unwrap();
    agent.kill_9();
    let left = cgroup_dir::ours_below(&container.dir).unwrap();
    assert_eq!(left.iter().map(|(id, _)| id.to_string()).collect::<Vec<_>>(), [fault_id(&plan)]);
    cgroup_dir::empty_and_remove(&left[0].1, PATIENCE).unwrap();
    assert_clean(&plan, &container);
    // A helper whose agent has ended. A real one ends at that by itself.
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("__faultline-helper"), "while :; do sleep 0.1; done").unwrap();
    let start = |id: &str| {
        std::process::Command::new("/bin/sh")
            .args(["__faultline-helper", "memory", id, "1.1"])
            .current_dir(dir.path())
            .spawn()
            .unwrap()
    };
    // One of an agent in a pid namespace below: that its pid means nobody here says nothing.
    let below_id = FaultId::random().unwrap().to_string();
    let mut below = thread::scope(|scope| {
        let inside = scope.spawn(|| {
            unshare(CloneFlags::CLONE_NEWPID).unwrap();
            start(&below_id)
        });
        inside.join().unwrap()
    });
    let id = FaultId::random().unwrap().to_string();
    let mut orphan = start(&id);
    wait_for("the orphan to be found", || swept(&id));
    assert!(!orphan.wait().unwrap().success());
    let is_found =
        || helper::find().unwrap().iter().any(|found| found.fault.to_string() == below_id);
    wait_for("the other agent's to be found", is_found);
    assert!(!swept(&below_id), "it is another agent's");
    assert!(below.try_wait().unwrap().is_none(), "it runs");
    below.kill().unwrap();
    below.wait().unwrap();
}
