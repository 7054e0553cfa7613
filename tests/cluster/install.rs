//! `install` and `uninstall`: what they put into a cluster, and that nothing of it stays.

use faultline_tests::{
    cluster::{install, kubectl},
    program::Running,
};

use super::{PATIENCE, installed};

/// Everything in the cluster that could be ours, by name.
fn objects() -> Vec<String> {
    let kinds = "namespaces,clusterroles,clusterrolebindings,roles,rolebindings,daemonsets,deployments,secrets,\
                 configmaps,serviceaccounts,priorityclasses,networkpolicies,leases,customresourcedefinitions,services";
    let said = kubectl(&["get", kinds, "-A", "-o", "name"]);
    let ours = said.out.lines().filter(|line| line.contains("faultline"));
    ours.map(str::to_owned).collect()
}

#[test]
fn installed_twice_is_installed_once_and_well() {
    let _turn = installed();
    let before = objects();
    assert!(!before.is_empty());
    let again = install();
    assert_eq!(again.code, Some(0), "{}", again.text);
    assert_eq!(objects(), before);
    // What an uninstall leaves that is broken off.
    let reason = "Faultline is being uninstalled";
    let halted = Running::start(&["halt", "--reason", reason]).end(PATIENCE);
    assert_eq!(halted.code, Some(0), "{}", halted.text);
    let again = install();
    assert!(again.text.contains("which an uninstall had halted"), "{}", again.text);
    Running::start(&["resume"]).end(PATIENCE);
    let doctor = Running::start(&["doctor"]).end(PATIENCE);
    assert_eq!(doctor.code, Some(0), "{}", doctor.text);
}

#[test]
fn nothing_stays_after_uninstall() {
    let _turn = installed();
    let ended = Running::start(&["uninstall"]).end(PATIENCE * 2);
    assert_eq!(ended.code, Some(0), "{}", ended.text);
    faultline_tests::cluster::until("nothing of ours is there", PATIENCE, || {
        objects().is_empty().then_some(())
    });
    let refused = Running::start(&["doctor"]).end(PATIENCE);
    assert_eq!(refused.code, Some(3), "{}", refused.text);
    assert!(refused.text.contains("`faultline install` installs it"), "{}", refused.text);
}
