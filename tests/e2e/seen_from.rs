//! Probes that agents make from pods: what they say of a partition is what a socket of the test's own
//! saw from the same pod, and an agent that is gone says nothing good.

use std::{fs, net::SocketAddr, time::Duration};

use faultline_tests::{
    observer::{UdpProber, can_run, processes_in_cgroup},
    program::Running,
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;

use super::{alone, inventory, killed::agent_beside, pod_seen};

const LIMIT: Duration = Duration::from_mins(1);

/// Two pods are cut from each other; each is asked whether it sees the other one, by its name.
fn experiment(dir: &tempfile::TempDir, during: &str, cut: &str) -> String {
    let probe = |name: &str, from: &str, to: &str| {
        format!(
            "
    - name: {name}
      from: {from}
      udp: {{ address: \"{to}:7001\", send: ping, expect: ping }}
      every: 10ms
      timeout: 200ms
      steady: {{ success: \">= 95%\" }}
      during: {{ success: \"{during}\" }}"
        )
    };
    let text = format!(
        "apiVersion: faultline.dev/v1alpha1
kind: Experiment
metadata: {{ name: seen-from }}
spec:
  targets:
    near: {{ names: [echo-1] }}
    far: {{ names: [echo-2] }}
  probes:{}{}
  method:
    - partition: {cut}
      for: 2s
",
        probe("far-seen", "near", "echo-2"),
        probe("near-seen", "far", "echo-1"),
    );
    let path = dir.path().join("seen-from.yaml");
    fs::write(&path, text).expect("written");
    path.display().to_string()
}

fn report_of(text: &str) -> Value {
    serde_json::from_str(&text[text.find('{').expect("JSON")..]).expect("nothing but JSON")
}

#[test]
fn both_sides_of_a_partition_see_it_as_a_socket_inside_does() {
    if !can_run("probes from pods") {
        return;
    }
    let alone = alone();
    let dir = tempfile::tempdir().expect("a directory");
    let mut sandbox = Running::start(&["sandbox", "--nodes", "2"]);
    sandbox.wait_for("inventory.json", LIMIT);
    let (file, seen) = inventory(sandbox.pid());
    let pods = seen["pods"].as_array().expect("pods");
    let pod = |name: &str| pods.iter().find(|pod| pod["name"] == name).expect("a pod");
    let uid = pod("echo-1")["uid"].as_str().expect("a uid");
    let holder = seen["holders"][uid]["pid"].as_i64().expect("a pid");
    let far = pod("echo-2")["addresses"][0].as_str().expect("an address");
    let far = SocketAddr::new(far.parse().expect("an address"), 7001);
    let observer = UdpProber::start(i32::try_from(holder).expect("a pid"), far);
    let path = file.display().to_string();
    let experiment = experiment(&dir, "< 20%", "{ between: [near, far] }");
    let run = Running::start(&["run", "--inventory", &path, &experiment, "--output", "json"]);
    let ended = run.end(LIMIT);
    let (began, back) = observer.longest_outage().expect("an outage");
    assert_eq!(ended.code, Some(0), "{}", ended.text);
    let report = report_of(&ended.text);
    let probes = report["probes"].as_array().expect("a list");
    let names: Vec<&str> = probes.iter().filter_map(|probe| probe["name"].as_str()).collect();
    assert_eq!(names, ["far-seen@default/echo-1", "near-seen@default/echo-2"]);
    for probe in probes {
        let number = |field: &str| probe["downtime"][field].as_f64().expect("a number");
        let (total, uncertainty) = (number("totalMs"), number("uncertaintyMs"));
        let seen = (back - began).as_secs_f64() * 1e3;
        // The observer itself sends every millisecond, and a little later on a busy machine.
        assert!((total - seen).abs() <= uncertainty + 25.0, "{total} ± {uncertainty}, not {seen}");
        assert_eq!(probe["downtime"]["outages"], 1, "{probe}");
    }
    sandbox.signal(Signal::SIGTERM);
    sandbox.end(LIMIT);
    alone.check_clean();
}

#[test]
fn what_an_agent_no_longer_tells_is_not_well() {
    if !can_run("an agent that is gone") {
        return;
    }
    let alone = alone();
    let dir = tempfile::tempdir().expect("a directory");
    let mut sandbox = Running::start(&["sandbox", "--nodes", "2"]);
    sandbox.wait_for("inventory.json", LIMIT);
    let (file, seen) = inventory(sandbox.pid());
    let container = pod_seen(&seen, "echo-1").container_id;
    let path = file.display().to_string();
    // Nothing that is cut here is in the way of the probes: they would succeed all the time.
    let experiment = experiment(&dir, ">= 95%", "{ from: far, to: [10.255.0.0/16] }");
    let mut run = Running::start(&["run", "--inventory", &path, &experiment]);
    run.wait_for("default/echo-2: proven", LIMIT);
    // It comes back within a second or two, and observes again: what it missed stays missed.
    let agent = agent_beside(&sandbox, processes_in_cgroup(&container)[0]);
    kill(Pid::from_raw(agent), Signal::SIGKILL).expect("it runs");
    let ended = run.end(LIMIT);
    assert_ne!(ended.code, Some(0), "{}", ended.text);
    assert!(ended.text.contains("could not be observed"), "{}", ended.text);
    assert!(ended.text.contains("far-seen@default/echo-1"), "{}", ended.text);
    sandbox.signal(Signal::SIGTERM);
    sandbox.end(LIMIT);
    alone.check_clean();
}
