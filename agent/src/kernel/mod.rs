//! The only code that touches Linux: small, synchronous pieces, one file per kernel concept.
//!
//! No piece knows what a fault is. Nothing here is done on an async runtime's thread that must not be
//! done there: a change of namespace happens on a thread of its own that ends right after.

pub mod capabilities;
pub mod cgroup;
pub mod cgroup_dir;
pub mod cgroup_ns;
pub mod clock;
pub mod container;
pub mod descriptors;
pub mod link;
pub mod memory;
pub mod memory_cgroup;
pub mod netns;
pub mod nft;
pub mod packet;
pub mod pidfd;
pub mod process;
pub mod rcu;
pub mod sockets;
pub mod timer;

use std::io;

use thiserror::Error;

/// A kernel operation that failed.
#[derive(Debug, Error)]
pub enum KernelError {
    /// A system call or a file operation failed.
    #[error("failed to {verb} {object}")]
    Io {
        /// What was tried: `open`, `write 1000 to`.
        verb: &'static str,
        /// On what: a path, a process, an interface.
        object: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The kernel refused a netlink request.
    #[error("the kernel refused to {verb} {object}{}", extended(.message))]
    Netlink {
        /// What was tried: `create`.
        verb: &'static str,
        /// On what: `table inet faultline_…`.
        object: String,
        /// The extended acknowledgement's text; empty where there was none.
        message: String,
        /// The error number.
        #[source]
        source: io::Error,
    },
    /// What was to be worked on is no longer there.
    #[error("{what} has gone")]
    Gone {
        /// What is missing.
        what: String,
    },
    /// The kernel answered something that cannot be understood.
    #[error("unexpected answer to {verb} {object}: {problem}")]
    Unexpected {
        /// What was tried.
        verb: &'static str,
        /// On what.
        object: String,
        /// What is wrong with the answer.
        problem: String,
    },
}

impl KernelError {
    /// A failed system call or file operation.
    pub fn io(
        verb: &'static str,
        object: &(impl ToString + ?Sized),
        source: impl Into<io::Error>,
    ) -> Self {
        Self::Io { verb, object: object.to_string(), source: source.into() }
    }

    /// Whether it says that the thing is not there (any more).
    pub fn is_gone(&self) -> bool {
        match self {
            Self::Gone { .. } => true,
            Self::Io { source, .. } | Self::Netlink { source, .. } => {
                matches!(source.raw_os_error(), Some(libc::ENOENT | libc::ESRCH | libc::ENODEV))
            }
            Self::Unexpected { .. } => false,
        }
    }
}

fn extended(message: &str) -> String {
    if message.is_empty() { String::new() } else { format!(" ({message})") }
}
