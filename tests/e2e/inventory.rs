//! A sandbox that stays, and other processes that work on it: inject, ps, halt, resume.

use std::{
    net::SocketAddr,
    thread,
    time::{Duration, Instant},
};

use faultline_tests::{
    observer::{UdpProber, can_run, lease_left, processes_in_cgroup},
    program::Running,
};
use nix::sys::signal::Signal;
use serde_json::Value;

use super::{alone, inventory, pod_seen};

const LIMIT: Duration = Duration::from_secs(30);

fn run(args: &[&str]) -> (Option<i32>, String) {
    let ended = Running::start(args).end(LIMIT);
    (ended.code, ended.text)
}

fn json(text: &str) -> Value {
    let start = text.find(['{', '[']).unwrap_or_else(|| panic!("JSON, not {text}"));
    serde_json::from_str(&text[start..]).unwrap_or_else(|e| panic!("{e}: {text}"))
}

#[test]
fn others_see_halt_and_outlive_a_controller_that_is_killed() {
    if !can_run("a sandbox that stays") {
        return;
    }
    let alone = alone();
    let mut sandbox = Running::start(&["sandbox", "--nodes", "2"]);
    sandbox.wait_for("inventory.json", LIMIT);
    let (path, seen) = inventory(sandbox.pid());
    let path = path.display().to_string();
    let (near, lost) = (pod_seen(&seen, "echo-1"), pod_seen(&seen, "echo-2"));
    let near_pid = processes_in_cgroup(&near.container_id)[0];
    let lost_pid = processes_in_cgroup(&lost.container_id)[0];

    let (code, text) = run(&["ps", "--inventory", &path]);
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("nothing is injected"), "{text}");

    // Without the flag it is the sandbox that runs here, if it is the only one.
    let (code, text) = run(&["ps"]);
    if text.contains("sandboxes run here") {
        assert_eq!(code, Some(2), "{text}");
    } else {
        assert_eq!(code, Some(0), "{text}");
    }
    assert!(text.contains(&path), "{text}");

    // A controller that is killed: its fault ends with the lease, without anybody's help.
    let inject = [
        "inject",
        "partition",
        "--between",
        "name=echo-2",
        "--between",
        "everything",
        "--for",
        "20s",
        "--lease",
        "1s",
        "--inventory",
        &path,
    ];
    let prober = UdpProber::start(near_pid, SocketAddr::new(lost.address, 7001));
    let mut controller = Running::start(&inject);
    controller.wait_for("effect", LIMIT);
    let (code, text) = run(&["ps", "--inventory", &path, "--output", "json"]);
    assert_eq!(code, Some(0), "{text}");
    let ps = json(&text);
    assert_eq!(ps["injections"][0]["kind"], "partition", "{ps}");
    assert_eq!(ps["injections"][0]["effect"], "proven", "{ps}");
    controller.signal(Signal::SIGKILL);
    let left = lease_left(lost_pid).expect("a lease");
    let lease_end = Instant::now() + left;
    thread::sleep(left + Duration::from_millis(300));
    let (_, healed) = prober.longest_outage().expect("there was an outage");
    assert!(healed.saturating_duration_since(lease_end) < Duration::from_millis(100));
    drop(controller);

    // Halt takes a live fault away, refuses new ones, and is ended by resume.
    let mut controller = Running::start(&inject);
    controller.wait_for("effect", LIMIT);
    let (code, text) = run(&["halt", "--reason", "enough", "--inventory", &path]);
    assert_eq!(code, Some(0), "{text}");
    let ended = controller.end(LIMIT);
    assert_eq!(ended.code, Some(130), "{}", ended.text);
    assert!(ended.text.contains("halted"), "{}", ended.text);
    assert!(lease_left(lost_pid).is_none(), "nothing is in the kernel");
    let (code, text) = run(&inject);
    assert_eq!(code, Some(3), "{text}");
    assert!(text.contains("enough"), "{text}");
    let (code, text) = run(&["resume", "--inventory", &path]);
    assert_eq!(code, Some(0), "{text}");
    let short: Vec<&str> = inject.iter().map(|a| if *a == "20s" { "200ms" } else { a }).collect();
    let (code, text) = run(&short);
    assert_eq!(code, Some(0), "{text}");

    sandbox.signal(Signal::SIGINT);
    let ended = sandbox.end(LIMIT);
    assert!(matches!(ended.code, Some(0 | 130)), "{}", ended.text);
    alone.check_clean();
}
