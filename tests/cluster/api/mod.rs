//! Faults through the API server, seen through `kubectl`. Nothing of Faultline is installed for them, which has to be
//! allowed.

mod asker_gone;
mod marks;
mod nodes;
mod refused;
mod workloads;

use std::{process::Command, sync::MutexGuard, time::Duration};

use faultline_tests::{
    cluster::{Namespace, apply, get, ok, test_image, until},
    program::{Ended, Running, faultline, use_cluster},
};
use serde_json::Value;

use super::{PATIENCE, TURN};

/// How long workloads may take to be what they should.
const SETTLE: Duration = Duration::from_secs(90);
/// What every record, label and mark of ours has in its name.
const OURS: &str = "faultline.dev";

/// A turn in the cluster, as it is.
fn turn() -> MutexGuard<'static, ()> {
    let turn = TURN.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    use_cluster();
    assert!(std::env::var_os("KUBECONFIG").is_some(), "this ring needs a cluster: set KUBECONFIG");
    turn
}

/// Starts `faultline inject`, of the pods with the label `app: app` where the kind has a target.
fn start(namespace: &Namespace, kind: &str, more: &str) -> Running {
    let mut command = Command::new(faultline());
    command.args(["inject", kind, "-n", namespace.name(), "--without-controller"]);
    command.args(more.split_whitespace());
    Running::start_command(&mut command)
}

/// The same, to its end.
fn inject(namespace: &Namespace, kind: &str, more: &str) -> Ended {
    start(namespace, kind, more).end(3 * PATIENCE)
}

/// A `StatefulSet` whose pods have the label `app: app`, once they are ready.
fn stateful_set(namespace: &Namespace, replicas: usize) {
    let (image, name) = (test_image(), namespace.name());
    apply(&format!(
        "apiVersion: apps/v1
kind: StatefulSet
metadata: {{ name: app, namespace: {name} }}
spec:
  replicas: {replicas}
  serviceName: app
  selector: {{ matchLabels: {{ app: app }} }}
  template:
    metadata: {{ labels: {{ app: app }} }}
    spec:
      terminationGracePeriodSeconds: 0
      containers:
        - {{ name: main, image: \"{image}\", imagePullPolicy: IfNotPresent, command: [/cluster-observer, serve, \"7007\"] }}
"
    ));
    is_ready(namespace, "statefulset", replicas);
}

/// Waits until a workload `app` is ready.
fn is_ready(namespace: &Namespace, kind: &str, replicas: usize) {
    until(&format!("{replicas} replicas of {kind}/app are ready"), SETTLE, || {
        let now = workload(namespace, kind);
        let number = |path: &str| now.pointer(path).and_then(Value::as_u64).unwrap_or(0);
        let observed = number("/status/observedGeneration") >= number("/metadata/generation");
        let replicas = u64::try_from(replicas).unwrap_or(u64::MAX);
        let all = [number("/status/replicas"), number("/status/readyReplicas")];
        (observed && all == [replicas; 2]).then_some(())
    });
}

fn workload(namespace: &Namespace, kind: &str) -> Value {
    get(&[kind, "app", "-n", namespace.name()])
}

/// The uids of all pods of the app that are there, those that are told to end among them.
fn uids(namespace: &Namespace) -> Vec<String> {
    let list = get(&["pods", "-n", namespace.name(), "-l", "app=app"]);
    let pods = list["items"].as_array().cloned().unwrap_or_default();
    pods.iter().filter_map(|pod| Some(pod["metadata"]["uid"].as_str()?.to_owned())).collect()
}

/// That nothing in a namespace bears anything of ours: no record, no label, no mark in a template or in a history.
#[track_caller]
fn nothing_is_left(namespace: &Namespace) {
    let kinds = "deployments,statefulsets,daemonsets,replicasets,controllerrevisions";
    let all = ok(&["get", kinds, "-n", namespace.name(), "-o", "json"]);
    let mut all: Value = serde_json::from_str(&all).expect("JSON");
    // The API server's notes of who wrote which field stay, as of any other writer.
    for item in all["items"].as_array_mut().expect("a list") {
        item["metadata"]["managedFields"] = Value::Null;
    }
    let text = serde_json::to_string_pretty(&all).expect("JSON");
    let left: Vec<&str> = text
        .lines()
        .filter(|line| line.contains(OURS) || line.contains("faultline.invalid"))
        .collect();
    assert!(left.is_empty(), "{left:#?}");
}
