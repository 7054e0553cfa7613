//! The cluster ring: Faultline as a user has it in a real Kubernetes cluster, seen through `kubectl` and through pods of
//! the tests' own. `cargo test` leaves it out; `tests/lab/ring` runs it in a lab, `CONTRIBUTING.md` says how it runs
//! elsewhere.
//!
//! One test at a time, and each in namespaces of its own: there is one Faultline in a cluster.

mod api;
mod ends;
mod identity;
mod inside;
mod install;
mod kinds;
mod partition;
mod postgres;
mod reboot;
mod refused;
mod rollout;

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use faultline_tests::{
    cluster::{Namespace, install, kubectl},
    program::{Ended, Running, use_cluster},
};
use serde_json::Value;

/// How long a run may take beyond what its experiment says.
const PATIENCE: Duration = Duration::from_secs(90);

static TURN: Mutex<()> = Mutex::new(());

/// A turn in the cluster, with Faultline in it.
fn installed() -> MutexGuard<'static, ()> {
    let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    use_cluster();
    assert!(
        std::env::var_os("KUBECONFIG").is_some(),
        "this ring needs a cluster that it may break: set KUBECONFIG, or use tests/lab/ring"
    );
    let is_there = kubectl(&["get", "daemonset", "-n", "faultline", "faultline-agent"]).ok;
    if !is_there {
        let ended = install();
        assert_eq!(ended.code, Some(0), "install: {}", ended.text);
    }
    turn
}

/// An experiment in a file, which is gone with this.
struct File(tempfile::NamedTempFile);

impl File {
    fn new(text: &str) -> Self {
        let file = tempfile::Builder::new().suffix(".yaml").tempfile().expect("a file");
        std::fs::write(file.path(), text).expect("it is written");
        Self(file)
    }

    fn path(&self) -> &str {
        self.0.path().to_str().expect("text")
    }
}

/// An experiment that does `method` to pods of app `app` in a namespace.
fn experiment(namespace: &Namespace, more: &str, method: &str) -> File {
    let namespace = namespace.name();
    File::new(&format!(
        "apiVersion: faultline.dev/v1alpha1
kind: Experiment
metadata: {{ name: ring }}
spec:
  lease: 5s
  targets:
    app: {{ namespace: {namespace}, labels: {{ app: app }} }}
{more}  method:
{method}"
    ))
}

/// Starts `faultline run`. The file is to be there until it has been read.
fn start(file: File) -> (Running, File) {
    (Running::start(&["run", file.path()]), file)
}

/// Runs an experiment to its end.
fn run(file: &File) -> Ended {
    Running::start(&["run", file.path()]).end(PATIENCE)
}

/// What `ps` says, once nothing is injected any more.
fn nothing_is_injected() {
    let ended = Running::start(&["ps"]).end(PATIENCE);
    assert_eq!(ended.code, Some(0), "{}", ended.text);
    assert!(ended.text.contains("nothing is injected"), "{}", ended.text);
}

fn name(pod: &Value) -> &str {
    pod["metadata"]["name"].as_str().expect("a name")
}

fn node(pod: &Value) -> &str {
    pod["spec"]["nodeName"].as_str().expect("a node")
}
