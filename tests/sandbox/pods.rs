//! A pod that is deleted comes back as another one, as the controller of a set of pods brings it back,
//! and nothing of the old one stays.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use faultline_tests::{
    observer::output_in_net_ns_of,
    sandbox::{Holder, alone, control_groups, machine, processes, wait_for},
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::{Value, json};

use crate::{Nobody, start};

/// Two pods of a replicated set, and one alone, on one node. The one alone has a process that its
/// container's main process is not the parent of any more.
fn pods() -> Value {
    let script = "setsid sleep 1000 & exec sleep 2000";
    json!({ "nodes": 1, "pods": [
        { "name": "echo", "replicas": 2 },
        { "name": "db", "namespace": "shop", "command": ["sh", "-c", script] },
    ] })
}

/// A pod as the sandbox tells it, with the process that holds it and its network namespace.
#[derive(Debug, Clone, PartialEq)]
struct Seen {
    uid: String,
    addresses: Value,
    container: String,
    holder: i32,
    network: PathBuf,
}

fn see(sandbox: &mut Holder, name: &str) -> Option<Seen> {
    let pods = sandbox.ask(&json!({ "do": "pods" }));
    let pod = pods.as_array()?.iter().find(|pod| pod["name"] == name)?.clone();
    let uid = pod["uid"].as_str()?.to_owned();
    let holder = sandbox.ask(&json!({ "do": "podPid", "uid": uid }))["pid"].as_i64()?;
    let holder = i32::try_from(holder).ok()?;
    Some(Seen {
        uid,
        addresses: pod["addresses"].clone(),
        container: pod["containers"][0]["id"].as_str()?.to_owned(),
        holder,
        network: fs::read_link(format!("/proc/{holder}/ns/net")).ok()?,
    })
}

/// A pod that was deleted, the one that took its place, and how long that took.
struct Deleted {
    old: Seen,
    new: Seen,
    took: Duration,
    /// Somebody has the old network namespace open, as a fault on it would: the kernel does not give its
    /// number to another one, and takes nothing in it away by itself.
    _kept: fs::File,
}

fn delete(sandbox: &mut Holder, name: &str) -> Deleted {
    let old = see(sandbox, name).expect("it runs");
    let kept = fs::File::open(format!("/proc/{}/ns/net", old.holder)).expect("it runs");
    kill(Pid::from_raw(old.holder), Signal::SIGKILL).expect("it runs");
    let mut new = None;
    let took = wait_for("a new pod", Duration::from_secs(5), || {
        new = see(sandbox, name).filter(|new| new.uid != old.uid);
        new.is_some()
    });
    Deleted { old, new: new.expect("a new pod"), took, _kept: kept }
}

/// Every directory below the sandbox's control groups.
fn groups(id: &str) -> Vec<String> {
    fn below(path: &Path, found: &mut Vec<String>) {
        for entry in fs::read_dir(path).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                found.push(entry.path().display().to_string());
                below(&entry.path(), found);
            }
        }
    }
    let mut found = Vec::new();
    for group in control_groups(id) {
        below(&group, &mut found);
    }
    found
}

/// The processes of this machine that are in a network namespace.
fn in_network(network: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir("/proc").expect("/proc").flatten();
    let inside = |path: &PathBuf| fs::read_link(path.join("ns/net")).is_ok_and(|ns| ns == network);
    entries.map(|entry| entry.path()).filter(inside).collect()
}

/// The ports of the node's bridge, in the order of their names.
fn ports(holder: i32) -> Vec<String> {
    let stat = fs::read_to_string(format!("/proc/{holder}/stat")).expect("it runs");
    let fields = stat.rsplit(") ").next().expect("fields");
    let init = fields.split(' ').nth(1).and_then(|pid| pid.parse().ok()).expect("a parent");
    let links = output_in_net_ns_of(init, "ip", &["-j", "link", "show", "master", "cni0"]);
    let links: Value = serde_json::from_str(&links).expect("JSON");
    let names = links.as_array().expect("a list").iter();
    let mut names: Vec<String> =
        names.map(|link| link["ifname"].as_str().expect("a name").to_owned()).collect();
    names.sort();
    names
}

#[test]
fn a_deleted_pod_comes_back_as_another_one_and_nothing_of_it_stays() {
    let _alone = alone();
    let before = machine();
    let mut sandbox = start(&pods());
    let (id, directory) = (sandbox.id(), sandbox.directory());
    let other = see(&mut sandbox, "echo-2").expect("it runs");
    let strays = || processes(&id).into_iter().filter(|(_, c)| c.starts_with("sleep 1000")).count();
    assert_eq!(ports(other.holder), ["pod2", "pod3", "pod4"]);
    wait_for("the stray process", Duration::from_secs(2), || strays() == 1);

    for (name, namespace, moves) in [("echo-1", "default", true), ("db", "shop", false)] {
        let Deleted { old, new, took, _kept } = delete(&mut sandbox, name);
        println!("{name} is back after {took:?}");
        assert!(took >= Duration::from_millis(190), "{took:?}");
        assert_ne!(old.network, new.network);
        assert_eq!(old.addresses != new.addresses, moves, "{old:?} {new:?}");
        for gone in [&old.uid, &old.container] {
            let left: Vec<String> = groups(&id).into_iter().filter(|g| g.contains(gone)).collect();
            assert_eq!(left, Vec::<String>::new());
        }
        let of_new = format!("/node1/kubepods/pod{}/{}", new.uid, new.container);
        assert!(groups(&id).iter().any(|group| group.ends_with(&of_new)));
        assert_eq!(in_network(&old.network), Vec::<PathBuf>::new());
        let folders = directory.join("node1/pods");
        assert!(!folders.join(format!("{namespace}_{name}_{}", old.uid)).exists());
        assert!(folders.join(format!("{namespace}_{name}_{}", new.uid)).is_dir());
    }
    assert_eq!(ports(other.holder), ["pod3", "pod4", "pod5"]);
    wait_for("its stray process is a new one", Duration::from_secs(2), || strays() == 1);
    assert_eq!(see(&mut sandbox, "echo-2"), Some(other), "a neighbour is left alone");

    // It is reached under its new address and its name, and the inventory tells of it.
    assert_eq!(see(&mut sandbox, "echo-1").expect("it runs").addresses[0], "10.244.1.5");
    let ask = |address: &str| json!({ "do": "tcp", "address": address });
    for address in ["10.244.1.5:7000", "[fd00:244:1::5]:7000", "echo-1:7000"] {
        assert_eq!(sandbox.ask(&ask(address))["echo"], "ping", "{address}");
    }
    assert!(sandbox.ask(&ask("10.244.1.2:7000"))["error"].is_string(), "nobody has it now");
    let said = sandbox.exec("echo-1", &["sh", "-c", "hostname; echo $POD_IP"]);
    assert_eq!(said["stdout"], "echo-1\n10.244.1.5\n");
    let text = fs::read_to_string(directory.join("inventory.json")).expect("inventory");
    let inventory: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(inventory["pods"], sandbox.ask(&json!({ "do": "pods" })));
    let holders = inventory["holders"].as_object().expect("holders");
    assert_eq!(holders.len(), 3, "{holders:?}");

    assert_eq!(sandbox.down()["residue"], json!([]));
    assert_eq!((processes(&id).len(), control_groups(&id).len()), (0, 0));
    assert!(!directory.exists());
    assert_eq!(machine(), before);
}

#[test]
fn a_pod_that_keeps_its_address_is_reached_at_once_by_who_knew_the_old_one() {
    let _alone = alone();
    // With another pod beside it: a bridge without any port would forget all neighbours.
    let spec = json!({ "nodes": 1, "pods": [{ "name": "a" }, { "name": "b" }] });
    let mut sandbox = start(&spec);
    for address in ["a:7000", "[fd00:244:1::2]:7000"] {
        let ask = json!({ "do": "tcp", "address": address });
        assert_eq!(sandbox.ask(&ask)["echo"], "ping");
        let Deleted { old, new, .. } = delete(&mut sandbox, "a");
        assert_eq!(old.addresses, new.addresses);
        assert_eq!(sandbox.ask(&ask)["echo"], "ping");
    }
    assert_eq!(sandbox.down()["residue"], json!([]));
}

#[test]
fn without_control_groups_nothing_of_a_deleted_pod_stays_either() {
    let _alone = alone();
    let Some(nobody) = Nobody::new() else { return };
    let mut sandbox = nobody.start(&pods());
    let pids = sandbox.directory().join("node1/pids");
    let Deleted { old, new, _kept, .. } = delete(&mut sandbox, "db");
    assert_eq!(in_network(&old.network), Vec::<PathBuf>::new());
    assert!(!pids.join(&old.uid).exists());
    assert!(pids.join(&new.uid).join(&new.container).is_file());
    assert_eq!(sandbox.exec("db", &["hostname"])["stdout"], "db\n");
    assert_eq!(sandbox.down()["residue"], json!([]));
}
