//! Who takes it back when whoever asked for it has gone.

use std::{
    process::Command,
    thread::sleep,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use faultline_tests::{
    cluster::{Namespace, echo_pods, until},
    program::{Running, faultline},
};
use nix::sys::signal::Signal;
use serde_json::Value;

use super::{SETTLE, inject, is_ready, nothing_is_left, start, turn, workload};
use crate::PATIENCE;

fn controller(namespace: &Namespace, identity: &str) -> Running {
    let mut command = Command::new(faultline());
    command.args(["controller", "--listen", "127.0.0.1:0", "--identity", identity]);
    command.env("FAULTLINE_INSTALLATION", namespace.name());
    Running::start_command(&mut command)
}

fn now_ms() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    u64::try_from(now.as_millis()).expect("it fits")
}

/// Scales the app to nothing and kills whoever did; when that is to be over.
fn scaled_and_killed(namespace: &Namespace) -> u64 {
    let mut command = Command::new(faultline());
    let fault = ["inject", "scale", "--target", "app=app", "--to", "0", "--for", "10s"];
    // The controller is seen to stand by.
    command.args(fault).args(["-n", namespace.name(), "--installation", namespace.name()]);
    let running = Running::start_command(&mut command);
    let deadline = until("the record is there", PATIENCE, || {
        let now = workload(namespace, "deployment");
        let record = now["metadata"]["annotations"]["faultline.dev/undo"].as_str()?.to_owned();
        let record: Value = serde_json::from_str(&record).expect("JSON");
        assert_eq!(now["spec"]["replicas"], 0, "both in one write");
        record["deadlineUnixMs"].as_u64()
    });
    running.signal(Signal::SIGKILL);
    assert_eq!(running.end(PATIENCE).code, None);
    deadline
}

fn restored(namespace: &Namespace) -> u64 {
    until("it is restored", SETTLE, || {
        (workload(namespace, "deployment")["spec"]["replicas"] == 2).then(now_ms)
    })
}

#[test]
fn the_controller_restores_at_the_deadline_also_when_the_leader_is_killed() {
    let _turn = turn();
    let namespace = Namespace::new("gone");
    echo_pods(&namespace, "app", 2);
    let mut one = controller(&namespace, "one");
    one.wait_for("one leads", PATIENCE);
    let mut two = controller(&namespace, "two");
    two.wait_for("one leads", PATIENCE);
    let deadline = scaled_and_killed(&namespace);
    let at = restored(&namespace);
    assert!((deadline..deadline + 5_000).contains(&at), "{deadline} {at}");
    one.wait_for("is taken back", PATIENCE);
    is_ready(&namespace, "deployment", 2);
    nothing_is_left(&namespace);

    let deadline = scaled_and_killed(&namespace);
    one.signal(Signal::SIGKILL);
    assert_eq!(one.end(PATIENCE).code, None);
    two.wait_for("two leads", PATIENCE);
    let at = restored(&namespace);
    assert!((deadline..deadline + 25_000).contains(&at), "{deadline} {at}");
    two.wait_for("is taken back", PATIENCE);

    // One that is told to end lets another one lead at once.
    let mut three = controller(&namespace, "three");
    three.wait_for("two leads", PATIENCE);
    two.signal(Signal::SIGTERM);
    let ended = two.end(PATIENCE);
    assert_eq!(ended.code, Some(0), "{}", ended.text);
    assert!(ended.text.contains("the lease is given up"), "{}", ended.text);
    three.wait_for("three leads", Duration::from_secs(6));
    three.signal(Signal::SIGTERM);
    three.end(PATIENCE);
    is_ready(&namespace, "deployment", 2);
    nothing_is_left(&namespace);
}

#[test]
fn a_halt_takes_it_back_at_once_and_ends_the_run() {
    let _turn = turn();
    let namespace = Namespace::new("apihalt");
    echo_pods(&namespace, "app", 2);
    let mut running = start(&namespace, "scale", "--target app=app --to 0 --for 60s");
    running.wait_for("proven after", PATIENCE);
    let listed = Running::start(&["ps"]).end(PATIENCE);
    assert!(listed.text.contains(&format!("scale of {}/deployment/app", namespace.name())));
    let halted = Running::start(&["halt", "--reason", "the ring says so"]).end(PATIENCE);
    assert_eq!(halted.code, Some(0), "{}", halted.text);
    assert_eq!(workload(&namespace, "deployment")["spec"]["replicas"], 2);
    let ended = running.end(PATIENCE);
    Running::start(&["resume"]).end(PATIENCE);
    assert_eq!(ended.code, Some(130), "{}", ended.text);
    nothing_is_left(&namespace);
}

#[test]
fn the_first_ctrl_c_takes_it_back() {
    let _turn = turn();
    let namespace = Namespace::new("apictrlc");
    echo_pods(&namespace, "app", 2);
    let mut running = start(&namespace, "scale", "--target app=app --to 1 --for 60s");
    running.wait_for("proven after", PATIENCE);
    sleep(Duration::from_secs(1));
    running.signal(Signal::SIGINT);
    let ended = running.end(PATIENCE);
    assert_eq!(ended.code, Some(130), "{}", ended.text);
    assert_eq!(workload(&namespace, "deployment")["spec"]["replicas"], 2);
    nothing_is_left(&namespace);
    // And as long as a record is there, nobody else's is put beside it.
    let first = start(&namespace, "scale", "--target app=app --to 1 --for 8s");
    until("the record is there", PATIENCE, || {
        (workload(&namespace, "deployment")["spec"]["replicas"] == 1).then_some(())
    });
    let second = inject(&namespace, "scale", "--target app=app --to 0 --for 8s");
    assert_eq!(second.code, Some(3), "{}", second.text);
    assert!(second.text.contains("has a scale on"), "{}", second.text);
    first.end(PATIENCE);
    nothing_is_left(&namespace);
}
