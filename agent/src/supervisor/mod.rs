//! The one owner of every injection on the node.
//!
//! A thread of its own with one queue: it alone calls fault kinds, writes the journal and decides. So
//! all state changes of a node happen one after the other, and reasoning about them is reasoning
//! about one loop. Below it everything is synchronous; kernel calls take microseconds. It wakes for
//! the next request or the next timer (lease, deadline, proof, retry), whichever is first.

mod amend;
mod clean;
mod handle;
mod held;
mod meter;
mod node;
mod prepare;
mod run;
mod start;
mod stuck;

pub use amend::{AmendAnswer, AmendError, AmendItem};
pub use handle::{
    CommitAnswer, Handle, NotAllowedFault, PrepareItem, QueueError, RevertScope, Reverted,
    Unrecorded, When,
};
pub use held::Status;
pub use node::{Condition, HaltState};
pub use prepare::{PrepareError, PreparedItem};
pub use start::{Config, StartError, Supervisor};
pub use stuck::{ResumeError, Stuck};
