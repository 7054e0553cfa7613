//! However a sandbox ends, nothing of it stays: in good order, by a signal, by `kill -9`, by failing.

use std::{
    fs,
    os::unix::{fs::PermissionsExt as _, process::CommandExt as _},
    path::Path,
    time::Duration,
};

use faultline_tests::sandbox::{
    Holder, User, alone, control_groups, handed_down, machine, processes, wait_for,
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::{Value, json};

use crate::{HOLDER, Nobody, start, three_echoes};

fn pid(holder: &Holder) -> Pid {
    Pid::from_raw(i32::try_from(holder.child.id()).expect("a pid"))
}

#[track_caller]
fn assert_nothing_left(id: &str, directory: &Path) {
    assert_eq!(processes(id), [], "processes");
    assert_eq!(control_groups(id), Vec::<std::path::PathBuf>::new(), "control groups");
    assert!(!directory.exists(), "{}", directory.display());
}

#[test]
fn up_and_down_leave_the_machine_as_it_was() {
    let _alone = alone();
    let (before, controllers) = (machine(), handed_down());
    let mut holder = start(&three_echoes());
    let (id, directory) = (holder.id(), holder.directory());
    assert_eq!(machine(), before, "also while it runs, nothing of it shows on the machine");
    assert!(processes(&id).len() >= 15 && !control_groups(&id).is_empty());
    let mode = fs::metadata(directory.join("controller-key.pem")).expect("a key").permissions();
    assert_eq!(mode.mode() & 0o777, 0o600);
    let said = holder.down();
    assert_eq!(said["residue"], json!([]));
    assert_nothing_left(&id, &directory);
    assert_eq!((machine(), handed_down()), (before, controllers));
    println!("up {} ms, down {} ms", holder.ready["upMs"], said["downMs"]);
}

#[test]
fn sigterm_takes_it_down() {
    let _alone = alone();
    let mut holder = start(&three_echoes());
    let (id, directory) = (holder.id(), holder.directory());
    kill(pid(&holder), Signal::SIGTERM).expect("it runs");
    assert_eq!(holder.hear().expect("a last word")["residue"], json!([]));
    assert_nothing_left(&id, &directory);
}

#[test]
fn dropping_it_ends_and_removes_everything() {
    let _alone = alone();
    let mut holder = start(&three_echoes());
    let (id, directory) = (holder.id(), holder.directory());
    holder.ask(&json!({ "do": "drop" }));
    holder.child.wait().expect("it ends");
    assert_nothing_left(&id, &directory);
}

#[test]
fn after_kill_9_all_processes_are_gone_and_the_next_start_sweeps_the_rest() {
    let _alone = alone();
    let before = (machine(), handed_down());
    let mut holder = start(&three_echoes());
    let (id, directory) = (holder.id(), holder.directory());
    // A child of the holder that lives on must not keep the control pipes open.
    holder.send(
        &json!({ "do": "exec", "pod": "echo-1", "command": ["sleep", "30"], "withinMs": 60_000 }),
    );
    std::thread::sleep(Duration::from_millis(100));
    kill(pid(&holder), Signal::SIGKILL).expect("it runs");
    let gone =
        wait_for("all processes are gone", Duration::from_secs(1), || processes(&id).is_empty());
    println!("all processes gone {gone:?} after kill -9");
    assert!(directory.exists() && !control_groups(&id).is_empty(), "there is something to sweep");

    let mut next = start(&json!({ "nodes": 1, "pods": [] }));
    assert!(next.ready["swept"].to_string().contains(&id), "{}", next.ready);
    assert_nothing_left(&id, &directory);
    assert_eq!(next.down()["residue"], json!([]));

    // Groups whose directory is lost are found by their name.
    let Some(above) = control_groups_above() else { return };
    let lost = above.join("faultline-sandbox-0123456789abcdef");
    fs::create_dir_all(lost.join("node1/agent")).expect("a control group");
    let mut next = start(&json!({ "nodes": 1, "pods": [] }));
    assert!(next.ready["swept"].to_string().contains("0123456789abcdef"), "{}", next.ready);
    assert!(!lost.exists());
    assert_eq!(next.down()["residue"], json!([]));
    assert_eq!((machine(), handed_down()), before);
}

#[test]
fn a_node_whose_pid_1_is_stuck_ends_with_the_holder_all_the_same() {
    let _alone = alone();
    let holder = start(&three_echoes());
    let id = holder.id();
    let inits = processes(&id).into_iter().filter(|(_, command)| command.contains("-node-init"));
    for (init, _) in inits {
        kill(Pid::from_raw(init), Signal::SIGSTOP).expect("it runs");
    }
    kill(pid(&holder), Signal::SIGKILL).expect("it runs");
    wait_for("all processes are gone", Duration::from_secs(1), || processes(&id).is_empty());
    let mut next = start(&json!({ "nodes": 1, "pods": [] }));
    assert_eq!(next.down()["residue"], json!([]));
    assert_nothing_left(&id, &holder.directory());
}

#[test]
fn kill_9_at_any_moment_of_the_start_leaves_no_process_and_nothing_that_is_not_swept() {
    let _alone = alone();
    // Whatever an earlier test that failed has left is not this one's.
    assert_eq!(start(&json!({ "nodes": 1, "pods": [] })).down()["residue"], json!([]));
    let before = (machine(), handed_down(), sandboxes());
    let program = fs::canonicalize(HOLDER).expect("it is built");
    let ours = || {
        let entries = fs::read_dir("/proc").expect("/proc").flatten();
        entries
            .filter(|entry| fs::read_link(entry.path().join("exe")).is_ok_and(|exe| exe == program))
    };
    for delay in (0..100).step_by(7) {
        let mut child = std::process::Command::new(HOLDER)
            .arg(three_echoes().to_string())
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::null())
            .spawn()
            .expect("it runs");
        std::thread::sleep(Duration::from_millis(delay));
        child.kill().expect("it runs");
        child.wait().expect("it ends");
        wait_for("all processes are gone", Duration::from_secs(1), || ours().count() == 0);
    }
    assert_eq!(start(&json!({ "nodes": 1, "pods": [] })).down()["residue"], json!([]));
    assert_eq!((machine(), handed_down(), sandboxes()), before);
}

#[test]
fn no_child_holds_the_writing_end_of_a_control_pipe() {
    let _alone = alone();
    let mut holder = start(&three_echoes());
    let id = holder.id();
    let all = processes(&id);
    let nodes = all.iter().filter(|(_, command)| command.contains("__faultline-node "));
    let pipes: Vec<_> = nodes
        .map(|(pid, _)| fs::read_link(format!("/proc/{pid}/fd/0")).expect("a control pipe"))
        .collect();
    assert_eq!(pipes.len(), 3);
    for (pid, command) in all.iter().filter(|(pid, _)| *pid != self::pid(&holder).as_raw()) {
        for entry in fs::read_dir(format!("/proc/{pid}/fd")).expect("its files").flatten() {
            let Ok(target) = fs::read_link(entry.path()) else { continue };
            let number = entry.file_name().into_string().expect("a number");
            let info = fs::read_to_string(format!("/proc/{pid}/fdinfo/{number}")).expect("info");
            let writes = info.lines().any(|line| line.starts_with("flags:") && line.ends_with('1'));
            assert!(!(pipes.contains(&target) && writes), "{command} holds {target:?} as {number}");
        }
        // And a Ctrl-C of the terminal does not reach it.
        let group = nix::unistd::getpgid(Some(Pid::from_raw(*pid))).expect("it runs");
        assert_ne!(group, self::pid(&holder), "{command} is in the holder's process group");
    }
    assert_eq!(holder.down()["residue"], json!([]));
}

#[test]
fn two_sandboxes_run_side_by_side() {
    let _alone = alone();
    let controllers = handed_down();
    let (mut one, mut two) = (start(&three_echoes()), start(&three_echoes()));
    assert_ne!(one.id(), two.id());
    let ask = json!({ "do": "tcp", "address": "echo-3:7000" });
    assert_eq!(one.ask(&ask)["echo"], "ping");
    assert_eq!(one.down()["residue"], json!([]));
    assert_eq!(two.ask(&ask)["echo"], "ping");
    assert_eq!(two.down()["residue"], json!([]));
    assert_nothing_left(&one.id(), &one.directory());
    assert_nothing_left(&two.id(), &two.directory());
    assert_eq!(handed_down(), controllers, "the last to end takes back what the first added");
}

#[test]
fn a_workload_that_cannot_work_is_named_with_its_log_and_nothing_stays() {
    let _alone = alone();
    let before = (machine(), sandboxes());
    let failure = |command: Value| {
        let spec = json!({ "nodes": 2, "pods": [
            { "name": "echo", "replicas": 2 }, { "name": "db", "command": command },
        ] });
        Holder::start(HOLDER, &spec, User::Root).map(|_| ()).expect_err("it cannot work")
    };
    let text = failure(json!(["no-such-program", "-x"]));
    assert!(text.contains("pod db") && text.contains("failed to run `no-such-program`"), "{text}");
    assert!(text.contains("No such file or directory"), "{text}");
    let text = failure(json!(["sh", "-c", "echo the disk is missing >&2; exit 3"]));
    assert!(
        text.contains("pod db ended: exit code 3") && text.contains("the disk is missing"),
        "{text}"
    );
    assert_eq!((machine(), sandboxes()), before);
}

/// A hierarchy in which sandboxes have their groups.
fn control_groups_above() -> Option<std::path::PathBuf> {
    let mut holder = start(&json!({ "nodes": 1, "pods": [] }));
    let group = control_groups(&holder.id()).pop();
    assert_eq!(holder.down()["residue"], json!([]));
    Some(group?.parent()?.to_owned())
}

/// What there is of any sandbox.
fn sandboxes() -> (Vec<String>, Vec<std::path::PathBuf>) {
    let entries = fs::read_dir("/run/faultline").into_iter().flatten().flatten();
    let names = entries.map(|entry| entry.path().display().to_string()).collect();
    (names, control_groups("faultline-sandbox-"))
}

#[test]
fn without_root_it_works_in_a_user_namespace_and_says_what_is_missing() {
    let _alone = alone();
    let Some(nobody) = Nobody::new() else { return };
    let (program, runtime) = (nobody.program(), nobody.runtime());
    let mut holder = nobody.start(&three_echoes());
    assert!(holder.ready["missing"].to_string().contains("memoryPressure is refused"));
    let (id, path) = (holder.id(), holder.directory());
    assert!(path.starts_with(&runtime));
    assert_eq!(holder.ask(&json!({ "do": "tcp", "address": "echo-2:7000" }))["echo"], "ping");
    assert_eq!(holder.exec("echo-3", &["hostname"])["stdout"], "echo-3\n");

    // Another process of the same user finds the way in.
    let inventory = path.join("inventory.json");
    let mut joining = std::process::Command::new(&program);
    joining.arg("join").arg(&inventory).env("XDG_RUNTIME_DIR", &runtime).uid(65534).gid(65534);
    let output = joining.output().expect("it runs");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(said.contains("echo-1\\n") && said.contains("inventory.json"), "{output:?}");

    // Without control groups the pids of containers are in files, and follow restarts.
    let pods = holder.ask(&json!({ "do": "pods" }));
    let (uid, container) = (&pods[0]["uid"], &pods[0]["containers"][0]["id"]);
    let folder = path.join("node1/pids").join(uid.as_str().expect("a uid"));
    let file = folder.join(container.as_str().expect("an id"));
    let inner: i32 = fs::read_to_string(&file).expect("a pid file").parse().expect("a pid");
    assert_eq!(fs::read_dir(&folder).expect("the folder").count(), 2, "pause and echo");
    let killed = holder.exec("echo-1", &["sh", "-c", &format!("kill -9 {inner}")]);
    assert_eq!(killed["code"], 0, "{killed}");
    wait_for("the old pid file is gone", Duration::from_secs(2), || !file.exists());
    wait_for("there is a new one", Duration::from_secs(2), || {
        fs::read_dir(&folder).expect("the folder").count() == 2
    });

    kill(pid(&holder), Signal::SIGKILL).expect("it runs");
    wait_for("all processes are gone", Duration::from_secs(1), || processes(&id).is_empty());
    let mut next = nobody.start(&three_echoes());
    assert!(next.ready["swept"].to_string().contains(&id), "{}", next.ready);
    assert_eq!(next.down()["residue"], json!([]));
    assert_nothing_left(&id, &path);
    assert!(!runtime.join("faultline").exists());
}
