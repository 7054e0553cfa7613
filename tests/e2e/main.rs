//! The e2e ring: the built `faultline`, its sandbox, and an observer that shares no code with them.
//!
//! One test at a time: they compare the whole machine before and after.

mod answers;
mod follow;
mod hostile;
mod inventory;
mod killed;
mod pods;
mod quickstart;
mod report;
mod seen_from;
mod shutdown;
mod stop;
mod stuck;
mod unprivileged;
mod unreachable;

use std::{
    fs::{self, File},
    net::IpAddr,
    path::PathBuf,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use faultline_tests::observer::Machine;
use nix::fcntl::{Flock, FlockArg};
use serde_json::Value;

static ALONE: Mutex<()> = Mutex::new(());

/// Nothing else of this ring runs while this lives, in this process or in another one; and at its end
/// the machine is as it was.
struct Alone {
    before: Machine,
    _machine: Flock<File>,
    _turn: MutexGuard<'static, ()>,
}

fn alone() -> Alone {
    let turn = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let path = std::env::temp_dir().join("faultline-e2e.lock");
    let file = File::create(path).expect("a lock file");
    let machine = Flock::lock(file, FlockArg::LockExclusive).expect("a turn on this machine");
    Alone { before: Machine::look(), _machine: machine, _turn: turn }
}

impl Alone {
    /// Compares the machine with how it was. Processes may take a moment to be gone.
    fn check_clean(self) {
        let end = Instant::now() + Duration::from_secs(5);
        let mut differences = Machine::look().differs_from(&self.before);
        while !differences.is_empty() && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(50));
            differences = Machine::look().differs_from(&self.before);
        }
        assert!(differences.is_empty(), "the machine is not as it was: {differences:#?}");
    }
}

/// What the inventory of a running sandbox says of a pod.
struct PodSeen {
    container_id: String,
    address: IpAddr,
}

/// The inventory of the sandbox that a process holds.
fn inventory(holder: i32) -> (PathBuf, Value) {
    let end = Instant::now() + Duration::from_secs(10);
    loop {
        let dirs = fs::read_dir("/run/faultline").into_iter().flatten().flatten();
        let files = dirs.map(|dir| dir.path().join("inventory.json"));
        for path in files {
            let text = fs::read_to_string(&path).unwrap_or_default();
            let value: Value = serde_json::from_str(&text).unwrap_or_default();
            if value["network"]["pid"] == holder {
                return (path, value);
            }
        }
        assert!(Instant::now() < end, "a sandbox writes its inventory");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn pod_seen(inventory: &Value, name: &str) -> PodSeen {
    let pods = inventory["pods"].as_array().expect("pods");
    let pod = pods.iter().find(|pod| pod["name"] == name).expect("the pod");
    PodSeen {
        container_id: pod["containers"][0]["id"].as_str().expect("an id").into(),
        address: pod["addresses"][0].as_str().expect("an address").parse().expect("an address"),
    }
}
