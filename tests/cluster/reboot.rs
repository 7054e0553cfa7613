//! A node whose power fails while a fault is in effect. Only where there is a lab that can do that.

use std::{process::Command, time::Duration};

use faultline_tests::{
    cluster::{Namespace, echo_pods, get, lab, ok, until, watch_pod},
    process::skip,
};

use super::{PATIENCE, experiment, installed, node, nothing_is_injected, start};

#[test]
fn a_node_without_power_comes_back_clean_and_the_others_are_reverted_in_time() {
    let _turn = installed();
    let Some(lab) = lab() else {
        return skip("FAULTLINE_LAB names no lab that can cut a node's power");
    };
    let namespace = Namespace::new("reboot");
    let app = echo_pods(&namespace, "app", 2);
    let (lost, kept) = (node(&app[0]).to_owned(), &app[1]);
    let watch = watch_pod(&namespace, "watch", kept);
    let method = "    - partition: { between: [app, everything] }\n      for: 10s\n";
    let (mut running, _file) = start(experiment(&namespace, "", method));
    running.wait_for("proven", PATIENCE);
    running.wait_for("proven", PATIENCE);
    let status = Command::new(lab).args(["reboot", &lost]).status().expect("the lab is there");
    assert!(status.success());
    let ended = running.end(Duration::from_mins(2));
    // Nobody can have seen it reverted on the node that was away: 4, or 1 if its agent was back in time to say so.
    assert!(matches!(ended.code, Some(1 | 4)), "{:?} {}", ended.code, ended.text);
    let is_ready = || {
        let node = get(&["node", &lost]);
        let conditions = node["status"]["conditions"].as_array().cloned().unwrap_or_default();
        conditions.iter().any(|c| c["type"] == "Ready" && c["status"] == "True").then_some(())
    };
    until("the node is ready again", Duration::from_mins(3), is_ready);
    ok(&["rollout", "status", "-n", "faultline", "daemonset/faultline-agent", "--timeout=180s"]);
    std::thread::sleep(Duration::from_secs(2));
    // The observer may have been on the node that was lost: then it saw less.
    let outages = watch.outages();
    assert!(outages.iter().all(|outage| outage.lasted() < Duration::from_secs(12)), "{outages:?}");
    nothing_is_injected();
}
