//! The sandbox, seen from the machine it runs on: what it is made of, that it works as a cluster
//! does, and that nothing of it stays.
//!
//! Needs root and `ip`.

mod ends;
mod inventory;
mod network;
mod pods;
mod supervision;

use std::{fs, os::unix::fs::PermissionsExt as _, path::PathBuf};

use faultline_tests::sandbox::{Holder, User, skipped};
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

/// What the user `nobody` needs to hold a sandbox.
struct Nobody {
    directory: tempfile::TempDir,
}

impl Nobody {
    /// `None`, said loudly, where the system gives no rights in user namespaces.
    fn new() -> Option<Self> {
        let nobody = Self { directory: tempfile::tempdir().expect("a directory") };
        // The program where nobody can get at it, whatever the rights on the build's directory are.
        fs::copy(HOLDER, nobody.program()).expect("copied");
        fs::create_dir(nobody.runtime()).expect("made");
        std::os::unix::fs::chown(nobody.runtime(), Some(65534), Some(65534)).expect("given away");
        let open = fs::Permissions::from_mode(0o755);
        fs::set_permissions(nobody.directory.path(), open).expect("opened");
        match nobody.try_start(&json!({ "nodes": 1, "pods": [] })) {
            Ok(mut holder) => {
                assert_eq!(holder.down()["residue"], json!([]));
                Some(nobody)
            }
            Err(error) if error.contains("does not allow") => {
                skipped(&error);
                None
            }
            Err(error) => panic!("{error}"),
        }
    }

    fn program(&self) -> PathBuf {
        self.directory.path().join("holder")
    }

    fn runtime(&self) -> PathBuf {
        self.directory.path().join("run")
    }

    fn try_start(&self, spec: &Value) -> Result<Holder, String> {
        let program = self.program();
        Holder::start(program.to_str().expect("UTF-8"), spec, User::Nobody(&self.runtime()))
    }

    #[track_caller]
    fn start(&self, spec: &Value) -> Holder {
        self.try_start(spec).unwrap_or_else(|error| panic!("no sandbox: {error}"))
    }
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
        let groups = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
        groups.contains(container)
    });
    found.next().expect("a process in the container's control group")
}
