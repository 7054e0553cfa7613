//! File descriptors: how many this process may have.

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Lets this process have as many file descriptors as it may, `getrlimit(2)`: the usual limit of 1024 is
/// less than the sockets of a node's faults take, and without one the kernel cannot even be looked at.
pub fn raise_limit() {
    let raised = getrlimit(Resource::RLIMIT_NOFILE)
        .and_then(|(_, hard)| setrlimit(Resource::RLIMIT_NOFILE, hard, hard));
    if let Err(error) = raised {
        tracing::warn!(%error, "the limit of file descriptors stays as it is");
    }
}
