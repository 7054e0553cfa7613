//! Named steps at which an agent, or a helper of it, can be made to die, for tests of what a death at
//! exactly that step leaves. Nothing where [`VARIABLE`] is not set in the environment, as on every
//! real node: a helper, whose environment is empty, is only then told of it.
//!
//! A step is armed by a file of its name in the directory [`DIRECTORY`] below the state directory. The
//! process that reaches the step removes the file and aborts: once, so that the next gets past it.

use std::{
    env,
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
    process,
    sync::OnceLock,
};

/// The environment variable that has to be set: for an agent to whatever value, for a helper to the
/// directory of armed steps.
pub const VARIABLE: &str = "FAULTLINE_FAILPOINTS";
/// The directory of armed steps, below the state directory.
pub const DIRECTORY: &str = "failpoints";

/// A step of what an agent or a helper does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Step {
    /// Its name.
    pub name: &'static str,
    /// Whether an agent passes it only while it starts.
    pub at_start: bool,
}

impl Step {
    /// Whether it is a helper that passes it, and not the agent.
    pub fn is_of_helper(self) -> bool {
        self.name.starts_with("helper.")
    }
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
    /// The holder of stopped processes is in its own control groups, and has armed nothing.
    STOPPER_ENTERED = "helper.stopper-entered", at_start: false;
    /// It has stopped processes, and not said so yet.
    STOPPER_STOPPED = "helper.stopper-stopped", at_start: false;
    /// It has heard of a renewal, and not moved its timer yet.
    STOPPER_RENEWING = "helper.stopper-renewing", at_start: false;
    /// It is about to continue what it holds.
    STOPPER_LETTING_GO = "helper.stopper-letting-go", at_start: false;
    /// It has continued all, and is still in its control groups.
    STOPPER_LET_GO = "helper.stopper-let-go", at_start: false;
    /// The helper of memory has armed its timer, and is where it was started.
    MEMORY_ARMED = "helper.memory-armed", at_start: false;
    /// It is in its control group, and has taken nothing.
    MEMORY_ENTERED = "helper.memory-entered", at_start: false;
    /// It has taken memory for the first time.
    MEMORY_TAKEN = "helper.memory-taken", at_start: false;
    /// It is about to leave its control group, with all it has taken.
    MEMORY_LEAVING = "helper.memory-leaving", at_start: false;
    /// Its control group is gone, what it has taken is not.
    MEMORY_LEFT = "helper.memory-left", at_start: false;
}

static ARMED: OnceLock<PathBuf> = OnceLock::new();

/// Lets steps be armed below this state directory, where the environment says so.
pub(crate) fn allow(state_dir: &Path) {
    if env::var_os(VARIABLE).is_some() {
        // A second agent in one process has the first one's; only tests have that.
        drop(ARMED.set(state_dir.join(DIRECTORY)));
    }
}

/// What a helper is to have in its environment, so that steps can be armed in it too; nothing where
/// none can be armed in this agent.
pub(crate) fn for_helper() -> Option<(&'static str, &'static OsStr)> {
    ARMED.get().map(|dir| (VARIABLE, dir.as_os_str()))
}

/// Lets steps be armed in this helper, where its agent says so.
pub(crate) fn allow_helper() {
    if let Some(dir) = env::var_os(VARIABLE) {
        drop(ARMED.set(dir.into()));
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
