//! What the program answers: exit codes, JSON that is nothing but JSON, and that nothing is left
//! whatever the verdict was.

use std::{
    io::{BufRead, BufReader},
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use faultline_tests::{
    observer::can_run,
    program::{Running, faultline, project_file},
};
use nix::sys::signal::Signal;
use serde_json::Value;

use super::alone;

const LIMIT: Duration = Duration::from_secs(30);

/// An experiment on two echo services, of which the second is cut off for a second.
fn experiment(name: &str, target: &str, probes: &str) -> String {
    format!(
        "---
apiVersion: faultline.dev/v1alpha1
kind: Experiment
metadata: {{ name: {name} }}
spec:
  targets:
    lost: {{ names: [{target}] }}
{probes}
  method:
    - partition: {{ between: [lost, everything] }}
      for: 1s
"
    )
}

/// Probes that hold during the fault, of the kinds that the quickstart does not have.
const HOLDS: &str = "  probes:
    - name: inside
      exec: { target: lost, command: [\"true\"] }
      every: 100ms
      during: { success: \"== 100%\" }
    - name: outside
      tcp: { address: \"echo-2:7000\" }
      every: 20ms
      timeout: 200ms
      steady: { success: \">= 99%\" }
      during: { success: \"<= 10%\" }
      recovery: { within: 2s, stableFor: 300ms }";

/// A probe of the service that is cut off, which must not notice.
const DEVIATES: &str = "  probes:
    - name: outside
      http: { url: \"http://echo-2:8080/\" }
      every: 20ms
      timeout: 200ms
      during: { success: \">= 99%\" }";

/// Exit code, standard output, standard error.
fn said(args: &[&str]) -> (Option<i32>, String, String) {
    let output = Command::new(faultline()).args(args).stdin(Stdio::null()).output();
    let output = output.expect("the program starts");
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("UTF-8");
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

/// What is on standard output, which is to be one JSON document and nothing else.
fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|e| panic!("{e}: {text}"))
}

fn file(dir: &tempfile::TempDir, text: &str) -> String {
    let path = dir.path().join("experiment.yaml");
    std::fs::write(&path, text).expect("written");
    path.display().to_string()
}

#[test]
fn several_experiments_give_one_list_and_the_worst_exit_code() {
    if !can_run("a sandbox") {
        return;
    }
    let alone = alone();
    let dir = tempfile::tempdir().expect("a directory");
    let text = experiment("holds", "echo-2", HOLDS) + &experiment("deviates", "echo-2", DEVIATES);
    let reports = dir.path().join("reports").display().to_string();
    let metrics = dir.path().join("faultline.prom").display().to_string();
    let mut args = vec!["run", "--sandbox", "2", "--output", "json", "--report-dir", &reports];
    let file = file(&dir, &text);
    args.extend([file.as_str(), "--metrics-file", &metrics]);
    let (code, out, err) = said(&args);
    assert_eq!((code, err.as_str()), (Some(1), ""), "{out}");
    let metrics = std::fs::read_to_string(metrics).expect("metrics of both");
    for (name, verdict) in [("holds", "held"), ("deviates", "deviated")] {
        let line =
            format!("faultline_run_verdict{{experiment=\"{name}\",verdict=\"{verdict}\"}} 1.0\n");
        assert!(metrics.contains(&line), "{line} is not in {metrics}");
    }
    let list = json(&out);
    assert_eq!(list.as_array().map(Vec::len), Some(2), "{list}");
    let (holds, deviates) = (&list[0], &list[1]);
    assert_eq!((&holds["verdict"], &holds["exitCode"]), (&"held".into(), &0.into()), "{holds}");
    assert_eq!(holds["probes"][0]["downtime"]["outages"], 0, "{holds}");
    assert_eq!(holds["probes"][1]["downtime"]["outages"], 1, "{holds}");
    assert_eq!(deviates["verdict"], "deviated", "{deviates}");
    let reason = deviates["reasons"][0].as_str().expect("a reason");
    assert!(reason.starts_with("during the fault, probe `outside` succeeded"), "{reason}");
    for report in [holds, deviates] {
        let name = report["experiment"].as_str().expect("a name");
        let run = report["runId"].as_str().expect("an id");
        let written = std::fs::read_to_string(format!("{reports}/{name}-{run}/run.json"));
        assert_eq!(json(&written.expect("a file for each")), *report);
    }
    alone.check_clean();
}

#[test]
fn a_plan_says_who_would_be_hit_and_a_target_that_is_nobody_is_shown_in_its_file() {
    if !can_run("a sandbox") {
        return;
    }
    let alone = alone();
    let example = project_file("examples/partition.yaml").display().to_string();
    let (code, out, err) = said(&["plan", "--sandbox", &example, "--output", "json"]);
    assert_eq!((code, err.as_str()), (Some(0), ""), "{out}");
    let plan = json(&out);
    assert_eq!(plan["targets"][1]["chosen"][0], "default/web on node1", "{plan}");
    assert_eq!(plan["injections"].as_array().map(Vec::len), Some(4), "two steps, two ends: {plan}");
    assert_eq!(plan["blast"]["podsHit"], 2, "{plan}");

    let dir = tempfile::tempdir().expect("a directory");
    let nobody = file(&dir, &experiment("nobody", "echo-22", ""));
    for command in ["plan", "run"] {
        let (code, out, err) = said(&[command, "--sandbox", &nobody]);
        assert_eq!(code, Some(3), "{out}{err}");
        assert!(err.contains("experiment.yaml:7:5"), "{err}");
        assert!(out.contains("did you mean `echo-2`?"), "{out}");
        let (code, out, err) = said(&[command, "--sandbox", &nobody, "--output", "json"]);
        assert_eq!((code, err.as_str()), (Some(3), ""), "{out}");
        json(&out);
    }
    assert!(said(&["run", "--sandbox", &nobody]).1.contains("REFUSED, nothing was changed"));
    alone.check_clean();
}

#[test]
fn a_report_that_has_nowhere_to_go_is_said_before_anything_is_done() {
    let example = project_file("examples/quickstart.yaml").display().to_string();
    let (code, out, err) = said(&["run", "--sandbox", &example, "--report-dir", "/dev/null/x"]);
    assert_eq!((code, out.as_str()), (Some(2), ""), "{err}");
    assert!(err.contains("cannot write into /dev/null/x"), "{err}");
}

#[test]
fn a_reader_that_goes_away_leaves_no_fault_and_no_sandbox() {
    if !can_run("a sandbox") {
        return;
    }
    let alone = alone();
    let dir = tempfile::tempdir().expect("a directory");
    let mut run = Command::new(faultline())
        .args(["run", "--sandbox", "2", &file(&dir, &experiment("unread", "echo-2", HOLDS))])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("the program starts");
    let mut first = String::new();
    let mut out = BufReader::new(run.stdout.take().expect("piped"));
    out.read_line(&mut first).expect("a line");
    drop(out);
    assert_eq!(run.wait().expect("it ends").code(), Some(0), "after {first}");
    alone.check_clean();
}

#[test]
fn ctrl_c_leaves_nothing_of_a_plan() {
    if !can_run("a sandbox") {
        return;
    }
    let alone = alone();
    let example = project_file("examples/partition.yaml").display().to_string();
    for after in [40, 90, 140] {
        let plan = Running::start(&["plan", "--sandbox", "16", &example]);
        thread::sleep(Duration::from_millis(after));
        plan.signal(Signal::SIGINT);
        let ended = plan.end(LIMIT);
        // So early that it had not begun to listen, and had nothing to take back; or interrupted.
        assert!(matches!(ended.code, None | Some(130)), "{:?}: {}", ended.code, ended.text);
    }
    alone.check_clean();
}
