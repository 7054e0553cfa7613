//! An agent without a file descriptor left: what it cannot look at is not called gone.

use std::{env, fs::File, path::Path, process::Command};

use faultline_agent::{helper, kernel::netns::NetNs};
use faultline_tests::netns::can_test;
use nix::sys::resource::{Resource, setrlimit};

/// Set for the process that has none: other tests of this one need theirs.
const CHILD: &str = "FAULTLINE_TEST_WITHOUT_DESCRIPTORS";
const LIMIT: u64 = 64;

#[test]
fn what_cannot_be_looked_at_is_not_called_gone() {
    if env::var_os(CHILD).is_some() {
        return look_without_descriptors();
    }
    if !can_test() {
        return;
    }
    let name = "descriptors::what_cannot_be_looked_at_is_not_called_gone";
    let program = env::current_exe().expect("this program");
    let output = Command::new(program).args(["--exact", name]).env(CHILD, "1").output();
    let output = output.expect("started");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
}

fn look_without_descriptors() {
    let own = i32::try_from(std::process::id()).expect("a pid");
    let own = NetNs::of_process(own).expect("open");
    let (id, path) = (own.id(), own.path().to_owned());
    drop(own);
    setrlimit(Resource::RLIMIT_NOFILE, LIMIT, LIMIT).expect("lowered");
    let mut held = Vec::new();
    while let Ok(file) = File::open("/dev/null") {
        held.push(file);
    }
    // Collected first: a panic wants descriptors, too.
    let fails = [
        NetNs::find(id, &path).is_err(),
        NetNs::find(id, Path::new("/nowhere")).is_err(),
        NetNs::all().is_err(),
        id.any_process(None).is_err(),
        helper::find().is_err(),
    ];
    drop(held);
    assert_eq!(fails, [true; 5]);
    assert!(NetNs::find(id, &path).expect("looked at").is_some(), "it was there all the time");
}
