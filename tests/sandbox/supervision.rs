//! Containers and agents come back as kubelets would bring them back, and are found as theirs are.

use std::{fs, time::Duration};

use faultline_tests::sandbox::{Holder, alone, control_groups, wait_for};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::{Value, json};

use crate::{Nobody, container_id, main_process, start, three_echoes};

fn agent_pid(holder: &mut Holder, node: &str) -> Option<i64> {
    holder.ask(&json!({ "do": "agentPid", "node": node })).as_i64()
}

#[test]
fn a_killed_container_comes_back_with_a_new_id_and_the_same_address() {
    let _alone = alone();
    let mut holder = start(&three_echoes());
    let id = holder.id();
    let before = holder.ask(&json!({ "do": "pods" }));
    let old = container_id(&mut holder, 0);
    let main = main_process(&id, &old);
    kill(Pid::from_raw(main), Signal::SIGKILL).expect("it runs");
    let back =
        wait_for("a new container", Duration::from_secs(2), || container_id(&mut holder, 0) != old);
    println!("container back after {back:?}");
    assert!(back >= Duration::from_millis(190), "{back:?}");
    let after = holder.ask(&json!({ "do": "pods" }));
    for same in ["uid", "addresses", "name"] {
        assert_eq!(before[0][same], after[0][same]);
    }
    assert_eq!(before[1], after[1]);
    assert_eq!(holder.ask(&json!({ "do": "tcp", "address": "echo-1:7000" }))["echo"], "ping");
    let find = |group: &std::path::Path, name: &str| {
        let output = std::process::Command::new("find").arg(group).output().expect("find");
        String::from_utf8_lossy(&output.stdout).contains(name)
    };
    let new = container_id(&mut holder, 0);
    for group in control_groups(&id) {
        assert!(!find(&group, &old) && find(&group, &new), "{}", group.display());
    }
    let text = fs::read_to_string(holder.directory().join("inventory.json")).expect("inventory");
    let inventory: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(inventory["pods"], after);

    // The second time it takes twice as long.
    kill(Pid::from_raw(main_process(&id, &new)), Signal::SIGKILL).expect("it runs");
    let back = wait_for("a third container", Duration::from_secs(2), || {
        container_id(&mut holder, 0) != new
    });
    assert!(back >= Duration::from_millis(390), "{back:?}");
    assert_eq!(holder.down()["residue"], json!([]));
}

/// The command lines of the processes that have a pod's name in their environment.
fn processes_of(pod: &str) -> impl Iterator<Item = String> {
    let marker = format!("POD_NAME={pod}\0");
    let entries = fs::read_dir("/proc").expect("/proc").flatten();
    entries.filter_map(move |entry| {
        let read = |name: &str| fs::read(entry.path().join(name)).ok();
        let text = |name: &str| Some(String::from_utf8_lossy(&read(name)?).into_owned());
        let (environment, command) = (text("environ")?, text("cmdline")?);
        environment.contains(&marker).then(|| command.replace('\0', " "))
    })
}

#[test]
fn what_a_container_leaves_behind_is_killed_before_it_is_started_again() {
    let _alone = alone();
    // The main process ends, a child in a session of its own stays.
    let name = format!("fork-{}", std::process::id());
    let script = "setsid sleep 1000 & sleep 0.4";
    let spec = json!({ "nodes": 1, "pods": [{ "name": name, "command": ["sh", "-c", script] }] });
    let nobody = Nobody::new();
    for user in [None, nobody.as_ref()] {
        let mut holder = user.map_or_else(|| start(&spec), |nobody| nobody.start(&spec));
        // Every process of the pod has its address in the environment, whatever else it is.
        let sleeping = || processes_of(&name).filter(|command| command.starts_with("sleep 1000"));
        let old = container_id(&mut holder, 0);
        wait_for("a new container", Duration::from_secs(3), || container_id(&mut holder, 0) != old);
        assert!(sleeping().count() <= 1);
        assert_eq!(holder.down()["residue"], json!([]));
        assert_eq!(sleeping().count(), 0);
    }
}

#[test]
fn control_groups_are_those_of_a_kubelet_and_carry_the_limit() {
    let _alone = alone();
    let spec = json!({ "nodes": 1, "pods": [
        { "name": "db", "namespace": "shop", "command": ["sleep", "1000"], "memory": 64 << 20 },
    ] });
    let mut holder = start(&spec);
    let (id, container) = (holder.id(), container_id(&mut holder, 0));
    let pods = holder.ask(&json!({ "do": "pods" }));
    let uid = pods[0]["uid"].as_str().expect("a uid").to_owned();
    let expected = format!("/faultline-sandbox-{id}/node1/kubepods/pod{uid}/{container}");
    let main = main_process(&id, &container);
    let membership = fs::read_to_string(format!("/proc/{main}/cgroup")).expect("it runs");
    let lines: Vec<&str> = membership.lines().filter(|line| line.contains(&id)).collect();
    assert!(
        !lines.is_empty() && lines.iter().all(|line| line.ends_with(&expected)),
        "{membership}"
    );
    assert_eq!(lines.len(), control_groups(&id).len(), "in every hierarchy that has groups");
    let command = fs::read_to_string(format!("/proc/{main}/cmdline")).expect("it runs");
    assert_eq!(command, "sleep\u{0}1000\u{0}", "the workload is the main process itself");
    let limits = control_groups(&id).into_iter().flat_map(|group| {
        let group = group.join(format!("node1/kubepods/pod{uid}/{container}"));
        ["memory.limit_in_bytes", "memory.max"].map(|name| group.join(name))
    });
    let limits: Vec<String> = limits.filter_map(|file| fs::read_to_string(file).ok()).collect();
    assert_eq!(limits, ["67108864\n"]);
    assert!(holder.directory().join(format!("node1/pods/shop_db_{uid}")).is_dir());
    assert_eq!(holder.down()["residue"], json!([]));
}

#[test]
fn a_killed_agent_is_started_again_where_that_is_asked_for() {
    let _alone = alone();
    let mut holder = start(&three_echoes());
    let old = agent_pid(&mut holder, "node2").expect("an agent");
    let command = fs::read_to_string(format!("/proc/{old}/cmdline")).expect("it runs");
    assert!(command.contains("__faultline-agent\u{0}--node\u{0}node2\u{0}"), "{command}");
    let groups = fs::read_to_string(format!("/proc/{old}/cgroup")).expect("it runs");
    assert!(groups.contains("/node2/agent\n"), "{groups}");
    kill(Pid::from_raw(i32::try_from(old).expect("a pid")), Signal::SIGKILL).expect("it runs");
    let back = wait_for("a new agent", Duration::from_secs(2), || {
        agent_pid(&mut holder, "node2").is_some_and(|pid| pid != old)
    });
    assert!(back >= Duration::from_millis(290), "{back:?}");
    assert_eq!(holder.down()["residue"], json!([]));

    let mut holder = start(&json!({ "nodes": 1, "pods": [] }));
    let old = agent_pid(&mut holder, "node1").expect("an agent");
    kill(Pid::from_raw(i32::try_from(old).expect("a pid")), Signal::SIGKILL).expect("it runs");
    wait_for("no agent", Duration::from_secs(1), || agent_pid(&mut holder, "node1").is_none());
    std::thread::sleep(Duration::from_millis(700));
    assert_eq!(agent_pid(&mut holder, "node1"), None);
    assert_eq!(holder.down()["residue"], json!([]));
}
