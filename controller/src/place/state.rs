//! How pods are, and objects of a cluster: what a place can tell of them beside their names and addresses.

use std::collections::BTreeMap;

use thiserror::Error;

use super::Pod;

/// A pod, and how it is now.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PodState {
    /// The pod. One that nobody has given a node yet has an empty one.
    pub pod: Pod,
    /// It is ready to work. In the sandbox: its main process runs, and of the workload `echo`, listens.
    pub ready: bool,
    /// How often its container was started again. A pod that takes the place of another begins at 0.
    pub restarts: u32,
    /// It is being deleted, and ends when its containers have.
    pub terminating: bool,
    /// What Kubernetes says of it: the status of each of its conditions. The sandbox tells `Ready` alone.
    pub conditions: BTreeMap<String, String>,
}

/// Why nobody can say how pods are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error(
    "an inventory does not tell which of its pods are ready, nor how often they were restarted; \
     the sandbox and a cluster tell that"
)]
pub struct NotTold;
