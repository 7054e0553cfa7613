//! Agents that go and come while a fault is in effect: deleted, and rolled.

use std::time::{Duration, Instant};

use faultline_tests::{
    cluster::{Namespace, echo_pods, get, kubectl, ok, until, watch_pod},
    program::Running,
};

use super::{PATIENCE, experiment, installed, name, node, nothing_is_injected, start};

const METHOD: &str = "    - partition: { between: [app, everything] }\n      for: 20s\n";

/// Has the `DaemonSet` leave a node, and waits until it has.
pub(super) fn agents_leave(node: &str) {
    patch_agents(&format!(
        r#"{{"requiredDuringSchedulingIgnoredDuringExecution": {{"nodeSelectorTerms": [
        {{"matchFields": [{{"key": "metadata.name", "operator": "NotIn", "values": ["{node}"]}}]}}]}}}}"#
    ));
    let is_away = || {
        let agents = "app.kubernetes.io/name=faultline-agent";
        let said = kubectl(&["get", "pods", "-n", "faultline", "-o", "wide", "-l", agents]);
        (said.ok && !said.out.contains(node)).then_some(())
    };
    until("the agent has gone", Duration::from_secs(90), is_away);
}

/// Has it come back.
pub(super) fn agents_return() {
    patch_agents("null");
    rolled();
}

fn patch_agents(node_affinity: &str) {
    let patch = format!(
        r#"{{"spec": {{"template": {{"spec": {{"affinity": {{"nodeAffinity": {node_affinity}}}}}}}}}}}"#
    );
    ok(&["patch", "daemonset", "-n", "faultline", "faultline-agent", "--type=merge", "-p", &patch]);
}

/// Waits until every node that is to have an agent has the newest.
pub(super) fn rolled() {
    ok(&["rollout", "status", "-n", "faultline", "daemonset/faultline-agent", "--timeout=180s"]);
}

#[test]
fn an_agent_that_is_away_for_long_says_when_it_is_back_that_nothing_is_left() {
    let _turn = installed();
    let namespace = Namespace::new("agentaway");
    let app = echo_pods(&namespace, "app", 1);
    let watch = watch_pod(&namespace, "watch", &app[0]);
    let method = "    - partition: { between: [app, everything] }\n      for: 5s\n";
    let (mut running, _file) = start(experiment(&namespace, "", method));
    running.wait_for("proven", PATIENCE);
    let begun = Instant::now();
    agents_leave(node(&app[0]));
    running.wait_for("asked again for", PATIENCE);
    let listed = Running::start(&["ps"]).end(PATIENCE);
    assert_eq!(listed.code, Some(3), "{}", listed.text);
    assert!(
        listed.text.contains(&format!("not reached: node {}", node(&app[0]))),
        "{}",
        listed.text
    );
    // Longer than the lease and 10 s; a kubelet may have taken that long already.
    std::thread::sleep(Duration::from_secs(25).saturating_sub(begun.elapsed()));
    agents_return();
    let ended = running.end(PATIENCE);
    assert_eq!(ended.code, Some(1), "it ended before its time, and all is proven: {}", ended.text);
    let outages = watch.outages();
    let [outage] = outages.as_slice() else { panic!("one outage: {outages:?}") };
    assert!(outage.lasted() < Duration::from_secs(7), "{outage:?}");
    nothing_is_injected();
}

#[test]
fn an_agent_that_is_deleted_takes_back_what_it_did_and_the_run_says_so() {
    let _turn = installed();
    let namespace = Namespace::new("agentgone");
    let app = echo_pods(&namespace, "app", 1);
    let watch = watch_pod(&namespace, "watch", &app[0]);
    let (mut running, _file) = start(experiment(&namespace, "", METHOD));
    running.wait_for("proven", PATIENCE);
    let agents = get(&["pods", "-n", "faultline", "-l", "app.kubernetes.io/name=faultline-agent"]);
    let agents = agents["items"].as_array().expect("agents").clone();
    let agent = agents.iter().find(|agent| node(agent) == node(&app[0])).expect("the node's agent");
    ok(&["delete", "pod", "-n", "faultline", name(agent), "--wait=true", "--timeout=60s"]);
    let ended = running.end(PATIENCE);
    rolled();
    assert_eq!(
        ended.code,
        Some(1),
        "a fault that ended before its time is a deviation: {}",
        ended.text
    );
    std::thread::sleep(Duration::from_secs(1));
    let outages = watch.outages();
    let [outage] = outages.as_slice() else { panic!("one outage: {outages:?}") };
    assert!(outage.lasted() < Duration::from_secs(15), "{outage:?}");
    nothing_is_injected();
}

#[test]
fn a_rollout_of_all_agents_leaves_nothing() {
    let _turn = installed();
    let namespace = Namespace::new("rollout");
    let app = echo_pods(&namespace, "app", 2);
    let watches =
        [watch_pod(&namespace, "watch-1", &app[0]), watch_pod(&namespace, "watch-2", &app[1])];
    let (mut running, _file) = start(experiment(&namespace, "", METHOD));
    running.wait_for("proven", PATIENCE);
    ok(&["rollout", "restart", "-n", "faultline", "daemonset/faultline-agent"]);
    rolled();
    let ended = running.end(PATIENCE);
    assert!(matches!(ended.code, Some(0 | 1)), "{:?} {}", ended.code, ended.text);
    std::thread::sleep(Duration::from_secs(2));
    for watch in watches {
        let outages = watch.outages();
        let [outage] = outages.as_slice() else { panic!("one outage, which is over: {outages:?}") };
        assert!(outage.lasted() < Duration::from_secs(22), "{outage:?}");
    }
    nothing_is_injected();
}
