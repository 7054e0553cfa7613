//! Faults whose controller is killed, interrupted or halted, and what is left of them: nothing.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use faultline_tests::{
    cluster::{Namespace, echo_pods, get, watch_pod},
    program::Running,
};
use nix::sys::signal::Signal;

use super::{PATIENCE, experiment, installed, nothing_is_injected, start};

/// Longer than anything here is waited for.
const METHOD: &str = "    - partition: { between: [app, everything] }\n      for: 60s\n";

fn now_ms() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock");
    i64::try_from(now.as_millis()).expect("a time")
}

#[test]
fn a_killed_controller_leaves_it_to_the_lease() {
    let _turn = installed();
    let namespace = Namespace::new("killed");
    let app = echo_pods(&namespace, "app", 2);
    let watches =
        [watch_pod(&namespace, "watch-1", &app[0]), watch_pod(&namespace, "watch-2", &app[1])];
    let (mut running, _file) = start(experiment(&namespace, "", METHOD));
    running.wait_for("proven", PATIENCE);
    running.wait_for("proven", PATIENCE);
    std::thread::sleep(Duration::from_secs(2));
    running.signal(Signal::SIGKILL);
    let killed = now_ms();
    drop(running.end(PATIENCE));
    std::thread::sleep(Duration::from_secs(8));
    for watch in watches {
        let outages = watch.outages();
        let [outage] = outages.as_slice() else { panic!("one outage, which is over: {outages:?}") };
        // The lease is 5 s, and is renewed at least every third of it.
        let after = outage.to_ms - killed;
        assert!(
            (2_500..5_500).contains(&after),
            "it ended {after} ms after the controller was killed"
        );
    }
    nothing_is_injected();
}

#[test]
fn the_first_ctrl_c_reverts_everything() {
    let _turn = installed();
    let namespace = Namespace::new("ctrlc");
    let app = echo_pods(&namespace, "app", 1);
    let watch = watch_pod(&namespace, "watch", &app[0]);
    let (mut running, _file) = start(experiment(&namespace, "", METHOD));
    running.wait_for("proven", PATIENCE);
    std::thread::sleep(Duration::from_secs(1));
    running.signal(Signal::SIGINT);
    let asked = now_ms();
    let ended = running.end(PATIENCE);
    assert_eq!(ended.code, Some(130), "{}", ended.text);
    std::thread::sleep(Duration::from_secs(1));
    let outages = watch.outages();
    let [outage] = outages.as_slice() else { panic!("one outage, which is over: {outages:?}") };
    let after = outage.to_ms - asked;
    assert!((-50..1_000).contains(&after), "it ended {after} ms after Ctrl-C");
}

#[test]
fn a_halt_ends_the_runs_of_others_and_refuses_new_ones() {
    let _turn = installed();
    let namespace = Namespace::new("halt");
    let app = echo_pods(&namespace, "app", 1);
    let watch = watch_pod(&namespace, "watch", &app[0]);
    let (mut running, _file) = start(experiment(&namespace, "", METHOD));
    running.wait_for("proven", PATIENCE);
    let halted = Running::start(&["halt", "--reason", "the ring says so"]).end(PATIENCE);
    let ended = running.end(PATIENCE);
    let refused = super::run(&experiment(&namespace, "", METHOD));
    let resumed = Running::start(&["resume"]).end(PATIENCE);
    assert_eq!(halted.code, Some(0), "{}", halted.text);
    assert_eq!(ended.code, Some(130), "{}", ended.text);
    assert_eq!(refused.code, Some(3), "{}", refused.text);
    assert!(refused.text.contains("the ring says so"), "{}", refused.text);
    assert_eq!(resumed.code, Some(0), "{}", resumed.text);
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!(watch.outages().len(), 1);
}

#[test]
fn a_halt_is_kept_for_what_goes_through_the_api_server_too() {
    let _turn = installed();
    let namespace = Namespace::new("kept");
    echo_pods(&namespace, "app", 2);
    let replicas =
        || get(&["deployment", "app", "-n", namespace.name()])["spec"]["replicas"].clone();
    let inject = || {
        let fault = ["inject", "scale", "--target", "app=app", "--to", "1", "--for", "5s"];
        let args: Vec<&str> = fault.into_iter().chain(["-n", namespace.name()]).collect();
        Running::start(&args).end(PATIENCE)
    };
    let halted = Running::start(&["halt", "--reason", "the ring says so"]).end(PATIENCE);
    let refused = inject();
    let looked = Running::start(&["doctor"]).end(PATIENCE);
    let resumed = Running::start(&["resume"]).end(PATIENCE);
    assert_eq!(halted.code, Some(0), "{}", halted.text);
    assert_eq!(refused.code, Some(3), "{}", refused.text);
    assert!(refused.text.contains("the ring says so"), "{}", refused.text);
    assert!(looked.text.contains("the ring says so"), "{}", looked.text);
    assert_eq!(resumed.code, Some(0), "{}", resumed.text);
    assert_eq!(replicas(), 2);
    let ended = inject();
    assert_eq!(ended.code, Some(0), "{}", ended.text);
    assert_eq!(replicas(), 2);
}
