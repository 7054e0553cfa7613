//! Network namespaces: their identity, and doing something inside one.
//!
//! A namespace is identified by the device and inode of its nsfs file (`namespaces(7)`); a path or a
//! pid may come to mean another one. Sockets opened inside stay there and are used from anywhere.

use std::{
    fs::File,
    os::{fd::AsFd, unix::fs::MetadataExt},
    path::{Path, PathBuf},
    thread,
};

use nix::sched::{CloneFlags, setns};
use serde::{Deserialize, Serialize};

use super::KernelError;

/// Which network namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct NetNsId {
    /// The device of nsfs.
    pub dev: u64,
    /// The namespace's inode on it.
    pub ino: u64,
}

/// An open network namespace: it exists at least as long as this does.
#[derive(Debug)]
pub struct NetNs {
    id: NetNsId,
    file: File,
}

impl NetNs {
    /// Opens the namespace of a process.
    ///
    /// # Errors
    /// When the process has gone, is a zombie, or is not ours to look at.
    pub fn of_process(pid: i32) -> Result<Self, KernelError> {
        Self::open(&PathBuf::from(format!("/proc/{pid}/ns/net")))
    }

    /// Opens the namespace that an nsfs file stands for.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub fn open(path: &Path) -> Result<Self, KernelError> {
        let object = path.display();
        let file = File::open(path).map_err(|e| KernelError::io("open", &object, e))?;
        let meta = file.metadata().map_err(|e| KernelError::io("stat", &object, e))?;
        Ok(Self { id: NetNsId { dev: meta.dev(), ino: meta.ino() }, file })
    }

    /// Which one it is.
    pub fn id(&self) -> NetNsId {
        self.id
    }

    /// Runs `work` inside the namespace, on a thread that ends afterwards, and waits for it.
    ///
    /// # Errors
    /// When the thread cannot be made, the namespace cannot be entered, or `work` fails.
    pub fn enter<T: Send>(
        &self,
        work: impl FnOnce() -> Result<T, KernelError> + Send,
    ) -> Result<T, KernelError> {
        thread::scope(|scope| {
            let builder = thread::Builder::new().name("netns".into()).stack_size(256 << 10);
            let handle = builder
                .spawn_scoped(scope, || {
                    setns(self.file.as_fd(), CloneFlags::CLONE_NEWNET)
                        .map_err(|e| KernelError::io("enter", "the network namespace", e))?;
                    work()
                })
                .map_err(|e| KernelError::io("start", "a thread for the network namespace", e))?;
            handle.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }
}
