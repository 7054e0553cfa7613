//! What is left when whoever asked is killed at any time, or somebody else takes our marks away.

use std::{process::id, thread::sleep, time::Duration};

use faultline_tests::{
    cluster::{Namespace, echo_pods, ok},
    program::Running,
};
use nix::sys::signal::Signal;

use super::{is_ready, nothing_is_left, start, turn, workload};
use crate::PATIENCE;

/// When whoever asked is killed after it began, in milliseconds: while it injects, holds, restores and sweeps.
const KILLED_AFTER_MS: [u64; 4] = [700, 2_500, 4_400, 5_300];

#[test]
fn killed_at_any_time_a_halt_takes_everything_back() {
    let _turn = turn();
    let namespace = Namespace::new("killed");
    echo_pods(&namespace, "app", 2);
    let template = workload(&namespace, "deployment")["spec"]["template"].clone();
    // Other machines, other speeds.
    let skew = u64::from(id() % 5) * 60;
    let mut found = 0;
    for after_ms in KILLED_AFTER_MS {
        let running = start(&namespace, "unschedulable", "--target app=app --for 3s");
        sleep(Duration::from_millis(after_ms + skew));
        running.signal(Signal::SIGKILL);
        let ended = running.end(PATIENCE);
        let is_changed = workload(&namespace, "deployment")["spec"]["template"] != template;
        found += u32::from(is_changed);
        let halted = Running::start(&["halt", "--reason", "the ring says so"]).end(PATIENCE);
        Running::start(&["resume"]).end(PATIENCE);
        assert_eq!(halted.code, Some(0), "after {after_ms} ms: {}\n{}", ended.text, halted.text);
        assert_eq!(workload(&namespace, "deployment")["spec"]["template"], template, "{after_ms}");
        nothing_is_left(&namespace);
        is_ready(&namespace, "deployment", 2);
    }
    assert!(found > 0, "none of the kills left anything to take back");
}

#[test]
fn who_takes_our_marks_away_does_not_keep_the_fault() {
    let _turn = turn();
    let namespace = Namespace::new("marks");
    echo_pods(&namespace, "app", 2);
    for marks in [
        &["label", "deployment/app", "faultline.dev/fault-"][..],
        &["annotate", "deployment/app", "faultline.dev/undo-"],
    ] {
        let mut running = start(&namespace, "scale", "--target app=app --to 0 --for 5s");
        running.wait_for("proven after", PATIENCE);
        let mut args = marks.to_vec();
        args.extend(["-n", namespace.name()]);
        ok(&args);
        let ended = running.end(PATIENCE);
        assert_eq!(workload(&namespace, "deployment")["spec"]["replicas"], 2, "{}", ended.text);
        assert!(matches!(ended.code, Some(0 | 1)), "{marks:?}: {:?} {}", ended.code, ended.text);
        nothing_is_left(&namespace);
        is_ready(&namespace, "deployment", 2);
    }
}
