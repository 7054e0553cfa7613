//! Kill -9 in the middle: the fault ends all the same, and how late is measured from outside.

use std::{
    fs,
    net::SocketAddr,
    path::PathBuf,
    thread,
    time::{Duration, Instant},
};

use faultline_tests::{
    observer::{UdpProber, can_run, descendants, lease_left, processes_in_cgroup},
    program::{Ended, Running},
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use super::{alone, inventory, pod_seen};

const LIMIT: Duration = Duration::from_mins(1);

/// Two echo services, one of which is cut off for long with a short lease.
fn experiment(dir: &tempfile::TempDir, restart_after: &str) -> PathBuf {
    let text = format!(
        "apiVersion: faultline.dev/v1alpha1
kind: Experiment
metadata: {{ name: killed }}
spec:
  lease: 2s
  targets: {{ lost: {{ names: [echo-2] }} }}
  method:
    - partition: {{ between: [lost, everything] }}
      for: 8s
  sandbox:
    nodes: 2
    agents: {{ restartAfter: {restart_after} }}
    pods:
      - {{ name: echo, labels: {{ app: echo }}, replicas: 2, workload: echo }}
"
    );
    let path = dir.path().join("killed.yaml");
    fs::write(&path, text).expect("written");
    path
}

/// The pids of the agents of a run, on the node of the pod with this process.
pub(super) fn agent_beside(run: &Running, pod_pid: i32) -> i32 {
    let pid_ns = |pid: i32| fs::read_link(format!("/proc/{pid}/ns/pid")).ok();
    let is_agent = |pid: &i32| {
        let line = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        line.contains("__faultline-agent") && pid_ns(*pid) == pid_ns(pod_pid)
    };
    descendants(run.pid()).into_iter().find(is_agent).expect("an agent on that node")
}

/// Starts the run, waits for the effect, and gives an observer in the pod that is not cut.
fn cut(restart_after: &str, dir: &tempfile::TempDir) -> (Running, UdpProber, i32) {
    let file = experiment(dir, restart_after).display().to_string();
    let mut run = Running::start(&["run", "--sandbox", &file]);
    run.wait_for("inject", LIMIT);
    let (_, inventory) = inventory(run.pid());
    let (near, lost) = (pod_seen(&inventory, "echo-1"), pod_seen(&inventory, "echo-2"));
    let near_pid = processes_in_cgroup(&near.container_id)[0];
    let lost_pid = processes_in_cgroup(&lost.container_id)[0];
    let prober = UdpProber::start(near_pid, SocketAddr::new(lost.address, 7001));
    run.wait_for("effect", LIMIT);
    (run, prober, lost_pid)
}

#[test]
fn an_agent_that_is_killed_leaves_a_fault_that_ends_with_its_lease() {
    if !can_run("kill -9 of the agent") {
        return;
    }
    let alone = alone();
    let dir = tempfile::tempdir().expect("a directory");
    let (run, prober, lost_pid) = cut("never", &dir);
    thread::sleep(Duration::from_millis(900));
    let agent = agent_beside(&run, lost_pid);
    kill(Pid::from_raw(agent), Signal::SIGKILL).expect("killed");
    // The kernel's own word, after the agent can renew no more.
    thread::sleep(Duration::from_millis(20));
    let asked = Instant::now();
    let left = lease_left(lost_pid).expect("the lease lives on without the agent");
    let lease_end = asked + left;
    assert!(left > Duration::from_millis(300) && left <= Duration::from_secs(2), "{left:?}");
    thread::sleep(left + Duration::from_millis(500));
    let (_, healed) = prober.longest_outage().expect("there was an outage");
    let late = healed.saturating_duration_since(lease_end);
    let early = lease_end.saturating_duration_since(healed);
    eprintln!("the outage ended {late:?} after its lease (or {early:?} before it)");
    assert!(
        late < Duration::from_millis(100) && early < Duration::from_millis(100),
        "{late:?} {early:?}"
    );
    // The controller cannot prove what no agent tells it, and says so.
    let Ended { code, text } = run.end(LIMIT);
    assert_eq!(code, Some(4), "{text}");
    assert!(text.contains("did not say that it is reverted"), "{text}");
    alone.check_clean();
}

#[test]
fn an_agent_that_is_killed_and_restarted_reverts_from_its_journal() {
    if !can_run("restart of the agent") {
        return;
    }
    let alone = alone();
    let dir = tempfile::tempdir().expect("a directory");
    let (run, prober, lost_pid) = cut("100ms", &dir);
    let killed = Instant::now();
    kill(Pid::from_raw(agent_beside(&run, lost_pid)), Signal::SIGKILL).expect("killed");
    let Ended { code, text } = run.end(LIMIT);
    let (_, healed) = prober.longest_outage().expect("there was an outage");
    let after = healed.saturating_duration_since(killed);
    assert!(after < Duration::from_millis(1_500), "before the lease of 2 s, after {after:?}");
    assert_eq!(code, Some(1), "the fault did not last as it should: {text}");
    // At once, and not only when it was to end.
    assert!(text.contains("ended before its time: its agent was restarted"), "{text}");
    alone.check_clean();
}

#[test]
fn an_agent_that_is_stopped_cannot_keep_a_fault_alive() {
    if !can_run("SIGSTOP of the agent") {
        return;
    }
    let alone = alone();
    let dir = tempfile::tempdir().expect("a directory");
    let (run, prober, lost_pid) = cut("never", &dir);
    let agent = Pid::from_raw(agent_beside(&run, lost_pid));
    kill(agent, Signal::SIGSTOP).expect("stopped");
    let left = lease_left(lost_pid).expect("the lease lives on");
    let lease_end = Instant::now() + left;
    thread::sleep(left + Duration::from_millis(300));
    kill(agent, Signal::SIGCONT).expect("continued");
    let (_, healed) = prober.longest_outage().expect("there was an outage");
    let late = healed.saturating_duration_since(lease_end);
    assert!(late < Duration::from_millis(100), "{late:?}");
    let Ended { code, text } = run.end(LIMIT);
    assert_eq!(code, Some(1), "{text}");
    alone.check_clean();
}

#[test]
fn a_command_line_that_is_killed_takes_its_sandbox_with_it() {
    if !can_run("kill -9 of the command line") {
        return;
    }
    let alone = alone();
    let dir = tempfile::tempdir().expect("a directory");
    let (run, prober, _) = cut("1s", &dir);
    let children = descendants(run.pid());
    run.signal(Signal::SIGKILL);
    let killed = Instant::now();
    let is_alive = |pid: &&i32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        !stat.is_empty() && !stat.contains(") Z ")
    };
    while children.iter().any(|pid| is_alive(&pid)) {
        assert!(killed.elapsed() < Duration::from_secs(3), "everything ends with it");
        thread::sleep(Duration::from_millis(10));
    }
    prober.longest_outage();
    drop(run);
    // Control groups and the directory are swept by the next one.
    let file = experiment(&dir, "1s");
    let text = fs::read_to_string(&file).expect("read").replace("for: 8s", "for: 100ms");
    fs::write(&file, text).expect("written");
    let next = Running::start(&["run", "--sandbox", &file.display().to_string()]).end(LIMIT);
    assert_eq!(next.code, Some(0), "{}", next.text);
    alone.check_clean();
}
