//! The sandbox, seen from the machine it runs on: what it is made of, that it works as a cluster
//! does, and that nothing of it stays.
//!
//! Needs root and `ip`.

mod ends;
mod inventory;
mod network;
mod supervision;

use faultline_tests::sandbox::{Holder, User};
use serde_json::{Value, json};

const HOLDER: &str = env!("CARGO_BIN_EXE_sandbox-holder");

/// Three nodes with one echo pod each.
fn three_echoes() -> Value {
    json!({ "nodes": 3, "restartAgentsMs": 300, "pods": [{ "name": "echo", "replicas": 3 }] })
}

#[track_caller]
fn start(spec: &Value) -> Holder {
    Holder::start(HOLDER, spec, User::Root).unwrap_or_else(|error| panic!("no sandbox: {error}"))
}

/// The id of the container that runs in a pod now.
fn container_id(holder: &mut Holder, pod: usize) -> String {
    let pods = holder.ask(&json!({ "do": "pods" }));
    pods[pod]["containers"][0]["id"].as_str().expect("a container").to_owned()
}

/// The main process of a container: the first of its control group, in a hierarchy that has it.
fn main_process(id: &str, container: &str) -> i32 {
    let found = faultline_tests::sandbox::processes(id).into_iter().map(|(pid, _)| pid);
    let mut found = found.filter(|pid| {
        let groups = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
        groups.contains(container)
    });
    found.next().expect("a process in the container's control group")
}
