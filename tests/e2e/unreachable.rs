//! Nodes whose agents are dead or hang, and commands that are to work all the same.

use std::{
    fs,
    time::{Duration, Instant},
};

use faultline_tests::{
    observer::{can_run, output_in_net_ns_of, processes_in_cgroup},
    program::Running,
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;

use super::{alone, hostile::waits_for, inventory, killed::agent_beside, pod_seen};

const LIMIT: Duration = Duration::from_mins(1);
/// How long a command may be held up by an agent that does not answer.
const HELD_UP_MAX: Duration = Duration::from_secs(20);

const SANDBOX: &str = "apiVersion: faultline.dev/v1alpha1
kind: Experiment
metadata: { name: unreachable }
spec:
  lease: 5s
  targets: { all: { labels: { app: echo } } }
  method:
    - partition: { between: [all, everything] }
      for: 60s
  sandbox:
    nodes: 3
    agents: { restartAfter: never }
    pods:
      - { name: echo, labels: { app: echo }, replicas: 3, workload: echo }
";

#[test]
fn a_halt_reaches_whom_it_can_and_says_of_the_others_until_when() {
    if !can_run("agents that do not answer") {
        return;
    }
    let alone = alone();
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("unreachable.yaml");
    fs::write(&file, SANDBOX).expect("written");
    let mut run = Running::start(&["run", "--sandbox", &file.display().to_string()]);
    run.wait_for("effect", LIMIT);
    let (path, seen) = inventory(run.pid());
    let path = path.display().to_string();
    let pods = ["echo-1", "echo-2", "echo-3"]
        .map(|name| processes_in_cgroup(&pod_seen(&seen, name).container_id)[0]);
    let is_cut = |pod: i32| {
        let ruleset = output_in_net_ns_of(pod, "nft", &["list", "ruleset"]);
        ruleset.contains("faultline_")
    };
    let agents = pods.map(|pod| Pid::from_raw(agent_beside(&run, pod)));
    kill(agents[1], Signal::SIGKILL).expect("killed");
    kill(agents[2], Signal::SIGSTOP).expect("stopped");
    let said = |args: &[&str]| {
        let began = Instant::now();
        let ended = Running::start(&[args, &["--inventory", &path]].concat()).end(LIMIT);
        assert!(began.elapsed() < HELD_UP_MAX, "{args:?} took {:?}", began.elapsed());
        (ended.code, ended.text)
    };

    let (code, text) = said(&["halt", "--reason", "enough", "--output", "json"]);
    assert_eq!(code, Some(4), "{text}");
    let halt: Value = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {text}"));
    assert_eq!(halt["halted"].as_array().map(Vec::len), Some(1), "{halt}");
    assert!(!is_cut(pods[0]), "the node that could be reached is clean");
    let unreachable = halt["unreachable"].as_array().expect("a list");
    let mut nodes: Vec<_> = unreachable.iter().filter_map(|u| u["node"].as_str()).collect();
    nodes.sort_unstable();
    assert_eq!(nodes, ["node2", "node3"], "{halt}");
    for unreachable in unreachable {
        let end = unreachable["faultsEnd"]["inMs"].as_f64().expect("an end");
        assert!(end > 0.0 && end <= 300_000.0, "{unreachable}");
    }
    let (code, text) = said(&["halt", "--reason", "enough"]);
    assert_eq!(code, Some(4), "{text}");
    assert!(text.contains("UTC (in 5.0 min) at the latest, if nobody renews it"), "{text}");
    for args in [&["ps"][..], &["resume"]] {
        let (code, text) = said(args);
        assert_eq!(code, Some(3), "{text}");
        assert!(text.contains("node2") && text.contains("node3"), "{text}");
    }
    kill(agents[2], Signal::SIGCONT).expect("continued");
    waits_for("the stopped agent to take its fault back", LIMIT, || !is_cut(pods[2]));
    run.signal(Signal::SIGINT);
    let ended = run.end(LIMIT);
    assert_eq!(ended.code, Some(4), "an agent is dead: {}", ended.text);
    alone.check_clean();
}
