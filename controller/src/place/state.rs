//! How pods are: what a place can tell of them beside their names and addresses.

use thiserror::Error;

use super::Pod;

/// A pod, and how it is now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodState {
    /// The pod. One that nobody has given a node yet has an empty one.
    pub pod: Pod,
    /// It is ready to work. In the sandbox: its main process runs, and of the workload `echo`, listens.
    pub ready: bool,
    /// How often its container was started again. A pod that takes the place of another begins at 0.
    pub restarts: u32,
}

/// Why nobody can say how pods are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error(
    "an inventory does not tell which of its pods are ready, nor how often they were restarted; \
     only the sandbox can do that"
)]
pub struct NotTold;
