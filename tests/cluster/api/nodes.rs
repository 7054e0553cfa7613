//! Nodes: cordoned, tainted and drained, and as before afterwards.

use faultline_tests::cluster::{Namespace, apply, echo_pods, get, ok, pods_of};
use serde_json::Value;

use super::{inject, is_ready, start, turn};
use crate::{PATIENCE, node};

/// What of a node we may change: its spec, its labels and its annotations.
fn of_node(name: &str) -> Value {
    let mut node = get(&["node", name]);
    let mut annotations = node["metadata"]["annotations"].take();
    // Its controller's notes of when it looked.
    if let Some(annotations) = annotations.as_object_mut() {
        annotations.retain(|key, _| key.starts_with("faultline.dev"));
    }
    serde_json::json!([node["spec"], node["metadata"]["labels"], annotations])
}

#[test]
fn a_node_takes_no_new_pods_for_a_while() {
    let _turn = turn();
    let namespace = Namespace::new("cordon");
    let app = echo_pods(&namespace, "app", 1);
    let name = node(&app[0]).to_owned();
    let before = of_node(&name);
    let mut running = start(&namespace, "cordon", "--target app=app --for 5s");
    running.wait_for("proven after", PATIENCE);
    assert_eq!(of_node(&name)[0]["unschedulable"], true);
    let ended = running.end(PATIENCE);
    assert_eq!(ended.code, Some(0), "{}", ended.text);
    assert_eq!(of_node(&name), before);

    // What somebody else ends has not lasted.
    let mut running = start(&namespace, "cordon", "--target app=app --for 5s");
    running.wait_for("proven after", PATIENCE);
    ok(&["uncordon", &name]);
    let ended = running.end(PATIENCE);
    assert_eq!(ended.code, Some(1), "{}", ended.text);
    assert!(ended.text.contains("somebody else changed"), "{}", ended.text);
    assert_eq!(of_node(&name), before);
}

#[test]
fn a_taint_comes_and_goes_and_others_stay() {
    let _turn = turn();
    let namespace = Namespace::new("taint");
    let app = echo_pods(&namespace, "app", 1);
    let name = node(&app[0]).to_owned();
    let before = of_node(&name);
    let more =
        format!("--nodes {name} --key example.com/broken --effect PreferNoSchedule --for 5s");
    let mut running = start(&namespace, "taint", &more);
    running.wait_for("proven after", PATIENCE);
    let taints = of_node(&name)[0]["taints"].to_string();
    assert!(taints.contains("example.com/broken"), "{taints}");
    let ended = running.end(PATIENCE);
    assert_eq!(ended.code, Some(0), "{}", ended.text);
    assert_eq!(of_node(&name), before);
}

#[test]
fn a_drained_node_has_none_of_the_pods_and_takes_some_again_afterwards() {
    let _turn = turn();
    let namespace = Namespace::new("drain");
    let app = echo_pods(&namespace, "app", 2);
    let name = node(&app[0]).to_owned();
    let before = of_node(&name);
    let more = format!("--nodes {name} --within 60s --for 70s");
    let mut running = start(&namespace, "drain", &more);
    running.wait_for("proven after", PATIENCE);
    let there = pods_of(&namespace, "app").iter().filter(|pod| node_of(pod) == name).count();
    assert_eq!(there, 0);
    running.signal(nix::sys::signal::Signal::SIGINT);
    let ended = running.end(PATIENCE);
    assert_eq!(ended.code, Some(130), "{}", ended.text);
    assert_eq!(of_node(&name), before);
    is_ready(&namespace, "deployment", 2);
}

fn node_of(pod: &Value) -> &str {
    pod["spec"]["nodeName"].as_str().unwrap_or_default()
}

#[test]
fn a_budget_is_honoured_and_the_node_is_as_before() {
    let _turn = turn();
    let namespace = Namespace::new("budget");
    let app = echo_pods(&namespace, "app", 1);
    let name = node(&app[0]).to_owned();
    let before = of_node(&name);
    let served = faultline_tests::cluster::ok(&["api-versions"]);
    let version = if served.lines().any(|line| line == "policy/v1") { "v1" } else { "v1beta1" };
    apply(&format!(
        "apiVersion: policy/{version}
kind: PodDisruptionBudget
metadata: {{ name: app, namespace: {} }}
spec: {{ minAvailable: 1, selector: {{ matchLabels: {{ app: app }} }} }}
",
        namespace.name()
    ));
    // Until whoever looks after budgets has seen it, nothing may be evicted either.
    let uid = app[0]["metadata"]["uid"].clone();
    let ended = inject(&namespace, "drain", "--target app=app --within 6s --for 10s");
    assert_eq!(ended.code, Some(3), "{}", ended.text);
    assert!(ended.text.contains("disruption budget"), "{}", ended.text);
    assert_eq!(of_node(&name), before);
    assert_eq!(pods_of(&namespace, "app")[0]["metadata"]["uid"], uid, "it was not evicted");
}
