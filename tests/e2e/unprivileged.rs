//! Without root: the same quickstart in a user namespace, and a clear word about what is missing.

use std::{os::unix::process::CommandExt, process::Command, time::Duration};

use faultline_tests::{
    observer::is_root,
    program::{Running, faultline, project_file},
};

use super::alone;

/// The user that Debian and others call `nobody`.
const NOBODY: u32 = 65_534;

#[test]
fn the_quickstart_runs_without_root() {
    if !is_root("becoming somebody who is not root") {
        return;
    }
    let alone = alone();
    // A place that nobody can read: the build's own folder may be root's alone.
    let dir = tempfile::tempdir().expect("a directory");
    let program = dir.path().join("faultline");
    std::fs::copy(faultline(), &program).expect("copied");
    let example = dir.path().join("quickstart.yaml");
    std::fs::copy(project_file("examples/quickstart.yaml"), &example).expect("copied");
    let runtime = dir.path().join("runtime");
    std::fs::create_dir(&runtime).expect("made");
    for path in [dir.path(), &runtime] {
        nix::unistd::chown(path, Some(NOBODY.into()), Some(NOBODY.into())).expect("given away");
    }
    let mut command = Command::new(&program);
    command.args(["run", "--sandbox"]).arg(&example);
    command.env("XDG_RUNTIME_DIR", &runtime).uid(NOBODY).gid(NOBODY);
    command.current_dir(dir.path());
    let ended = Running::start_command(&mut command).end(Duration::from_mins(1));
    let forbidden = ended.code == Some(3) && ended.text.contains("user namespace");
    if forbidden && std::env::var_os("FAULTLINE_REQUIRE_ALL").is_none() {
        eprintln!("SKIPPED: this system forbids user namespaces");
        return;
    }
    assert_eq!(ended.code, Some(0), "{}", ended.text);
    assert!(ended.text.contains("HELD"), "{}", ended.text);
    assert!(ended.text.contains("memoryPressure"), "it says what is missing: {}", ended.text);
    alone.check_clean();
}
