//! Pods and what makes them: deleted, scaled, restarted, kept from starting; and as before afterwards.

use faultline_tests::cluster::{Namespace, echo_pods, get, ok, until};
use serde_json::Value;

use super::{SETTLE, inject, is_ready, nothing_is_left, start, stateful_set, turn, uids, workload};
use crate::PATIENCE;

#[test]
fn deleted_pods_go_and_others_take_their_place() {
    let _turn = turn();
    let namespace = Namespace::new("delete");
    echo_pods(&namespace, "app", 2);
    let before = uids(&namespace);
    let ended = inject(&namespace, "pod-delete", "--target app=app --grace 1s");
    let after = uids(&namespace);
    assert_eq!(ended.code, Some(0), "{}", ended.text);
    assert_eq!(ended.text.matches("effect proven").count(), 2, "{}", ended.text);
    assert!(!before.iter().any(|uid| after.contains(uid)), "{before:?} {after:?}");
    is_ready(&namespace, "deployment", 2);
}

#[test]
fn what_is_scaled_to_nothing_is_as_many_as_before_afterwards() {
    let _turn = turn();
    let namespace = Namespace::new("scale");
    echo_pods(&namespace, "app", 3);
    let mut running = start(&namespace, "scale", "--target app=app --to 0 --for 20s");
    running.wait_for("proven after", PATIENCE);
    assert_eq!(uids(&namespace), Vec::<String>::new(), "proven when they have gone");
    assert_eq!(workload(&namespace, "deployment")["spec"]["replicas"], 0);
    let ended = running.end(PATIENCE);
    assert_eq!(ended.code, Some(0), "{}", ended.text);
    assert_eq!(workload(&namespace, "deployment")["spec"]["replicas"], 3);
    nothing_is_left(&namespace);
    is_ready(&namespace, "deployment", 3);
}

#[test]
fn what_somebody_else_changed_meanwhile_is_theirs_and_is_told() {
    let _turn = turn();
    let namespace = Namespace::new("theirs");
    echo_pods(&namespace, "app", 3);
    let mut running = start(&namespace, "scale", "--target app=app --to 1 --for 20s");
    running.wait_for("proven after", PATIENCE);
    ok(&["scale", "deployment", "app", "-n", namespace.name(), "--replicas=2"]);
    let ended = running.end(PATIENCE);
    assert_eq!(ended.code, Some(1), "it did not last to its end: {}", ended.text);
    assert!(ended.text.contains("set to 1, and somebody else made 2 of it"), "{}", ended.text);
    assert_eq!(workload(&namespace, "deployment")["spec"]["replicas"], 2);
    nothing_is_left(&namespace);
}

#[test]
fn a_restart_replaces_every_pod() {
    let _turn = turn();
    let namespace = Namespace::new("restart");
    stateful_set(&namespace, 2);
    let before = uids(&namespace);
    let ended = inject(&namespace, "rollout-restart", "--target app=app");
    let after = uids(&namespace);
    assert_eq!(ended.code, Some(0), "{}", ended.text);
    assert!(!before.iter().any(|uid| after.contains(uid)), "{before:?} {after:?}");
}

/// A pod that waits, and for what.
fn waiting(namespace: &Namespace) -> Option<String> {
    let list = get(&["pods", "-n", namespace.name(), "-l", "app=app"]);
    let mut pods =
        list["items"].as_array()?.iter().filter(|pod| pod["status"]["phase"] == "Pending");
    let why = |pod: &Value| {
        let statuses = &pod["status"]["containerStatuses"][0]["state"]["waiting"]["reason"];
        let conditions = pod["status"]["conditions"].as_array()?;
        let scheduled = conditions.iter().find(|c| c["type"] == "PodScheduled")?;
        statuses.as_str().or(scheduled["reason"].as_str()).map(str::to_owned)
    };
    pods.find_map(why)
}

#[track_caller]
fn new_pods_wait_and_no_longer(kind: &str, fault: &str, reasons: &[&str]) {
    let namespace = Namespace::new(&format!("{fault}-{}", kind.chars().next().unwrap_or_default()));
    if kind == "deployment" {
        echo_pods(&namespace, "app", 2);
    } else {
        stateful_set(&namespace, 2);
    }
    let template = workload(&namespace, kind)["spec"]["template"].clone();
    let mut running = start(&namespace, fault, "--target app=app --for 30s");
    running.wait_for("proven after", PATIENCE);
    let why = until("a pod waits", SETTLE, || waiting(&namespace));
    assert!(reasons.contains(&why.as_str()), "{why}");
    let ended = running.end(PATIENCE);
    assert_eq!(ended.code, Some(0), "{}", ended.text);
    assert_eq!(workload(&namespace, kind)["spec"]["template"], template);
    nothing_is_left(&namespace);
    is_ready(&namespace, kind, 2);
}

#[test]
fn new_pods_of_a_deployment_find_no_node_and_then_they_do() {
    let _turn = turn();
    new_pods_wait_and_no_longer("deployment", "unschedulable", &["Unschedulable"]);
}

#[test]
fn a_stateful_set_does_not_wait_for_ever_for_a_pod_that_found_no_node() {
    let _turn = turn();
    new_pods_wait_and_no_longer("statefulset", "unschedulable", &["Unschedulable"]);
}

#[test]
fn new_pods_find_no_image_and_then_they_do() {
    let _turn = turn();
    let reasons = ["ErrImagePull", "ImagePullBackOff"];
    new_pods_wait_and_no_longer("deployment", "image-pull", &reasons);
    new_pods_wait_and_no_longer("statefulset", "image-pull", &reasons);
}
