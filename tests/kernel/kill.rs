//! `kill` on the real kernel. Observed: `/proc/PID/status`, exit statuses of our own children, and files
//! that the fixtures write.

use std::{
    fs,
    io::Write,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use faultline_agent::{
    fault::{AnyInjection, Live, Observation, Refusal, Wake},
    helper::{self, stopper},
    kernel::{clock, container::ContainerRef, process::ProcessId},
    resolve::Resolved,
};
use faultline_proto::{
    boottime::BootTime,
    fault::{Fault, Kill, Processes, Signal},
    id::FaultId,
};
use faultline_tests::process::{
    Agent, Container, PATIENCE, Pod, helpers_of, listing, one_at_a_time, resolver, skip, state,
    wait_for, wait_until,
};

const HELPER: &str = env!("CARGO_BIN_EXE_helper");
const LEASE: Duration = Duration::from_mins(1);

fn signal(name: &str) -> Signal {
    Signal::from_name(name).expect("a signal")
}

fn kill(name: &str, processes: Processes, every: Option<Duration>) -> Fault {
    Fault::Kill(Kill { signal: signal(name), processes, every })
}

fn try_plan(fault: &Fault, target: &Resolved) -> Result<AnyInjection, Refusal> {
    assert!(helper::use_executable(HELPER.as_ref()));
    let plan = AnyInjection::plan(FaultId::random().expect("bits"), fault, target, &resolver())?;
    // As the journal would: what is injected and reverted has been text.
    let text = serde_json::to_string(&plan).expect("plain data");
    Ok(serde_json::from_str(&text).expect("the same again"))
}

fn plan(fault: &Fault, target: &Resolved) -> AnyInjection {
    try_plan(fault, target).expect("planned")
}

fn inject(plan: &AnyInjection, lease: Duration) -> Box<dyn Live> {
    plan.as_injection().inject(clock::now().after(lease)).expect("injected")
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

/// What is said for as long as `time` passes without a proof.
fn not_proven(live: &mut dyn Live, time: Duration) -> String {
    let end = Instant::now() + time;
    loop {
        match live.prove().expect("a look") {
            Observation::NotYet(why) if Instant::now() >= end => return why,
            Observation::NotYet(_) => std::thread::sleep(Duration::from_millis(10)),
            Observation::Proven(how) => panic!("proven: {how}"),
        }
    }
}

fn assert_clean(plan: &AnyInjection) {
    assert_eq!(plan.as_injection().residue().expect("a look"), Vec::<String>::new());
}

#[test]
fn main_is_killed_and_its_children_are_not() {
    let _one = one_at_a_time();
    let Some(mut pod) = Pod::new() else { return };
    let container = pod.container();
    let main = pod.spawn_script(&container, "sleep 1001 & READY; wait; exit 0");
    let inside = fs::read_to_string(container.dir.join("cgroup.procs")).unwrap();
    assert_eq!(inside.lines().count(), 2, "a shell and its child");
    let plan = plan(&kill("KILL", Processes::Main, None), &pod.resolved(&container, main));
    assert!(plan.describe().contains(&main.pid.to_string()), "{}", plan.describe());
    let mut live = inject(&plan, LEASE);
    let how = proven(&mut *live);
    assert!(how.contains("ended") && how.contains("SIGKILL"), "{how}");
    wait_for("the main process to end", || pod.has_ended(main));
    let inside = fs::read_to_string(container.dir.join("cgroup.procs")).unwrap();
    assert_eq!(inside.lines().count(), 1, "the child is left");
    assert_eq!(live.first_wake(), None);
    plan.as_injection().revert().unwrap();
    assert_clean(&plan);
}

#[test]
fn all_are_killed_and_those_of_another_container_are_not() {
    let _one = one_at_a_time();
    let Some(mut pod) = Pod::new() else { return };
    let (container, other) = (pod.container(), pod.container());
    let main = pod.spawn_script(&container, "sleep 1001 & sleep 1002 & READY; wait");
    let bystander = pod.spawn(&other, &["sleep", "1003"]);
    let plan = plan(&kill("KILL", Processes::All, None), &pod.resolved(&container, main));
    let mut live = inject(&plan, LEASE);
    proven(&mut *live);
    wait_for("the container to be empty", || {
        pod.has_ended(main)
            && fs::read_to_string(container.dir.join("cgroup.procs")).unwrap().is_empty()
    });
    assert!(bystander.is_alive());
}

#[test]
fn a_name_selects_and_an_unknown_one_is_refused_with_those_there_are() {
    let _one = one_at_a_time();
    let Some(mut pod) = Pod::new() else { return };
    let container = pod.container();
    let main = pod.spawn_script(&container, "sleep 1001 & READY; wait; sleep 1002");
    let target = pod.resolved(&container, main);
    wait_for("the child to be called sleep", || {
        let pids = fs::read_to_string(container.dir.join("cgroup.procs")).unwrap();
        let comm = |pid: &str| fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        pids.lines().any(|pid| comm(pid) == "sleep\n")
    });
    let named = |name: &str| kill("KILL", Processes::Named(name.into()), None);
    let error = try_plan(&named("sleeep"), &target).expect_err("no such name").to_string();
    assert!(error.contains("\"sleep\"") && error.contains("Did you mean"), "{error}");
    let plan = plan(&named("sleep"), &target);
    let mut live = inject(&plan, LEASE);
    proven(&mut *live);
    assert!(main.is_alive(), "the shell is not called sleep");
}

#[test]
fn a_process_that_is_another_one_by_now_is_not_signalled() {
    let _one = one_at_a_time();
    let Some(mut pod) = Pod::new() else { return };
    let container = pod.container();
    let main = pod.spawn(&container, &["sleep", "1001"]);
    let target = pod.resolved(&container, main);
    for name in ["KILL", "STOP"] {
        let plan = plan(&kill(name, Processes::Main, None), &target);
        // The same pid, started at another time: what the journal knows is not what runs.
        let text = serde_json::to_string(&plan).unwrap();
        let ticks = format!("\"start_ticks\":{}", main.start_ticks);
        assert!(text.contains(&ticks), "{text}");
        let stale = text.replace(&ticks, &format!("\"start_ticks\":{}", main.start_ticks - 1));
        let stale: AnyInjection = serde_json::from_str(&stale).unwrap();
        let error = stale.as_injection().inject(clock::now().after(LEASE)).err().expect("gone");
        assert!(error.is_gone(), "{error}");
        assert!(!wait_until(Duration::from_millis(200), || pod.has_ended(main)), "signalled");
        assert_eq!(state(main), Some('S'), "signalled");
        stale.as_injection().revert().unwrap();
        assert_clean(&stale);
    }
}

#[test]
fn a_process_that_ignores_the_signal_is_not_called_hit() {
    let _one = one_at_a_time();
    let Some(mut pod) = Pod::new() else { return };
    let container = pod.container();
    let script = "trap '' TERM USR1; READY; while :; do sleep 0.05; done";
    let main = pod.spawn_script(&container, script);
    let target = pod.resolved(&container, main);
    for name in ["TERM", "USR1"] {
        let plan = plan(&kill(name, Processes::Main, None), &target);
        let mut live = inject(&plan, LEASE);
        let why = not_proven(&mut *live, Duration::from_millis(300));
        assert!(why.contains("ignores"), "{why}");
        assert!(main.is_alive());
    }
    let caught = pod.container();
    let main = pod.spawn_script(
        &caught,
        "trap : USR1; trap 'exit 0' TERM; READY; while :; do sleep 0.05; done",
    );
    let target = pod.resolved(&caught, main);
    let plan_usr1 = plan(&kill("USR1", Processes::Main, None), &target);
    let how = proven(&mut *inject(&plan_usr1, LEASE));
    assert!(how.contains("handler"), "{how}");
    let plan_term = plan(&kill("TERM", Processes::Main, None), &target);
    let how = proven(&mut *inject(&plan_term, LEASE));
    assert!(how.contains("ended"), "{how}");
}

#[test]
fn the_first_of_a_pid_namespace_without_a_handler_is_not_called_hit() {
    let _one = one_at_a_time();
    let Some(mut pod) = Pod::new() else { return };
    let container = pod.container();
    let parent = pod.spawn(&container, &["unshare", "--fork", "--pid", "sleep", "1001"]);
    let mut init = None;
    wait_for("the first of the namespace", || {
        let pids = fs::read_to_string(container.dir.join("cgroup.procs")).unwrap();
        let mut pids = pids.lines().filter_map(|pid| pid.parse().ok());
        init = pids.find(|pid| *pid != parent.pid).and_then(ProcessId::of);
        init.is_some_and(|init| {
            fs::read_to_string(format!("/proc/{}/comm", init.pid)).is_ok_and(|c| c == "sleep\n")
        })
    });
    let init = init.unwrap();
    let target = pod.resolved(&container, init);
    let term = plan(&kill("TERM", Processes::Main, None), &target);
    let why = not_proven(&mut *inject(&term, LEASE), Duration::from_millis(200));
    assert!(why.contains("Linux drops it"), "{why}");
    let kill = plan(&kill("KILL", Processes::Main, None), &target);
    proven(&mut *inject(&kill, LEASE));
}

#[test]
fn the_agent_and_what_it_descends_from_are_protected() {
    let _one = one_at_a_time();
    let Some(mut pod) = Pod::new() else { return };
    let container = pod.container();
    let main = pod.spawn(&container, &["sleep", "1001"]);
    let mut target = pod.resolved(&container, main);
    for pid in [i32::try_from(std::process::id()).unwrap(), nix::unistd::getppid().as_raw(), 1] {
        let Some(own) = ProcessId::of(pid) else { continue };
        target.container.as_mut().unwrap().main = own;
        let refusal = try_plan(&kill("WINCH", Processes::Main, None), &target);
        assert!(matches!(refusal, Err(Refusal::Protected { .. })), "{pid}: {refusal:?}");
    }
}

#[test]
fn a_repeated_kill_follows_the_container_through_its_restarts() {
    let _one = one_at_a_time();
    let Some(mut pod) = Pod::new() else { return };
    let sidecar = pod.container();
    let bystander = pod.spawn(&sidecar, &["sleep", "1000"]);
    let mut container = pod.container();
    let mut main = pod.spawn(&container, &["sleep", "1001"]);
    let mut target = pod.resolved(&container, main);
    target.siblings = vec![sidecar.id.clone(), container.id.clone()];
    let every = Duration::from_millis(50);
    let plan = plan(&kill("KILL", Processes::Main, Some(every)), &target);
    let mut live = inject(&plan, LEASE);
    assert_eq!(live.first_wake(), Some(every));
    proven(&mut *live);
    for life in 0..3 {
        wait_for("the end of a life", || pod.has_ended(main));
        // Between two lives nobody is there, which is not the end.
        assert!(matches!(live.wake(clock::now()).unwrap(), Wake::At(_)), "life {life}");
        if life == 1 {
            // In place: the same container, another process.
        } else {
            fs::remove_dir(&container.dir).unwrap();
            container = pod.container();
        }
        main = pod.spawn(&container, &["sleep", "1001"]);
        assert!(matches!(live.wake(clock::now()).unwrap(), Wake::At(_)));
        assert!(wait_until(PATIENCE, || pod.has_ended(main)), "life {life} was not ended");
    }
    assert!(bystander.is_alive(), "the sidecar is another container");
    let how = proven(&mut *live);
    assert!(how.contains("4 signals"), "{how}");
    // A pod that stays empty has gone.
    pod.end(bystander);
    let later = clock::now().after(Duration::from_secs(31));
    assert_eq!(live.wake(later).unwrap(), Wake::TargetGone);
}

#[test]
fn stopped_processes_are_held_and_continued_by_the_revert() {
    let _one = one_at_a_time();
    let Some(mut pod) = Pod::new() else { return };
    let container = pod.container();
    let main = pod.spawn_script(&container, "sleep 1001 & READY; wait");
    let before = listing();
    let plan = plan(&kill("STOP", Processes::All, None), &pod.resolved(&container, main));
    let mut live = inject(&plan, LEASE);
    let how = proven(&mut *live);
    assert!(how.contains("is stopped"), "{how}");
    assert_eq!(state(main), Some('T'));
    let residue = plan.as_injection().residue().unwrap();
    assert!(residue.iter().any(|r| r.contains("is stopped")), "{residue:?}");
    assert!(residue.iter().any(|r| r.contains("control group")), "{residue:?}");
    assert!(residue.iter().any(|r| r.contains("helper")), "{residue:?}");
    plan.as_injection().revert().unwrap();
    drop(live);
    assert_clean(&plan);
    assert!(matches!(state(main), Some('S' | 'R')));
    plan.as_injection().revert().unwrap();
    assert_eq!(listing(), before, "left behind");
}

#[test]
fn a_revert_without_an_injection_does_nothing() {
    let _one = one_at_a_time();
    let Some(mut pod) = Pod::new() else { return };
    let container = pod.container();
    let main = pod.spawn(&container, &["sleep", "1001"]);
    let before = listing();
    for name in ["STOP", "KILL"] {
        let plan = plan(&kill(name, Processes::Main, None), &pod.resolved(&container, main));
        plan.as_injection().revert().unwrap();
        plan.as_injection().revert().unwrap();
        assert_clean(&plan);
    }
    assert!(main.is_alive());
    assert_eq!(listing(), before);
}

#[test]
fn whom_somebody_else_has_stopped_is_left_alone() {
    let _one = one_at_a_time();
    let Some(mut pod) = Pod::new() else { return };
    let container = pod.container();
    let main = pod.spawn(&container, &["sleep", "1001"]);
    let other = pod.spawn(&container, &["sleep", "1002"]);
    let stop = nix::sys::signal::Signal::SIGSTOP;
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(other.pid), stop).unwrap();
    wait_for("a stopped process", || state(other) == Some('T'));
    let refusal = try_plan(&kill("STOP", Processes::Main, None), &pod.resolved(&container, other));
    let text = refusal.expect_err("stopped already").to_string();
    assert!(text.contains("by somebody else"), "{text}");
    let plan = plan(&kill("STOP", Processes::All, None), &pod.resolved(&container, main));
    let mut live = inject(&plan, LEASE);
    proven(&mut *live);
    plan.as_injection().revert().unwrap();
    drop(live);
    assert!(matches!(state(main), Some('S' | 'R')));
    assert_eq!(state(other), Some('T'), "not ours to continue");
}

/// Has another process stop one as the agent would, does `then` to that agent, and returns when the
/// process was continued.
fn continued_at(
    lease: Duration,
    then: impl FnOnce(Agent) -> Option<Agent>,
) -> Option<(BootTime, BootTime)> {
    let mut pod = Pod::new()?;
    let container = pod.container();
    let main = pod.spawn(&container, &["sleep", "1001"]);
    let before = listing();
    let plan = plan(&kill("STOP", Processes::Main, None), &pod.resolved(&container, main));
    let agent = Agent::inject(HELPER.as_ref(), &plan, lease);
    let lease_end = agent.lease_end;
    wait_for("the process to be stopped", || state(main) == Some('T'));
    let agent = then(agent);
    wait_for("the process to be continued", || matches!(state(main), Some('S' | 'R')));
    let continued = clock::now();
    wait_for("the stopper to end", || helpers_of(&plan).is_empty());
    drop(agent);
    assert_clean(&plan);
    assert_eq!(listing(), before);
    Some((lease_end, continued))
}

#[test]
fn the_end_of_the_lease_continues_while_the_agent_is_stopped() {
    let _one = one_at_a_time();
    let stopped = |agent: Agent| {
        agent.signal(nix::sys::signal::Signal::SIGSTOP);
        Some(agent)
    };
    let Some((lease_end, at)) = continued_at(Duration::from_millis(1_500), stopped) else { return };
    eprintln!("continued {:?} after the end of the lease", at - lease_end);
    assert!(at >= lease_end, "before the end of the lease");
    assert!(at - lease_end <= Duration::from_millis(500), "{:?}", at - lease_end);
}

#[test]
fn a_stopper_that_was_stopped_itself_is_not_swept_away_from_what_it_has_stopped() {
    let _one = one_at_a_time();
    let Some(mut pod) = Pod::new() else { return };
    let container = pod.container();
    let main = pod.spawn(&container, &["sleep", "1001"]);
    let before = listing();
    let plan = plan(&kill("STOP", Processes::Main, None), &pod.resolved(&container, main));
    let agent = Agent::inject(HELPER.as_ref(), &plan, LEASE);
    wait_for("the process to be stopped", || state(main) == Some('T'));
    let [found] = helpers_of(&plan)[..] else { panic!("one stopper") };
    let pid = nix::unistd::Pid::from_raw(found.pid);
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGSTOP).unwrap();
    agent.kill_9();
    // As an agent does that starts, and has no record of the fault.
    let (_ended, failed) = helper::sweep().unwrap();
    assert!(failed.is_empty(), "{failed:?}");
    // The kernel may have been first: it continues who is left stopped in a process group that nobody
    // outside of it could continue (setpgid(2)).
    wait_for("it to let go of what it held", || matches!(state(main), Some('S' | 'R')));
    wait_for("the stopper to end", || helpers_of(&plan).is_empty());
    assert_clean(&plan);
    assert_eq!(listing(), before);
}

#[test]
fn the_death_of_the_agent_continues_at_once() {
    let _one = one_at_a_time();
    let mut killed = clock::now();
    let kill_9 = |agent: Agent| {
        killed = clock::now();
        agent.kill_9();
        None
    };
    let Some((_, at)) = continued_at(LEASE, kill_9) else { return };
    eprintln!("continued {:?} after the agent was killed", at - killed);
    assert!(at - killed <= Duration::from_millis(500), "{:?}", at - killed);
}

/// Has a stopper stop a process, of an agent that ends before it has heard of it. Returns when the
/// stopper has ended.
fn stop_and_die(main: ProcessId, pod: &Pod, container: &Container) {
    let id = FaultId::random().expect("bits");
    let resolved = pod.resolved(container, main);
    let start = stopper::Start { lease_end: clock::now().after(LEASE) };
    let stop = helper::Request::Stop {
        signal: signal("STOP").number(),
        processes: vec![main],
        container: ContainerRef {
            pod_uid: resolved.target.uid.clone(),
            id: container.id.clone(),
            containers: resolver().containers,
        },
    };
    let mut child = Command::new(HELPER)
        .args([helper::MARKER, helper::Kind::Stopper.as_str(), &id.to_string(), "0.0"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .expect("started");
    let lines = [serde_json::to_string(&start), serde_json::to_string(&stop)];
    let lines: String = lines.into_iter().map(|line| line.expect("text") + "\n").collect();
    child.stdin.take().expect("a pipe").write_all(lines.as_bytes()).expect("told");
    assert!(child.wait().expect("it ends").success());
}

/// Whether a thread of a process is stopped, or a signal that stops waits for it.
fn is_stopped_somewhere(process: ProcessId) -> bool {
    let tasks = fs::read_dir(format!("/proc/{}/task", process.pid)).expect("its threads");
    tasks.flatten().any(|task| {
        let status = fs::read_to_string(task.path().join("status")).unwrap_or_default();
        status.lines().any(|line| {
            let pending = line.strip_prefix("ShdPnd:\t").or(line.strip_prefix("SigPnd:\t"));
            let pending = pending.and_then(|hex| u64::from_str_radix(hex, 16).ok());
            line.starts_with("State:\tT") || pending.is_some_and(|bits| bits >> 18 & 1 == 1)
        })
    })
}

#[test]
fn an_agent_that_dies_with_its_order_leaves_nobody_stopped() {
    const ROUNDS: usize = 300;
    let _one = one_at_a_time();
    let Some(mut pod) = Pod::new() else { return };
    let container = pod.container();
    let main = pod.spawn(&container, &["sleep", "1001"]);
    for round in 0..ROUNDS {
        stop_and_die(main, &pod, &container);
        // Whoever was about to stop has done so by then.
        std::thread::sleep(Duration::from_millis(5));
        assert!(!is_stopped_somewhere(main), "round {round}");
    }
}

/// A process with two threads, of which the main one cannot stop: it waits for a child that neither
/// executes anything nor ends. 17 is `SIGCHLD`, 0x4000 `CLONE_VFORK`: no memory is shared. The other
/// thread signals itself, and so takes what is sent to the process.
const WAITS_FOR_A_CHILD: &str = "
import ctypes, signal, sys, threading, time
signal.signal(signal.SIGUSR1, lambda *_: None)
def other():
    while True:
        signal.pthread_kill(threading.get_ident(), signal.SIGUSR1)
        time.sleep(0.001)
threading.Thread(target=other, daemon=True).start()
time.sleep(0.1)
if ctypes.CDLL(None).syscall(56, 17 | 0x4000, 0, 0, 0, 0) == 0:
    while True:
        time.sleep(100)
";

#[test]
fn who_is_stopped_in_part_is_continued_by_all_who_continue() {
    let _one = one_at_a_time();
    if Command::new("python3").arg("-c").arg("").status().is_err() {
        return skip("python3 is not installed");
    }
    let Some(mut pod) = Pod::new() else { return };
    let container = pod.container();
    let mut file = tempfile::NamedTempFile::new().expect("a file");
    file.write_all(WAITS_FOR_A_CHILD.as_bytes()).expect("written");
    let script = format!("READY; exec python3 {}", file.path().display());
    let main = pod.spawn_script(&container, &script);
    wait_for("the main thread to wait for its child", || {
        let inside = fs::read_to_string(container.dir.join("cgroup.procs")).expect("its processes");
        inside.lines().count() == 2 && state(main) == Some('D')
    });

    let plan = plan(&kill("STOP", Processes::Main, None), &pod.resolved(&container, main));
    let agent = Agent::inject(HELPER.as_ref(), &plan, LEASE);
    wait_for("the other thread to be stopped", || is_stopped_somewhere(main));
    assert_eq!(state(main), Some('D'), "the main thread is not");
    let residue = plan.as_injection().residue().expect("a look");
    assert!(residue.iter().any(|text| text.contains("is stopped")), "{residue:?}");
    agent.kill_9();
    wait_for("the stopper to end", || helpers_of(&plan).is_empty());
    assert!(!is_stopped_somewhere(main), "its stopper has let it go");

    let again = try_plan(&kill("STOP", Processes::Main, None), &pod.resolved(&container, main));
    let again = again.expect("planned");
    let live = inject(&again, LEASE);
    wait_for("the other thread to be stopped", || is_stopped_somewhere(main));
    // A stranger ends the stopper: only the revert is left.
    let [found] = helpers_of(&again)[..] else { panic!("one stopper") };
    let pid = nix::unistd::Pid::from_raw(found.pid);
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).unwrap();
    again.as_injection().revert().unwrap();
    assert!(!is_stopped_somewhere(main), "the revert has continued it");
    drop(live);
    assert_clean(&again);
}

#[test]
fn a_stopper_that_a_stranger_kills_is_noticed_and_the_revert_still_continues() {
    let _one = one_at_a_time();
    let Some(mut pod) = Pod::new() else { return };
    let container = pod.container();
    let main = pod.spawn(&container, &["sleep", "1001"]);
    let before = listing();
    let plan = plan(&kill("STOP", Processes::Main, None), &pod.resolved(&container, main));
    let mut live = inject(&plan, LEASE);
    proven(&mut *live);
    let [found] = helpers_of(&plan)[..] else { panic!("one stopper") };
    let pid = nix::unistd::Pid::from_raw(found.pid);
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).unwrap();
    wait_for("the loss to be noticed", || live.wake(clock::now()).is_err());
    assert_eq!(state(main), Some('T'), "nobody is left to continue it, but the revert");
    plan.as_injection().revert().unwrap();
    drop(live);
    assert!(matches!(state(main), Some('S' | 'R')));
    assert_clean(&plan);
    assert_eq!(listing(), before);
}

#[test]
fn a_renewed_lease_holds_longer_and_the_end_of_the_target_ends_all() {
    let _one = one_at_a_time();
    let Some(mut pod) = Pod::new() else { return };
    let container = pod.container();
    let main = pod.spawn(&container, &["sleep", "1001"]);
    let fault = kill("STOP", Processes::Main, Some(Duration::from_millis(100)));
    let plan = plan(&fault, &pod.resolved(&container, main));
    let mut live = inject(&plan, Duration::from_secs(1));
    live.renew(clock::now().after(LEASE)).unwrap();
    std::thread::sleep(Duration::from_millis(1_300));
    assert_eq!(state(main), Some('T'), "the first lease is over, the second is not");
    // Somebody else continues it: the repetition stops it again.
    let cont = nix::sys::signal::Signal::SIGCONT;
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(main.pid), cont).unwrap();
    wait_for("it to run", || matches!(state(main), Some('S' | 'R')));
    live.wake(clock::now()).unwrap();
    wait_for("it to be stopped again", || state(main) == Some('T'));
    pod.end(main);
    wait_for("the stopper to end by itself", || helpers_of(&plan).is_empty());
    assert_eq!(live.wake(clock::now()).unwrap(), Wake::TargetGone);
    plan.as_injection().revert().unwrap();
    drop(live);
    assert_clean(&plan);
}
