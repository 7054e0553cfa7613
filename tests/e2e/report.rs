//! What is kept of a run, and what `faultline report` makes of it: also when the controller was killed in
//! the middle. The journal is read here by itself, as lines of JSON.

use std::{
    fs,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use faultline_tests::{
    observer::can_run,
    program::{Ended, Running},
};
use nix::{
    mount::{MsFlags, mount, umount},
    sys::signal::Signal,
};
use serde_json::Value;

use super::alone;

const LIMIT: Duration = Duration::from_mins(1);

/// One echo service that is cut off for a moment, and a probe of it that may fail meanwhile.
fn experiment(dir: &tempfile::TempDir) -> String {
    let text = "apiVersion: faultline.dev/v1alpha1
kind: Experiment
metadata: { name: kept }
spec:
  hypothesis: It comes back.
  seed: 7
  lease: 2s
  targets: { lost: { names: [echo] } }
  probes:
    - name: echo
      tcp: { address: echo.default:7000 }
      every: 20ms
      timeout: 200ms
      steady: { success: \">= 90%\" }
      recovery: { within: 10s, stableFor: 200ms }
  method:
    - partition: { between: [lost, everything] }
      for: 1s
  sandbox:
    nodes: 1
    pods:
      - { name: echo, workload: echo }
";
    let path = dir.path().join("kept.yaml");
    fs::write(&path, text).expect("written");
    path.display().to_string()
}

/// The one run that was recorded.
fn recorded(reports: &Path) -> PathBuf {
    let mut runs = fs::read_dir(reports).expect("a directory").flatten();
    let run = runs.next().expect("a run").path();
    assert!(runs.next().is_none(), "one run");
    run
}

fn events(run: &Path) -> Vec<Value> {
    let text = fs::read_to_string(run.join("journal.jsonl")).expect("a journal");
    text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

fn count(events: &[Value], name: &str) -> usize {
    events.iter().filter(|event| event["event"] == name).count()
}

fn report(args: &[&str]) -> Ended {
    Running::start(&[&["report"], args].concat()).end(LIMIT)
}

#[test]
fn a_run_is_rebuilt_from_its_journal_alone() {
    if !can_run("a run and its journal") {
        return;
    }
    let alone = alone();
    let dir = tempfile::tempdir().expect("a directory");
    let reports = dir.path().join("reports");
    let (file, reports) = (experiment(&dir), reports.display().to_string());
    let ended = Running::start(&["run", "--sandbox", &file, "--report-dir", &reports]).end(LIMIT);
    assert_eq!(ended.code, Some(0), "{}", ended.text);
    let run = recorded(Path::new(&reports));
    let live = fs::read_to_string(run.join("run.json")).expect("a report");
    let live: Value = serde_json::from_str(&live).expect("JSON");
    assert_eq!(live["verdict"], "held");
    // Nothing but the journal is left.
    let moved = dir.path().join("elsewhere");
    fs::create_dir(&moved).expect("made");
    fs::copy(run.join("journal.jsonl"), moved.join("journal.jsonl")).expect("copied");
    let moved_path = moved.display().to_string();
    let rebuilt = report(&[&moved_path, "--output", "json"]);
    assert_eq!(rebuilt.code, Some(0), "{}", rebuilt.text);
    let rebuilt: Value = serde_json::from_str(&rebuilt.text).expect("JSON");
    assert_eq!(rebuilt, live);
    let shown = report(&[&moved_path, "--rebuild"]);
    assert_eq!(shown.code, Some(0), "{}", shown.text);
    assert!(shown.text.contains("HELD  kept") && shown.text.contains("It comes back."));
    for name in ["run.json", "junit.xml", "report.html"] {
        let (live, anew) = (fs::read(run.join(name)), fs::read(moved.join(name)));
        assert!(live.expect("written live") == anew.expect("written anew"), "{name} differs");
    }
    // Every attempt is there, in the time of the run.
    let events = events(&run);
    let attempts = live["probes"][0]["during"]["attempts"].as_u64().expect("a number");
    assert!(count(&events, "sample") as u64 > attempts, "{attempts}");
    let failed = events.iter().any(|event| event["f"].is_string() && event["w"].is_string());
    assert!(failed, "the outage was seen, with its reason");
    let times: Vec<f64> = events.iter().filter_map(|event| event["atMs"].as_f64()).collect();
    assert!(times.len() == events.len() && times[0] < 1_000.0, "{times:?}");
    alone.check_clean();
}

#[test]
fn a_controller_that_is_killed_leaves_a_journal_that_says_what_was_known() {
    if !can_run("kill -9 of the controller, and its journal") {
        return;
    }
    let alone = alone();
    // What was printed last, and how long after that it is killed.
    let points =
        [("run", 0), ("steady", 0), ("inject", 3), ("effect", 5), ("effect", 400), ("revert", 2)];
    for (line, after_ms) in points {
        let dir = tempfile::tempdir().expect("a directory");
        let (file, reports) = (experiment(&dir), dir.path().join("reports"));
        let reports_path = reports.display().to_string();
        let args = ["run", "--sandbox", &file, "--report-dir", &reports_path];
        let mut running = Running::start(&args);
        running.wait_for(&format!("{line:>9}  "), LIMIT);
        thread::sleep(Duration::from_millis(after_ms));
        running.signal(Signal::SIGKILL);
        assert_eq!(running.end(LIMIT).code, None);
        let run = recorded(&reports);
        let events = events(&run);
        let shown = report(&[&run.display().to_string()]);
        let text = &shown.text;
        let point = format!("{line} + {after_ms} ms:\n{text}");
        if events.is_empty() {
            // Before its first line was written.
            assert!(line == "run" && text.contains("does not tell what was done"), "{point}");
            assert_eq!(shown.code, Some(4), "{point}");
            continue;
        }
        assert_eq!(events[0]["event"], "begun", "{point}");
        assert!(text.contains("UNFINISHED, there is no verdict"), "{point}");
        assert!(text.contains("the journal ends ") && text.contains(" UTC)"), "{point}");
        let (prepared, reverted) = (count(&events, "prepared"), count(&events, "reverted"));
        // What comes after the last line is not known, unless nothing more was to be injected.
        let over = events.iter().any(|event| event["phase"] == "recovery");
        let expected = if over && reverted == 1 { 1 } else { 4 };
        assert_eq!(shown.code, Some(expected), "{point}");
        if (prepared, reverted) == (1, 0) {
            assert!(text.contains("partition of default/echo on node1"), "{point}");
            assert!(text.contains("nothing says that it was reverted"), "{point}");
        }
        if line == "effect" {
            assert!(text.contains("was in effect from "), "{point}");
            // Its lease has still to run.
            assert!(text.contains("it will have ended by "), "{point}");
        }
    }
    // What outlived them is swept by the next sandbox.
    let dir = tempfile::tempdir().expect("a directory");
    let next = Running::start(&["run", "--sandbox", &experiment(&dir)]).end(LIMIT);
    assert_eq!(next.code, Some(0), "{}", next.text);
    alone.check_clean();
}

#[test]
fn a_run_that_goes_on_is_not_called_dead() {
    if !can_run("a report of a run that goes on") {
        return;
    }
    let alone = alone();
    let dir = tempfile::tempdir().expect("a directory");
    let (file, reports) = (experiment(&dir), dir.path().join("reports"));
    let reports_path = reports.display().to_string();
    let mut running = Running::start(&["run", "--sandbox", &file, "--report-dir", &reports_path]);
    running.wait_for("   effect  ", LIMIT);
    let run = recorded(&reports);
    let shown = report(&[&run.display().to_string(), "--rebuild"]);
    assert_eq!(shown.code, Some(2), "{}", shown.text);
    assert!(shown.text.contains("the run is still going on; this is what"), "{}", shown.text);
    assert!(shown.text.contains("It will have ended by "), "{}", shown.text);
    assert!(shown.text.contains("nothing is written there"), "{}", shown.text);
    assert!(!shown.text.contains("killed"), "{}", shown.text);
    assert!(!run.join("run.json").exists());
    assert_eq!(running.end(LIMIT).code, Some(0));
    let ended = report(&[&run.display().to_string(), "--rebuild"]);
    assert_eq!(ended.code, Some(0), "{}", ended.text);
    alone.check_clean();
}

#[test]
fn nothing_that_an_experiment_says_moves_the_cursor() {
    if !can_run("a run of an experiment that means harm") {
        return;
    }
    let alone = alone();
    let dir = tempfile::tempdir().expect("a directory");
    let (file, reports) = (experiment(&dir), dir.path().join("reports"));
    let harmless = fs::read_to_string(&file).expect("a file");
    let harm = r#""It \e[2Jcomes\r back.\n  HELD  \u202efake\n\x9b2J""#;
    fs::write(&file, harmless.replace("It comes back.", harm)).expect("written");
    let reports_path = reports.display().to_string();
    let ended = Running::start(&["run", "--sandbox", &file, "--report-dir", &reports_path]);
    let ended = ended.end(LIMIT);
    assert_eq!(ended.code, Some(0), "{}", ended.text);
    let run = recorded(&reports);
    let live = fs::read_to_string(run.join("run.json")).expect("a report");
    let journal = fs::read_to_string(run.join("journal.jsonl")).expect("a journal");
    let shown = report(&[&run.display().to_string()]);
    let json = report(&[&run.display().to_string(), "--output", "json"]);
    assert_eq!(json.text.trim_end(), live.trim_end(), "what is kept is what is shown");
    for (place, text) in
        [("run", &ended.text), ("run.json", &live), ("report", &shown.text), ("journal", &journal)]
    {
        let bad = |c: char| (c.is_control() && c != '\n') || c == '\u{202e}';
        assert!(!text.contains(bad), "{place}: {text:?}");
        assert!(text.contains("It \u{fffd}[2Jcomes\u{fffd} back."), "{place}: {text:?}");
        let faked = text.lines().filter(|line| line.starts_with("  HELD") && line.contains("fake"));
        assert_eq!(faked.count(), 0, "{place}: {text}");
    }
    // What the first line of the journal says, beside the text of the experiment.
    let begun = &events(&run)[0]["hypothesis"];
    assert_eq!(Some(begun), serde_json::from_str::<Value>(&live).expect("JSON").get("hypothesis"));
    alone.check_clean();
}

/// A file system that is as small as that, until it is dropped.
struct Tiny(tempfile::TempDir);

impl Tiny {
    fn new(size: &str) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let (nowhere, size) = (None::<&str>, format!("size={size}"));
        let flags = MsFlags::empty();
        mount(nowhere, dir.path(), Some("tmpfs"), flags, Some(size.as_str())).expect("mounted");
        Self(dir)
    }
}

impl Drop for Tiny {
    fn drop(&mut self) {
        umount(self.0.path()).expect("unmounted");
    }
}

#[test]
fn on_a_full_disk_what_was_done_is_told_all_the_same() {
    if !can_run("a run on a disk that is full") {
        return;
    }
    let alone = alone();
    let dir = tempfile::tempdir().expect("a directory");
    let file = experiment(&dir);
    // There is room for what the run comes to, and not for every attempt of a probe.
    let tiny = Tiny::new("64k");
    let path = tiny.0.path().display().to_string();
    let ended = Running::start(&["run", "--sandbox", &file, "--report-dir", &path]).end(LIMIT);
    assert_eq!(ended.code, Some(0), "{}", ended.text);
    assert!(ended.text.contains("No space left"), "{}", ended.text);
    let run = recorded(tiny.0.path());
    let events = events(&run);
    assert_eq!(count(&events, "full"), 1, "{events:?}");
    for event in ["prepared", "proven", "reverted", "verdict", "ended"] {
        assert_eq!(count(&events, event), 1, "{event}");
    }
    let shown = report(&[&run.display().to_string()]);
    assert_eq!(shown.code, Some(0), "{}", shown.text);
    assert!(shown.text.contains("attempts of probes are missing in it"), "{}", shown.text);
    let halves: Vec<_> = fs::read_dir(&run).expect("readable").flatten().collect();
    let is_half = |name: &str| Path::new(name).extension().is_some_and(|end| end == "new");
    let halves = halves.iter().filter(|entry| is_half(&entry.file_name().to_string_lossy()));
    assert_eq!(halves.count(), 0);
    // There is room for nothing: the run is not begun.
    let tiny = Tiny::new("8k");
    let path = tiny.0.path().display().to_string();
    let ended = Running::start(&["run", "--sandbox", &file, "--report-dir", &path]).end(LIMIT);
    assert_eq!(ended.code, Some(3), "{}", ended.text);
    assert!(ended.text.contains("the report has nowhere to go: "), "{}", ended.text);
    assert!(!ended.text.contains("   inject  "), "{}", ended.text);
    assert_eq!(fs::read_dir(tiny.0.path()).expect("readable").count(), 0, "nothing is left");
    alone.check_clean();
}

#[test]
fn what_is_no_record_of_a_run_is_told_with_what_was_expected() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().display().to_string();
    let empty = report(&[&path]);
    assert_eq!(empty.code, Some(2), "{}", empty.text);
    assert!(empty.text.contains("no run is recorded in"), "{}", empty.text);
    let run = dir.path().join("a-1");
    fs::create_dir(&run).expect("made");
    fs::write(run.join("journal.jsonl"), "{}\n").expect("written");
    let foreign = report(&[&path, "--output", "json"]);
    assert_eq!(foreign.code, Some(2), "{}", foreign.text);
    let said: Value = serde_json::from_str(&foreign.text).expect("JSON");
    assert!(said["error"].as_str().expect("a text").contains("is no journal of a run"), "{said}");
    let nowhere = report(&["nowhere/at/all"]);
    assert_eq!(nowhere.code, Some(2), "{}", nowhere.text);
    assert!(nowhere.text.contains("cannot read nowhere/at/all"), "{}", nowhere.text);
}
