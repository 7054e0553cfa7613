//! A journal on a disk that takes nothing any more.

use std::{path::Path, thread};

use faultline_agent::{errors::chain, supervisor::PrepareError};
use faultline_proto::{fault::Fault, status::State};
use faultline_tests::process::one_at_a_time;
use nix::{
    mount::{MntFlags, MsFlags, mount, umount2},
    sched::{CloneFlags, unshare},
};

use super::{Node, Victim, cut, start};

/// Runs `test` on a thread with mounts of its own.
fn with_own_mounts(test: impl FnOnce() + Send) {
    thread::scope(|scope| {
        let thread = scope.spawn(|| {
            unshare(CloneFlags::CLONE_NEWNS).expect("root may");
            bind(None, "/".as_ref(), MsFlags::MS_PRIVATE | MsFlags::MS_REC);
            test();
        });
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    });
}

fn bind(source: Option<&Path>, target: &Path, flags: MsFlags) {
    mount(source, target, None::<&str>, flags, None::<&str>).expect("mounted");
}

#[test]
fn a_disk_that_became_read_only_takes_nothing_new_and_keeps_nothing_in_the_kernel() {
    let _one = one_at_a_time();
    if !faultline_tests::netns::can_test() {
        return;
    }
    with_own_mounts(|| {
        let Some(victim) = Victim::new() else { return };
        let node = Node::new();
        let id = node.inject(&victim.target, Fault::Partition(cut()));
        let state = node.dir.path().join("state");
        // Over itself: what the agent holds open may still be written to.
        bind(Some(&state), &state, MsFlags::MS_BIND);
        let read_only = |flags| bind(None, &state, MsFlags::MS_REMOUNT | MsFlags::MS_BIND | flags);
        read_only(MsFlags::MS_RDONLY);
        let refused =
            node.prepare(&victim.target, Fault::Partition(cut())).expect_err("no journal");
        assert!(matches!(refused, PrepareError::Journal(_)), "{refused:?}");
        let why = chain(&refused);
        assert!(why.contains("without it nothing is injected"), "{why}");
        assert!(why.contains("Read-only file system"), "{why}");
        assert_eq!(victim.tables(), [id.object_name()]);

        // Out of the kernel, but not out of the journal: that is not called reverted.
        let status = node.revert(id);
        assert!(victim.tables().is_empty());
        assert_eq!(status.state, State::Stuck, "{status:?}");
        assert!(status.residue.concat().contains("Read-only file system"), "{status:?}");
        let text = node.metrics();
        let errors =
            text.lines().find_map(|l| l.strip_prefix("faultline_agent_journal_errors_total "));
        assert!(errors.is_some_and(|n| n.parse::<u32>().is_ok_and(|n| n >= 2)), "{text}");
        assert!(text.contains("faultline_agent_stuck 1\n"), "{text}");
        assert!(text.contains("faultline_agent_journal_records 1\n"), "{text}");
        let error = start(&node.dir).expect_err("there is one").to_string();
        assert!(error.contains(&format!("pid {}", std::process::id())), "{error}");
        let node = node.restart();
        let found = node.status(id).expect("found in the journal");
        assert!(matches!(found.state, State::Reverting | State::Stuck), "{found:?}");
        let refused =
            node.prepare(&victim.target, Fault::Partition(cut())).expect_err("no journal");
        assert!(chain(&refused).contains("Read-only file system"), "{refused:?}");

        read_only(MsFlags::empty());
        assert_eq!(node.revert(id).state, State::Reverted);
        let id = node.inject(&victim.target, Fault::Partition(cut()));
        assert_eq!(node.revert(id).state, State::Reverted);
        umount2(&state, MntFlags::MNT_DETACH).expect("the directory can be removed");
    });
}
