//! The README's first command, and every example.

use std::time::Duration;

use faultline_tests::{
    observer::{can_run, descendants},
    program::{Running, faultline, project_file},
};
use nix::sys::signal::Signal;
use serde_json::Value;

use super::alone;

const LIMIT: Duration = Duration::from_mins(1);

fn quickstart() -> String {
    project_file("examples/quickstart.yaml").display().to_string()
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("a number, not {value}"))
}

#[test]
fn the_quickstart_holds_and_says_how_long_the_outage_was() {
    if !can_run("the quickstart") {
        return;
    }
    let alone = alone();
    let ended = Running::start(&["run", "--sandbox", &quickstart(), "--output", "json"]).end(LIMIT);
    assert_eq!(ended.code, Some(0), "{}", ended.text);
    let start = ended.text.find('{').expect("JSON");
    let report: Value = serde_json::from_str(&ended.text[start..]).expect("nothing but JSON");
    assert_eq!(report["verdict"], "held");
    assert_eq!(report["schemaVersion"], 2);
    assert!(report["residue"].as_array().expect("a list").is_empty());
    let injection = &report["injections"][0];
    assert_eq!(injection["kind"], "partition");
    assert_eq!(injection["effect"], "proven");
    assert_eq!(injection["state"], "reverted");
    assert!(!injection["evidence"].as_str().expect("a sentence").is_empty());
    assert!(number(&injection["timeToEffectMs"]) < 1_000.0);
    let third = &report["probes"][2];
    assert_eq!(third["name"], "third");
    let downtime = &third["downtime"];
    let (total, uncertainty) = (number(&downtime["totalMs"]), number(&downtime["uncertaintyMs"]));
    // What is cut for 5 s is out for 5 s: the revert is asked for then, and takes milliseconds.
    assert!((total - 5_000.0).abs() <= uncertainty + 250.0, "{total} ± {uncertainty}");
    assert_eq!(downtime["outages"], 1);
    assert!(number(&third["timeToRecoverMs"]) < 1_000.0);
    for well in &report["probes"].as_array().expect("a list")[..2] {
        assert_eq!(well["during"]["within"], true);
    }
    alone.check_clean();
}

#[test]
fn every_example_runs() {
    if !can_run("the examples") {
        return;
    }
    for example in [
        "partition.yaml",
        "kill.yaml",
        "memory-pressure.yaml",
        "follow.yaml",
        "stop-conditions.yaml",
        "flapping.yaml",
        "background-load.yaml",
        "probes.yaml",
        "seen-from.yaml",
        "restart.yaml",
    ] {
        let alone = alone();
        let file = project_file("examples").join(example).display().to_string();
        let ended = Running::start(&["run", "--sandbox", &file]).end(LIMIT);
        assert_eq!(ended.code, Some(0), "{example}:\n{}", ended.text);
        assert!(ended.text.contains("HELD"), "{}", ended.text);
        alone.check_clean();
    }
}

#[test]
fn the_first_ctrl_c_reverts_and_ends() {
    if !can_run("Ctrl-C") {
        return;
    }
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        let alone = alone();
        let mut run = Running::start(&["run", "--sandbox", &quickstart()]);
        run.wait_for("effect", LIMIT);
        run.signal(signal);
        let ended = run.end(Duration::from_secs(15));
        assert_eq!(ended.code, Some(130), "{}", ended.text);
        assert!(ended.text.contains("nothing is left"), "{}", ended.text);
        alone.check_clean();
    }
}

#[test]
fn a_report_that_nobody_can_read_changes_nothing_of_what_a_run_came_to() {
    if !can_run("a full standard output") {
        return;
    }
    let alone = alone();
    let full = std::fs::File::options().write(true).open("/dev/full").expect("there is one");
    let code = std::process::Command::new(faultline())
        .args(["run", "--sandbox", "--output", "json", &quickstart()])
        .stdout(full)
        .stderr(std::process::Stdio::null())
        .status()
        .expect("run");
    assert_eq!(code.code(), Some(0), "it held");
    alone.check_clean();
}

#[test]
fn the_second_ctrl_c_ends_at_once_and_leaves_nothing_running() {
    if !can_run("the second Ctrl-C") {
        return;
    }
    let alone = alone();
    let mut run = Running::start(&["run", "--sandbox", &quickstart()]);
    run.wait_for("effect", LIMIT);
    let children = descendants(run.pid());
    assert!(!children.is_empty());
    run.signal(Signal::SIGINT);
    std::thread::sleep(Duration::from_millis(1));
    run.signal(Signal::SIGINT);
    let ended = run.end(Duration::from_secs(10));
    // Nobody has seen that everything was taken back.
    assert_eq!(ended.code, Some(4), "{}", ended.text);
    // What outlives it (control groups, its directory) is swept by the next sandbox, which it says.
    assert!(ended.text.contains("is left; the next sandbox removes it"), "{}", ended.text);
    let next = Running::start(&["run", "--sandbox", &quickstart()]).end(LIMIT);
    assert_eq!(next.code, Some(0), "{}", next.text);
    alone.check_clean();
}
