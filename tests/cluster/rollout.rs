//! Agents that go and come while a fault is in effect: deleted, and rolled.

use std::time::Duration;

use faultline_tests::cluster::{Namespace, echo_pods, get, ok, watch_pod};

use super::{PATIENCE, experiment, installed, name, node, nothing_is_injected, start};

const METHOD: &str = "    - partition: { between: [app, everything] }\n      for: 20s\n";

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
    ok(&["rollout", "status", "-n", "faultline", "daemonset/faultline-agent", "--timeout=120s"]);
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
    ok(&["rollout", "status", "-n", "faultline", "daemonset/faultline-agent", "--timeout=180s"]);
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
