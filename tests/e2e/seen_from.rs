//! Probes that agents make from pods: what they say of a partition is what a socket of the test's own
//! saw from the same pod, an agent that is gone says nothing good, and a pod that is gone is left for the next.

use std::{fs, net::SocketAddr, path::Path, time::Duration};

use faultline_tests::{
    observer::{UdpProber, can_run, in_net_ns_of, processes_in_cgroup},
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

/// Writes what a sandbox has, as a place that only these pods are in.
fn write_place(dir: &Path, sandbox: &Path, seen: &Value, names: &[&str]) -> String {
    let mut place = seen.clone();
    let pods = place["pods"].as_array_mut().expect("pods");
    pods.retain(|pod| names.iter().any(|name| pod["name"] == *name));
    for (_, path) in place["tls"].as_object_mut().expect("paths") {
        let of_sandbox = sandbox.parent().expect("a directory");
        *path = of_sandbox.join(path.as_str().expect("a path")).display().to_string().into();
    }
    let (draft, file) = (dir.join("place.new"), dir.join("place.json"));
    fs::write(&draft, place.to_string()).expect("written");
    fs::rename(draft, &file).expect("replaced");
    file.display().to_string()
}

/// Datagrams that have left the network of a process, as the kernel counts them.
fn datagrams_of(pid: i32) -> u64 {
    let counts = in_net_ns_of(pid, || fs::read_to_string("/proc/thread-self/net/snmp"));
    let counts = counts.expect("counts");
    let mut lines = counts.lines().filter_map(|line| line.strip_prefix("Udp: "));
    let (names, numbers) = (lines.next().expect("names"), lines.next().expect("numbers"));
    let mut pairs = names.split(' ').zip(numbers.split(' '));
    let (_, sent) = pairs.find(|(name, _)| *name == "OutDatagrams").expect("a count");
    sent.parse().expect("a number")
}

#[test]
fn from_a_pod_that_has_gone_a_probe_goes_on_from_the_one_that_is_made_in_its_place() {
    if !can_run("a pod that is made under another name") {
        return;
    }
    let alone = alone();
    let dir = tempfile::tempdir().expect("a directory");
    let mut sandbox = Running::start(&["sandbox", "--nodes", "3"]);
    sandbox.wait_for("inventory.json", LIMIT);
    let (file, seen) = inventory(sandbox.pid());
    let holder = |name: &str| {
        let pods = seen["pods"].as_array().expect("pods");
        let pod = pods.iter().find(|pod| pod["name"] == name).expect("a pod");
        let pid = seen["holders"][pod["uid"].as_str().expect("a uid")]["pid"].as_i64();
        i32::try_from(pid.expect("a pid")).expect("a pid")
    };
    // A sandbox gives pods their names again. To the run, echo-3 is made when echo-1 has gone.
    let path = write_place(dir.path(), &file, &seen, &["echo-1", "echo-2"]);
    let text = "apiVersion: faultline.dev/v1alpha1
kind: Experiment
metadata: { name: seen-from }
spec:
  targets:
    near: { names: [echo-1] }
    far: { names: [echo-2] }
  probes:
    - name: seen
      from: near
      udp: { address: \"echo-2:7001\", send: ping, expect: ping }
      every: 10ms
      timeout: 200ms
      during: { success: \">= 100%\" }
  method:
    - partition: { from: far, to: [10.255.0.0/16] }
      for: 8s
  assertions:
    - { outages: \"<= 0\", probe: seen }
";
    let experiment = dir.path().join("seen-from.yaml");
    fs::write(&experiment, text).expect("written");
    let experiment = experiment.display().to_string();
    let record = dir.path().join("record").display().to_string();
    let run = ["run", "--inventory", &path, &experiment, "--report-dir", &record];
    let mut run = Running::start(&run);
    run.wait_for("default/echo-2: proven", LIMIT);
    let before = datagrams_of(holder("echo-3"));
    kill(Pid::from_raw(holder("echo-1")), Signal::SIGKILL).expect("it runs");
    write_place(dir.path(), &file, &seen, &["echo-2", "echo-3"]);
    run.wait_for("goes on from default/echo-3, in the place of default/echo-1", LIMIT);
    let ended = run.end(LIMIT);
    assert_eq!(ended.code, Some(0), "{}", ended.text);
    let told = "seen@default/echo-1: from default/echo-3 in the place of default/echo-1, since";
    assert!(ended.text.contains(told), "{}", ended.text);
    let made = datagrams_of(holder("echo-3")) - before;
    assert!(made > 300, "{made} attempts were made there: {}", ended.text);
    let runs = fs::read_dir(&record).expect("a record").flatten();
    let recorded: Vec<_> = runs.map(|run| run.path().join("run.json")).collect();
    let [report] = recorded.as_slice() else { panic!("{recorded:?}") };
    let journal = fs::read_to_string(report.with_file_name("journal.jsonl")).expect("a journal");
    assert_eq!(journal.matches(r#""event":"moved""#).count(), 1, "said once");
    let report = report_of(&fs::read_to_string(report).expect("a report"));
    let probe = &report["probes"][0];
    assert_eq!(probe["name"], "seen@default/echo-1");
    assert_eq!(probe["moves"][0]["pod"], "default/echo-3", "{probe}");
    assert_eq!(probe["during"]["failures"], serde_json::json!({}), "{probe}");
    assert!(probe["downtime"]["unobservedMs"].as_f64().expect("a number") > 0.0, "{probe}");
    sandbox.signal(Signal::SIGTERM);
    sandbox.end(LIMIT);
    alone.check_clean();
}
