//! What is left when whoever asked is killed at any time, or somebody else takes our marks away.

use std::{
    process::{Command, id},
    thread::sleep,
    time::Duration,
};

use faultline_tests::{
    cluster::{Namespace, echo_pods, ok, until},
    program::{Running, faultline},
};
use nix::sys::signal::Signal;

use super::{inject, is_ready, nothing_is_left, start, turn, workload};
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
    for after_ms in KILLED_AFTER_MS {
        let running = start(&namespace, "unschedulable", "--target app=app --for 3s");
        sleep(Duration::from_millis(after_ms + skew));
        running.signal(Signal::SIGKILL);
        let ended = running.end(PATIENCE);
        let halted = Running::start(&["halt", "--reason", "the ring says so"]).end(PATIENCE);
        Running::start(&["resume"]).end(PATIENCE);
        assert_eq!(halted.code, Some(0), "after {after_ms} ms: {}\n{}", ended.text, halted.text);
        assert_eq!(workload(&namespace, "deployment")["spec"]["template"], template, "{after_ms}");
        nothing_is_left(&namespace);
        is_ready(&namespace, "deployment", 2);
    }
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

#[test]
fn a_halt_is_kept_until_it_is_resumed() {
    let _turn = crate::installed();
    let namespace = Namespace::new("kept");
    echo_pods(&namespace, "app", 2);
    let halted = Running::start(&["halt", "--reason", "the ring says so"]).end(PATIENCE);
    let refused = inject(&namespace, "scale", "--target app=app --to 1 --for 2s");
    let looked = Running::start(&["doctor"]).end(PATIENCE);
    let resumed = Running::start(&["resume"]).end(PATIENCE);
    assert_eq!(halted.code, Some(0), "{}", halted.text);
    assert_eq!(refused.code, Some(3), "{}", refused.text);
    assert!(refused.text.contains("the ring says so"), "{}", refused.text);
    assert!(looked.text.contains("the ring says so"), "{}", looked.text);
    assert_eq!(resumed.code, Some(0), "{}", resumed.text);
    assert_eq!(workload(&namespace, "deployment")["metadata"]["generation"], 1, "never written");
    // And then it may be done, also by whoever looks at it through the installed controller.
    let mut command = Command::new(faultline());
    let fault = ["inject", "scale", "--target", "app=app", "--to", "1", "--for", "2s"];
    command.args(fault).args(["-n", namespace.name()]);
    let ended = Running::start_command(&mut command).end(PATIENCE);
    assert_eq!(ended.code, Some(0), "{}", ended.text);
    until("it is as before", PATIENCE, || {
        (workload(&namespace, "deployment")["spec"]["replicas"] == 2).then_some(())
    });
    nothing_is_left(&namespace);
}
