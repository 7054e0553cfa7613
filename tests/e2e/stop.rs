//! A run that a stop condition ends: how long the outage was is seen by datagrams of the test's own.

use std::{fs, net::SocketAddr, time::Duration};

use faultline_tests::{
    observer::{UdpProber, can_run, output_in_net_ns_of, processes_in_cgroup},
    program::Running,
};
use nix::sys::signal::Signal;
use serde_json::Value;

use super::{alone, inventory, pod_seen};

const LIMIT: Duration = Duration::from_mins(1);
/// What the condition looks back on.
const OVER: Duration = Duration::from_secs(1);
/// How long an attempt may take, which is known to have failed only then.
const TIMEOUT: Duration = Duration::from_millis(100);
/// From a broken condition to everything reverted, at most.
const REVERTED_MAX: Duration = Duration::from_millis(500);
/// What a busy machine may add.
const SLACK: Duration = Duration::from_millis(500);

const EXPERIMENT: &str = "apiVersion: faultline.dev/v1alpha1
kind: Experiment
metadata: { name: stop }
spec:
  targets: { all: { names: [echo-1, echo-2, echo-3] } }
  probes:
    - name: second
      http: { url: \"http://ADDRESS:8080/\" }
      every: 10ms
      timeout: 100ms
      steady: { success: \">= 99%\" }
  stopConditions:
    - { probe: second, success: \"< 50%\", over: 1s }
  method:
    - partition: { between: [all, everything] }
      for: 50s
";

#[test]
fn an_outage_is_over_within_half_a_second_of_a_broken_condition() {
    if !can_run("a stop condition") {
        return;
    }
    let alone = alone();
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("stop.yaml");
    let mut sandbox = Running::start(&["sandbox", "--nodes", "3"]);
    sandbox.wait_for("inventory.json", LIMIT);
    let (path, seen) = inventory(sandbox.pid());
    let pods = ["echo-1", "echo-2"].map(|name| pod_seen(&seen, name));
    let [near, far] = pods.each_ref().map(|pod| processes_in_cgroup(&pod.container_id)[0]);
    let prober = UdpProber::start(near, SocketAddr::new(pods[1].address, 7001));

    // Who comes with an inventory does not know the pods' names.
    let experiment = EXPERIMENT.replace("ADDRESS", &pods[1].address.to_string());
    fs::write(&file, experiment).expect("written");
    let (path, file) = (path.display().to_string(), file.display().to_string());
    let run = Running::start(&["run", "--inventory", &path, "--output", "json", &file]);
    let ended = run.end(LIMIT);
    for pod in [near, far] {
        let tables = output_in_net_ns_of(pod, "nft", &["list", "tables"]);
        assert!(!tables.contains("faultline"), "{tables}");
    }
    std::thread::sleep(Duration::from_millis(50));
    assert_eq!(ended.code, Some(1), "{}", ended.text);
    let (from, to) = prober.longest_outage().expect("they were cut");
    let start = ended.text.find('{').expect("JSON");
    let report: Value = serde_json::from_str(&ended.text[start..]).expect("nothing but JSON");
    let reason = report["reasons"][0].as_str().expect("a reason");
    assert!(reason.starts_with("stop condition: probe `second` succeeded "), "{reason}");
    assert!(reason.ends_with("stop.yaml:13)"), "{reason}");
    let reverted = report["stopped"]["timeToRevertedMs"].as_f64().expect("a figure");
    println!("reverted everywhere {reverted} ms after the condition was broken");
    println!("the outage lasted {:?}", to - from);
    assert!(reverted <= REVERTED_MAX.as_secs_f64() * 1e3, "{reverted} ms");
    // Half of the window, until the last attempt that counts has failed, and the way back.
    let outage = OVER / 2 + TIMEOUT + REVERTED_MAX + SLACK;
    assert!(to - from <= outage, "{:?}", to - from);
    assert!(to - from >= OVER / 4, "it was cut until then: {:?}", to - from);

    sandbox.signal(Signal::SIGINT);
    assert!(matches!(sandbox.end(LIMIT).code, Some(0 | 130)));
    alone.check_clean();
}
