//! An agent that is removed from its node for good leaves nothing of itself there, unless somebody still needs it.

use std::{fs, path::Path, sync::Arc};

use faultline_agent::{
    kernel::{cgroup::CgroupFs, container::Containers, netns::NetNs},
    resolve::Resolver,
    supervisor::{Config, Supervisor},
};

/// Starts an agent's supervisor on a directory, does something with it, and ends it.
async fn in_between(state_dir: &Path, halts: &[bool], resume: bool) {
    let resolver = Resolver {
        cgroups: CgroupFs { hierarchies: Vec::new() },
        pods_dir: None,
        containers: Containers::PidFiles(state_dir.join("pods")),
        protected_namespaces: Vec::new(),
        node_net_ns: NetNs::open("/proc/self/ns/net".as_ref()).expect("a namespace").id(),
    };
    let config = Config { state_dir: state_dir.to_owned(), resolver: Arc::new(resolver) };
    let supervisor = Supervisor::start(config).expect("a supervisor");
    for for_good in halts {
        let halted = supervisor.handle.halt("a test".into(), *for_good).await;
        halted.expect("it listens").expect("halted");
    }
    if resume {
        supervisor.handle.resume(Vec::new(), None).await.expect("it listens").expect("resumed");
    }
    supervisor.handle.shut_down().await.expect("it listens");
}

fn kept(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let mut names: Vec<String> =
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

#[tokio::test]
async fn only_who_is_halted_for_good_takes_everything_away() {
    for (halts, resume, left) in [
        (&[true][..], false, &[][..]),
        (&[false, true][..], false, &[][..]),
        (&[false][..], false, &["halted", "journal", "lock"][..]),
        (&[true, false][..], false, &["halted", "journal", "lock"][..]),
        (&[true][..], true, &["journal", "lock"][..]),
        (&[][..], false, &["journal", "lock"][..]),
    ] {
        let dir = tempfile::tempdir().expect("a directory");
        let state_dir = dir.path().join("state");
        in_between(&state_dir, halts, resume).await;
        assert_eq!(kept(&state_dir), left, "{halts:?}, resumed: {resume}");
    }
}

#[tokio::test]
async fn a_record_that_is_not_understood_stays() {
    let dir = tempfile::tempdir().expect("a directory");
    let state_dir = dir.path().join("state");
    fs::create_dir_all(state_dir.join("journal")).expect("made");
    let record = state_dir.join("journal/00000000000000b2.json");
    fs::write(&record, "{").expect("written");
    in_between(&state_dir, &[true], false).await;
    assert!(record.exists() && state_dir.join("halted").exists());
}
