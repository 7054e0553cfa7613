//! A node on which something cannot be reverted: it takes no new faults until a person says so, and
//! the same person can have it tried again.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use faultline_tests::{
    observer::{can_run, processes_in_cgroup},
    process::memory_hierarchy,
    program::Running,
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;

use super::{alone, hostile::waits_for, inventory, killed::agent_beside, pod_seen};

const LIMIT: Duration = Duration::from_mins(1);

/// A kept sandbox of one node.
const SANDBOX: &str = "apiVersion: faultline.dev/v1alpha1
kind: Experiment
metadata: { name: stuck }
spec:
  targets: { one: { names: [echo-1] } }
  method: [{ kill: { target: one, signal: STOP }, for: 1s }]
  sandbox:
    nodes: 1
    agents: { restartAfter: 100ms }
    pods:
      - { name: echo, replicas: 1, workload: echo, memoryLimit: 64MiB }
";

/// The control group that is made for the fault: below that of the container.
fn own_group(root: &Path, container: &str) -> Option<PathBuf> {
    let mut left = vec![root.to_owned()];
    while let Some(dir) = left.pop() {
        for entry in fs::read_dir(&dir).into_iter().flatten().flatten() {
            let path = entry.path();
            let name = entry.file_name().to_string_lossy().into_owned();
            if name.starts_with("faultline_") && dir.ends_with(container) {
                return Some(path);
            }
            if path.is_dir() {
                left.push(path);
            }
        }
    }
    None
}

#[test]
fn what_is_stuck_is_acknowledged_and_reverted_when_it_can_be() {
    let Some((root, _)) = memory_hierarchy().filter(|_| can_run("a control group in the way"))
    else {
        return;
    };
    let alone = alone();
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("stuck.yaml");
    fs::write(&file, SANDBOX).expect("written");
    let mut sandbox = Running::start(&["sandbox", &file.display().to_string()]);
    sandbox.wait_for("inventory.json", LIMIT);
    let (path, seen) = inventory(sandbox.pid());
    let path = path.display().to_string();
    let said = |args: &[&str]| {
        let ended = Running::start(&[args, &["--inventory", &path]].concat()).end(LIMIT);
        (ended.code, ended.text)
    };
    let ps = || {
        let (code, text) = said(&["ps", "--output", "json"]);
        let value: Value = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {text}"));
        (code, value)
    };
    let partition = [
        "inject",
        "partition",
        "--between",
        "name=echo-1",
        "--between",
        "everything",
        "--for",
        "1s",
    ];

    // A group of somebody else inside of ours: it cannot be removed.
    let container = pod_seen(&seen, "echo-1").container_id;
    let pressure = ["inject", "memory-pressure", "--target", "name=echo-1", "--to", "16MiB"];
    let mut run = Running::start(&[&pressure, &["--for", "1s", "--inventory", &path][..]].concat());
    run.wait_for("effect", LIMIT);
    let group = own_group(&root, &container).expect("a group made for the fault");
    let foreign = group.join("somebody-elses");
    fs::create_dir(&foreign).expect("made");
    let ended = run.end(LIMIT);
    assert_eq!(ended.code, Some(4), "{}", ended.text);
    let (code, shown) = ps();
    assert_eq!(code, Some(4), "{shown}");
    assert_eq!(shown["stuck"][0]["acknowledged"], false, "{shown}");
    let id = shown["stuck"][0]["faultId"].as_str().expect("an id").to_owned();
    let (code, text) = said(&partition);
    assert_eq!(code, Some(3), "{text}");
    assert!(text.contains(&format!("`faultline resume --acknowledge {id}`")), "{text}");

    let (code, text) = said(&["resume", "--acknowledge", "0123456789abcdef"]);
    assert_eq!(code, Some(3), "{text}");
    assert!(text.contains("is not stuck") && text.contains(&id), "{text}");
    let (code, text) = said(&["resume", "--acknowledge", &id]);
    assert_eq!(code, Some(0), "{text}");
    let is_acknowledged = || {
        let (code, shown) = ps();
        assert_eq!(code, Some(4), "what is left is left: {shown}");
        shown["stuck"][0]["acknowledged"] == true && shown["injections"][0]["state"] == "stuck"
    };
    assert!(is_acknowledged());
    let (code, text) = said(&partition);
    assert_eq!(code, Some(0), "{text}");

    // Its agent forgets nothing.
    let agent = || agent_beside(&sandbox, processes_in_cgroup(&container)[0]);
    let old = agent();
    kill(Pid::from_raw(old), Signal::SIGKILL).expect("killed");
    waits_for("a new agent", LIMIT, || {
        let (code, text) = said(&["ps"]);
        code == Some(4) && text.contains("stuck and was acknowledged")
    });
    assert!(is_acknowledged() && agent() != old);
    let (code, text) = said(&partition);
    assert_eq!(code, Some(0), "{text}");

    // Whoever put it there takes it away, and the next attempt leaves nothing.
    fs::remove_dir(&foreign).expect("removed");
    let (code, text) = said(&["halt", "--reason", "once more"]);
    assert_eq!(code, Some(0), "{text}");
    assert!(!group.exists());
    let state = Path::new(&path).with_file_name("node1").join("state/journal");
    assert_eq!(fs::read_dir(&state).expect("a journal").count(), 0, "neither record nor note");
    let (code, shown) = ps();
    assert_eq!((code, shown["stuck"].as_array().map(Vec::len)), (Some(0), Some(0)), "{shown}");
    sandbox.signal(Signal::SIGINT);
    let ended = sandbox.end(LIMIT);
    assert!(matches!(ended.code, Some(0 | 130)), "{}", ended.text);
    alone.check_clean();
}
