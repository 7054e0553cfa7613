//! Targets that come back while a partition is in effect: a container in its pod, and a pod as another
//! one. Who reaches whom is seen by sockets of the test's own, inside of the pods.

use std::{
    fs,
    net::{SocketAddr, TcpStream},
    path::Path,
    time::{Duration, Instant},
};

use faultline_tests::{
    observer::{can_run, in_net_ns_of, output_in_net_ns_of, processes_in_cgroup},
    program::{Ended, Running},
    sandbox::wait_for,
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;

use super::{alone, inventory};

const LIMIT: Duration = Duration::from_mins(1);
/// How long a connection that is not cut may take.
const CONNECT_MAX: Duration = Duration::from_millis(300);

/// Cuts two pods of one set from each other; one that is deleted comes back under another address.
fn experiment(dir: &tempfile::TempDir, follow: &str) -> String {
    let text = format!(
        "apiVersion: faultline.dev/v1alpha1
kind: Experiment
metadata: {{ name: follow }}
spec:
  lease: 2s
  targets:
    near: {{ names: [echo-1], follow: {follow} }}
    far: {{ names: [echo-2], follow: {follow} }}
  method:
    - partition: {{ between: [near, far] }}
      for: 6s
"
    );
    let path = dir.path().join("follow.yaml");
    fs::write(&path, text).expect("written");
    path.display().to_string()
}

/// A pod of a sandbox, as its inventory tells it now.
#[derive(Debug, Clone, PartialEq)]
struct Seen {
    uid: String,
    address: SocketAddr,
    container: String,
    holder: i32,
}

fn see(file: &Path, name: &str) -> Option<Seen> {
    let inventory: Value = serde_json::from_str(&fs::read_to_string(file).ok()?).ok()?;
    let pod = inventory["pods"].as_array()?.iter().find(|pod| pod["name"] == name)?;
    let uid = pod["uid"].as_str()?.to_owned();
    Some(Seen {
        address: SocketAddr::new(pod["addresses"][0].as_str()?.parse().ok()?, 7000),
        container: pod["containers"][0]["id"].as_str()?.to_owned(),
        holder: inventory["holders"][&uid]["pid"].as_i64()?.try_into().ok()?,
        uid,
    })
}

/// Whether a pod can connect to another one.
fn reaches(from: &Seen, to: &Seen) -> bool {
    in_net_ns_of(from.holder, || TcpStream::connect_timeout(&to.address, CONNECT_MAX).is_ok())
}

fn both_ways(a: &Seen, b: &Seen) -> (bool, bool) {
    (reaches(a, b), reaches(b, a))
}

/// Kills a pod's holder, and waits for the pod that takes its place and for its workload.
fn delete(file: &Path, old: &Seen) -> Seen {
    kill(Pid::from_raw(old.holder), Signal::SIGKILL).expect("it runs");
    let mut new = None;
    wait_for("a new pod", Duration::from_secs(5), || {
        new = see(file, "echo-2").filter(|new| new.uid != old.uid);
        new.is_some()
    });
    new.expect("a new pod")
}

/// A sandbox of two nodes with a pod on each, and a run in it once its partition is proven.
fn cut(follow: &str, dir: &tempfile::TempDir) -> (Running, Running, std::path::PathBuf) {
    let mut sandbox = Running::start(&["sandbox", "--nodes", "2"]);
    sandbox.wait_for("inventory.json", LIMIT);
    let (file, _) = inventory(sandbox.pid());
    let (near, far) = (see(&file, "echo-1").expect("a pod"), see(&file, "echo-2").expect("a pod"));
    assert_eq!(both_ways(&near, &far), (true, true), "before");
    let path = file.display().to_string();
    let mut run = Running::start(&["run", "--inventory", &path, &experiment(dir, follow)]);
    run.wait_for("default/echo-1: proven", LIMIT);
    assert_eq!(both_ways(&near, &far), (false, false), "while it is cut");
    (sandbox, run, file)
}

/// Nothing of the run is left on the nodes, which go on without it.
#[track_caller]
fn check_left_nothing(sandbox: Running, file: &Path) {
    let (near, far) = (see(file, "echo-1").expect("a pod"), see(file, "echo-2").expect("a pod"));
    assert_eq!(both_ways(&near, &far), (true, true), "after");
    for pod in [&near, &far] {
        let tables = output_in_net_ns_of(pod.holder, "nft", &["list", "tables"]);
        assert!(!tables.contains("faultline"), "{tables}");
    }
    sandbox.signal(Signal::SIGINT);
    let ended = sandbox.end(LIMIT);
    assert!(matches!(ended.code, Some(0 | 130)), "{}", ended.text);
}

#[test]
fn a_recreated_pod_is_cut_within_seconds_and_its_peer_from_it() {
    if !can_run("a recreated pod") {
        return;
    }
    for follow in ["recreated", "all-matching"] {
        let alone = alone();
        let dir = tempfile::tempdir().expect("a directory");
        let (sandbox, run, file) = cut(follow, &dir);
        let (near, old) =
            (see(&file, "echo-1").expect("a pod"), see(&file, "echo-2").expect("a pod"));
        let new = delete(&file, &old);
        let appeared = Instant::now();
        assert_ne!(new.address, old.address, "its peer has to be told");
        wait_for("the new pod is cut", Duration::from_secs(3), || {
            both_ways(&near, &new) == (false, false)
        });
        println!("{follow}: cut {:?} after the new pod was seen", appeared.elapsed());
        // At both ends: either alone would do.
        for pod in [&near, &new] {
            wait_for("its own rules", Duration::from_secs(3), || {
                let other = if pod == &near { &new } else { &near };
                let rules = output_in_net_ns_of(pod.holder, "nft", &["list", "ruleset"]);
                rules.contains(&other.address.ip().to_string())
            });
        }
        let Ended { code, text } = run.end(LIMIT);
        assert_eq!(code, Some(0), "{text}");
        assert!(text.contains("followed in the place of default/echo-2"), "{text}");
        check_left_nothing(sandbox, &file);
        alone.check_clean();
    }
}

#[test]
fn a_pod_that_is_kept_is_let_go_with_its_end_and_that_is_told() {
    if !can_run("a pod that is not followed") {
        return;
    }
    let alone = alone();
    let dir = tempfile::tempdir().expect("a directory");
    let (sandbox, run, file) = cut("keep", &dir);
    let (near, old) = (see(&file, "echo-1").expect("a pod"), see(&file, "echo-2").expect("a pod"));
    let new = delete(&file, &old);
    let end = Instant::now() + Duration::from_millis(1_500);
    while Instant::now() < end {
        wait_for("its workload", Duration::from_secs(2), || both_ways(&near, &new) == (true, true));
        std::thread::sleep(Duration::from_millis(50));
    }
    let Ended { code, text } = run.end(LIMIT);
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("its target has gone"), "{text}");
    check_left_nothing(sandbox, &file);
    alone.check_clean();
}

#[test]
fn a_container_that_is_started_again_is_still_cut() {
    if !can_run("a restarted container") {
        return;
    }
    let alone = alone();
    let dir = tempfile::tempdir().expect("a directory");
    let (sandbox, run, file) = cut("keep", &dir);
    let (near, old) = (see(&file, "echo-1").expect("a pod"), see(&file, "echo-2").expect("a pod"));
    let main = processes_in_cgroup(&old.container);
    kill(Pid::from_raw(main[0]), Signal::SIGKILL).expect("it runs");
    wait_for("a new container", Duration::from_secs(3), || {
        see(&file, "echo-2").is_some_and(|now| now.container != old.container)
    });
    let new = see(&file, "echo-2").expect("a pod");
    assert_eq!((&new.uid, new.address, new.holder), (&old.uid, old.address, old.holder));
    // It works, as it is reached from inside, and from nowhere else that is cut.
    wait_for("the workload", Duration::from_secs(2), || reaches(&new, &new));
    assert_eq!(both_ways(&near, &new), (false, false));
    let Ended { code, text } = run.end(LIMIT);
    assert_eq!(code, Some(0), "{text}");
    check_left_nothing(sandbox, &file);
    alone.check_clean();
}
