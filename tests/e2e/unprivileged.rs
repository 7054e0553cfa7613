//! Without root: the same quickstart in a user namespace, and a clear word about what is missing.

use std::{os::unix::process::CommandExt, process::Command, time::Duration};

use faultline_tests::{
    observer::can_run,
    program::{Ended, Running, faultline, project_file},
};

use super::alone;

/// The user that Debian and others call `nobody`.
const NOBODY: u32 = 65_534;

/// Runs an example as that user. `None`, and that is said, where this system does not allow it.
fn run_as_nobody(example: &str) -> Option<Ended> {
    // A place that nobody can read: the build's own folder may be root's alone.
    let dir = tempfile::tempdir().expect("a directory");
    let program = dir.path().join("faultline");
    std::fs::copy(faultline(), &program).expect("copied");
    let file = dir.path().join(example);
    std::fs::copy(project_file("examples").join(example), &file).expect("copied");
    let runtime = dir.path().join("runtime");
    std::fs::create_dir(&runtime).expect("made");
    for path in [dir.path(), &runtime] {
        nix::unistd::chown(path, Some(NOBODY.into()), Some(NOBODY.into())).expect("given away");
    }
    let mut command = Command::new(&program);
    command.args(["run", "--sandbox"]).arg(&file);
    command.env("XDG_RUNTIME_DIR", &runtime).uid(NOBODY).gid(NOBODY);
    command.current_dir(dir.path());
    let ended = Running::start_command(&mut command).end(Duration::from_mins(1));
    let left: Vec<_> = std::fs::read_dir(&runtime).expect("still there").collect();
    assert!(left.is_empty(), "{left:?}");
    let forbidden = ended.code == Some(3) && ended.text.contains("user namespace");
    if forbidden && std::env::var_os("FAULTLINE_REQUIRE_ALL").is_none() {
        eprintln!("SKIPPED: this system forbids user namespaces");
        return None;
    }
    assert!(ended.text.contains("without root there are no control groups"), "{}", ended.text);
    Some(ended)
}

#[test]
fn the_quickstart_and_kill_run_without_root() {
    if !can_run("becoming somebody who is not root") {
        return;
    }
    for example in ["quickstart.yaml", "kill.yaml"] {
        let alone = alone();
        let Some(ended) = run_as_nobody(example) else { return };
        assert_eq!(ended.code, Some(0), "{}", ended.text);
        assert!(ended.text.contains("HELD"), "{}", ended.text);
        alone.check_clean();
    }
}

#[test]
fn memory_pressure_is_refused_without_root_and_it_is_said_why() {
    if !can_run("becoming somebody who is not root") {
        return;
    }
    let alone = alone();
    let Some(ended) = run_as_nobody("memory-pressure.yaml") else { return };
    assert_eq!(ended.code, Some(3), "{}", ended.text);
    assert!(ended.text.contains("REFUSED, nothing was changed"), "{}", ended.text);
    assert!(ended.text.contains("has no control group of its own"), "{}", ended.text);
    alone.check_clean();
}
