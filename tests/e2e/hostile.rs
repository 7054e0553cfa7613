//! Surroundings that are against it: disks that take nothing, commands that hang.

use std::{
    fs,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use faultline_tests::{
    observer::{can_run, output_in_net_ns_of, processes_in_cgroup, processes_named},
    program::Running,
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use super::{alone, inventory, killed::agent_beside, pod_seen};

const LIMIT: Duration = Duration::from_mins(1);

fn write(dir: &tempfile::TempDir, spec: &str) -> String {
    let text = format!(
        "apiVersion: faultline.dev/v1alpha1\nkind: Experiment\nmetadata: {{ name: hostile }}\nspec:\n{spec}"
    );
    let path = dir.path().join("hostile.yaml");
    fs::write(&path, text).expect("written");
    path.display().to_string()
}

/// Runs `mount` in the mount namespace of a process.
fn mount_beside(pid: i32, args: &[&str]) {
    let pid = pid.to_string();
    let status = Command::new("nsenter").args(["-t", &pid, "-m", "mount"]).args(args).status();
    assert!(status.expect("nsenter runs").success(), "mount {args:?}");
}

pub(super) fn waits_for(what: &str, limit: Duration, mut done: impl FnMut() -> bool) {
    let end = Instant::now() + limit;
    while !done() {
        assert!(Instant::now() < end, "{what} within {limit:?}");
        thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn an_agent_whose_disk_became_read_only_still_reverts_and_refuses_what_is_new() {
    if !can_run("a read-only disk") {
        return;
    }
    let alone = alone();
    let dir = tempfile::tempdir().expect("a directory");
    let file = write(
        &dir,
        "  lease: 40s
  targets: { lost: { names: [echo-1] } }
  method:
    - partition: { between: [lost, everything] }
      for: 60s
  sandbox:
    nodes: 1
    agents: { restartAfter: 100ms }
    pods:
      - { name: echo, replicas: 1, workload: echo }
",
    );
    let mut run = Running::start(&["run", "--sandbox", &file]);
    run.wait_for("effect", LIMIT);
    let (inventory_file, inventory) = inventory(run.pid());
    let pod = processes_in_cgroup(&pod_seen(&inventory, "echo-1").container_id)[0];
    let agent = agent_beside(&run, pod);
    let state = inventory_file.parent().expect("a directory").join("node1/state");
    let state = state.display().to_string();
    mount_beside(agent, &["--bind", &state, &state]);
    mount_beside(agent, &["-o", "remount,ro,bind", &state]);
    kill(Pid::from_raw(agent), Signal::SIGKILL).expect("killed");
    let table = || output_in_net_ns_of(pod, "nft", &["list", "ruleset"]).contains("faultline_");
    waits_for("the table goes long before the lease", Duration::from_secs(10), || !table());
    // The record is still there, so that the node is not clean; and it says so, and the way out.
    let place = inventory_file.display().to_string();
    let again = ["inject", "kill", "--target", "name=echo-1", "--inventory", &place];
    let stuck = || Running::start(&["ps", "--inventory", &place]).end(LIMIT).text.contains("stuck");
    waits_for("it has tried often enough", Duration::from_secs(10), stuck);
    let refused = Running::start(&again).end(LIMIT);
    assert_eq!(refused.code, Some(3), "{}", refused.text);
    assert!(refused.text.contains("Read-only file system"), "{}", refused.text);
    assert!(refused.text.contains("faultline halt"), "{}", refused.text);
    // An acknowledgement that would not last is none.
    let id = refused.text.split("--acknowledge ").nth(1).expect("the way out").get(..16);
    let id = id.expect("an id").to_owned();
    let resume = ["resume", "--acknowledge", &id, "--inventory", &place];
    let refused = Running::start(&resume).end(LIMIT);
    assert_eq!(refused.code, Some(3), "{}", refused.text);
    assert!(refused.text.contains("cannot acknowledge fault"), "{}", refused.text);
    run.signal(Signal::SIGINT);
    let ended = run.end(LIMIT);
    assert_eq!(ended.code, Some(4), "{}", ended.text);
    alone.check_clean();
}

#[test]
fn a_probe_whose_command_hangs_leaves_no_process() {
    if !can_run("an exec probe") {
        return;
    }
    let alone = alone();
    let dir = tempfile::tempdir().expect("a directory");
    // A number that nobody else sleeps for.
    let seconds = format!("7{}", std::process::id());
    let file = write(
        &dir,
        &format!(
            "  targets: {{ one: {{ names: [echo-1] }} }}
  probes:
    - name: hangs
      exec: {{ target: one, command: [sleep, \"{seconds}\"] }}
      every: 100ms
      timeout: 150ms
  method:
    - wait: 3s
    - partition: {{ between: [one, everything] }}
      for: 100ms
  sandbox:
    nodes: 1
    pods:
      - {{ name: echo, replicas: 1, workload: echo }}
"
        ),
    );
    let mut run = Running::start(&["run", "--sandbox", &file]);
    run.wait_for("wait", LIMIT);
    thread::sleep(Duration::from_secs(2));
    // What enters the pod has the command among its own arguments, and is not meant.
    let sleeping = processes_named(&format!("sleep {seconds}"));
    let is_sleep = |pid: &&i32| {
        fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|comm| comm.trim() == "sleep")
    };
    let left = sleeping.iter().filter(is_sleep).count();
    assert!(left <= 4, "those of the latest attempts, not {left}");
    let ended = run.end(LIMIT);
    assert_eq!(ended.code, Some(0), "{}", ended.text);
    alone.check_clean();
}
