//! An agent in a container has a cgroup namespace of its own where control groups are of version 2. What it finds of a
//! target then is what the node's own processes find.

use std::{
    env,
    process::{Command, Stdio},
};

use faultline_agent::kernel::{cgroup::CgroupFs, cgroup_ns};
use faultline_tests::process::{Pod, one_at_a_time};

/// A process in the node's namespace: the first process of this test, since not every machine lets its process 1 be looked at.
const OF_NODE: &str = "FAULTLINE_TEST_OF_NODE";
/// The pid that the second process of this test is to look at.
const LOOK_AT: &str = "FAULTLINE_TEST_LOOK_AT";
const MARK: &str = "found: ";

#[test]
fn control_groups_are_found_from_a_namespace_of_ones_own() {
    if let Some(pid) = env::var(LOOK_AT).ok().and_then(|pid| pid.parse().ok()) {
        return look(pid);
    }
    let _turn = one_at_a_time();
    let Some(mut pod) = Pod::new() else { return };
    let (target, agent) = (pod.container(), pod.container());
    let process = pod.spawn(&target, &["/bin/sleep", "1000"]);
    let name = "cgroup_ns::control_groups_are_found_from_a_namespace_of_ones_own";
    let output = Command::new("/bin/sh")
        .args(["-c", "echo $$ > \"$0/cgroup.procs\" && exec unshare --cgroup \"$@\""])
        .arg(&agent.dir)
        .arg(env::current_exe().expect("this program"))
        .args(["--exact", name, "--nocapture"])
        .env(LOOK_AT, process.pid.to_string())
        .env(OF_NODE, std::process::id().to_string())
        .stdin(Stdio::null())
        .output()
        .expect("a shell");
    let text = String::from_utf8_lossy(&output.stdout);
    let found: Vec<&str> = text.lines().filter_map(|line| Some(line.split_once(MARK)?.1)).collect();
    let expected = format!("{}", target.dir.display());
    assert_eq!(found.len(), 2, "{text}{}", String::from_utf8_lossy(&output.stderr));
    assert_ne!(found[0], expected, "the namespace is another one");
    assert_eq!(found[1], expected);
}

/// What the agent's code finds, before and after it has entered the node's namespace.
fn look(pid: i32) {
    let find = || {
        let groups = CgroupFs::mounted().expect("a mount table");
        let dir = groups.of_process(pid, "memory").expect("a control group");
        println!("{MARK}{}", dir.display());
    };
    find();
    let of_node = env::var(OF_NODE).ok().and_then(|pid| pid.parse().ok()).expect("a pid");
    let entered = cgroup_ns::enter_of_process(of_node).expect("the node's namespace");
    assert!(entered, "it was another one");
    find();
}
