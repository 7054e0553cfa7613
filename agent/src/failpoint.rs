//! Named steps at which an agent can be made to die, for tests of what a death at exactly that step
//! leaves. Nothing where [`VARIABLE`] is not set in the environment, as on every real node.
//!
//! A step is armed by a file of its name in the directory [`DIRECTORY`] below the state directory. The
//! agent that reaches the step removes the file and aborts: once, so that the next start gets past it.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process,
    sync::OnceLock,
};

/// The environment variable that has to be set, to whatever value.
pub const VARIABLE: &str = "FAULTLINE_FAILPOINTS";
/// The directory of armed steps, below the state directory.
pub const DIRECTORY: &str = "failpoints";

/// A step of what an agent does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Step {
    /// Its name.
    pub name: &'static str,
    /// Whether an agent passes it only while it starts.
    pub at_start: bool,
}

macro_rules! steps {
    ($($(#[$doc:meta])* $constant:ident = $name:literal, at_start: $at_start:literal;)+) => {
        $($(#[$doc])* pub const $constant: Step = Step { name: $name, at_start: $at_start };)+

        /// All of them.
        pub const STEPS: &[Step] = &[$($constant),+];
    };
}

steps! {
    /// Planned, nothing on disk yet.
    BEFORE_APPEND = "prepare.before-append", at_start: false;
    /// A record is written and not renamed yet.
    RECORD_WRITTEN = "prepare.record-written", at_start: false;
    /// All records are in place, their directory is not synced yet.
    BEFORE_SYNC = "prepare.before-sync", at_start: false;
    /// Journalled, not answered.
    APPENDED = "prepare.appended", at_start: false;
    /// The lease has been chosen, the kernel is untouched.
    BEFORE_INJECT = "commit.before-inject", at_start: false;
    /// A helper's process is there and has been told nothing.
    HELPER_SPAWNED = "commit.helper-spawned", at_start: false;
    /// A helper holds its timer, the effect has not begun.
    HELPER_READY = "commit.helper-ready", at_start: false;
    /// In the kernel, not answered.
    INJECTED = "commit.injected", at_start: false;
    /// The effect has been looked for once.
    LOOKED = "prove.looked", at_start: false;
    /// Before a lease is extended in the kernel.
    BEFORE_RENEW = "renew.before", at_start: false;
    /// Extended in the kernel, not noted.
    RENEWED = "renew.after", at_start: false;
    /// A change is planned and not on disk yet.
    BEFORE_AMEND = "amend.before", at_start: false;
    /// What takes back old and new is on disk, the old is in the kernel.
    AMEND_JOURNALLED = "amend.journalled", at_start: false;
    /// What the new takes is in the kernel, and the old in effect.
    AMEND_READY = "amend.ready", at_start: false;
    /// The new is in the kernel, not noted and not proven.
    AMENDED = "amend.after", at_start: false;
    /// Before the kernel is changed back.
    BEFORE_REVERT = "revert.before", at_start: false;
    /// The kernel is changed back, not read yet.
    REVERTED = "revert.after", at_start: false;
    /// Nothing is left, the record is still there.
    BEFORE_REMOVE = "revert.before-remove", at_start: false;
    /// The record is removed, its directory not synced yet.
    REMOVED = "revert.removed", at_start: false;
    /// The journal has been read, nothing reverted.
    JOURNAL_READ = "sweep.journal-read", at_start: true;
    /// What the journal held is reverted, the sweep has not begun.
    BEFORE_SWEEP = "sweep.before", at_start: true;
    /// Swept, not serving yet.
    SWEPT = "sweep.after", at_start: true;
}

static ARMED: OnceLock<PathBuf> = OnceLock::new();

/// Lets steps be armed below this state directory, where the environment says so.
pub(crate) fn allow(state_dir: &Path) {
    if env::var_os(VARIABLE).is_some() {
        // A second agent in one process has the first one's; only tests have that.
        drop(ARMED.set(state_dir.join(DIRECTORY)));
    }
}

/// Dies here, if this step is armed.
pub(crate) fn reach(step: Step) {
    if let Some(dir) = ARMED.get()
        && fs::remove_file(dir.join(step.name)).is_ok()
    {
        tracing::error!(step = step.name, "aborted by a failpoint");
        process::abort();
    }
}
