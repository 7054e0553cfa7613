//! Network namespaces: their identity, finding one again, and doing something inside one.
//!
//! A namespace is identified by the device and inode of its nsfs file (`namespaces(7)`); a path or a
//! pid may come to mean another one. Sockets opened inside stay there and are used from anywhere.
//! Threads that left their process's namespace are not looked at.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    os::{fd::AsFd, unix::fs::MetadataExt},
    path::{Path, PathBuf},
    thread,
};

use nix::sched::{CloneFlags, setns, unshare};
use serde::{Deserialize, Serialize};

use super::{KernelError, process::all_pids};

/// Where `ip-netns(8)` and CNI plugins mount namespaces by name: as this process sees it, and as the
/// node's first process does.
const NAMED: [&str; 2] = ["/run/netns", concat!("/proc/1/root", "/run/netns")];

/// Which network namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct NetNsId {
    /// The device of nsfs.
    pub dev: u64,
    /// The namespace's inode on it. The kernel may give it to another one after this one's end.
    pub ino: u64,
}

impl NetNsId {
    /// The one that an nsfs file stands for now; `None` if there is no such file.
    pub fn of_path(path: &Path) -> Option<Self> {
        let meta = fs::metadata(path).ok()?;
        Some(Self { dev: meta.dev(), ino: meta.ino() })
    }

    /// The one a process is in now; `None` if it has gone, or is a zombie.
    pub fn of_process(pid: i32) -> Option<Self> {
        Self::of_path(&of_process(pid))
    }

    /// A process in this namespace, `first` if it is one; `None` if there is none.
    ///
    /// # Errors
    /// When the processes cannot be looked at.
    pub fn any_process(self, first: Option<i32>) -> Result<Option<i32>, KernelError> {
        let inside = |pid: &i32| Self::of_process(*pid) == Some(self);
        match first.filter(inside) {
            Some(first) => Ok(Some(first)),
            None => Ok(all_pids()?.into_iter().find(inside)),
        }
    }
}

/// An open network namespace: it exists at least as long as this does.
#[derive(Debug)]
pub struct NetNs {
    id: NetNsId,
    path: PathBuf,
    file: File,
}

impl NetNs {
    /// Opens the namespace of a process.
    ///
    /// # Errors
    /// When the process has gone, is a zombie, or is not ours to look at.
    pub fn of_process(pid: i32) -> Result<Self, KernelError> {
        Self::open(&of_process(pid))
    }

    /// Opens the namespace that an nsfs file stands for.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub fn open(path: &Path) -> Result<Self, KernelError> {
        let object = path.display();
        let file = File::open(path).map_err(|e| KernelError::io("open", &object, e))?;
        let meta = file.metadata().map_err(|e| KernelError::io("stat", &object, e))?;
        let id = NetNsId { dev: meta.dev(), ino: meta.ino() };
        Ok(Self { id, path: path.to_owned(), file })
    }

    /// Finds a namespace by its identity: at `hint`, in any process, or by name. `None`: it is
    /// nowhere, and so has ended or will with its last socket.
    ///
    /// # Errors
    /// When it is somewhere and cannot be opened, or it could not be looked everywhere: that something
    /// was not found then does not say that it is not there.
    pub fn find(id: NetNsId, hint: &Path) -> Result<Option<Self>, KernelError> {
        // Only a file that says so is opened: opening a plain file or a pipe may have effects.
        let open = |path: &Path| {
            if NetNsId::of_path(path) != Some(id) {
                return Ok(None);
            }
            Ok(Self::open_if_there(path)?.filter(|found| found.id == id))
        };
        if let Some(found) = open(hint)? {
            return Ok(Some(found));
        }
        let of_processes = all_pids()?.into_iter().map(of_process);
        for path in of_processes.chain(named()) {
            if let Some(found) = open(&path)? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    /// Opens what may have gone since it was looked at.
    fn open_if_there(path: &Path) -> Result<Option<Self>, KernelError> {
        match Self::open(path) {
            Ok(found) => Ok(Some(found)),
            Err(e) if e.is_gone() => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Every namespace that has a process this one can see, each once, in no order. One that has only
    /// a name is not among them: it may be another node's, where one machine is several.
    ///
    /// # Errors
    /// When one that is there cannot be opened: none is left out in silence.
    pub fn all() -> Result<Vec<Self>, KernelError> {
        let mut all = BTreeMap::new();
        for path in all_pids()?.into_iter().map(of_process) {
            let Some(id) = NetNsId::of_path(&path) else { continue };
            if all.contains_key(&id) {
                continue;
            }
            // What has gone since the look is as if it had not been seen.
            if let Some(found) = Self::open_if_there(&path)? {
                all.insert(found.id, found);
            }
        }
        Ok(all.into_values().collect())
    }

    /// The same namespace, held open once more.
    ///
    /// # Errors
    /// When this process has no file descriptor left.
    pub fn try_clone(&self) -> Result<Self, KernelError> {
        let file = self.file.try_clone();
        let file = file.map_err(|e| KernelError::io("hold", "the network namespace", e))?;
        Ok(Self { id: self.id, path: self.path.clone(), file })
    }

    /// Moves the calling thread, which must be one of its own, into the namespace.
    ///
    /// # Errors
    /// When it cannot be entered.
    pub(super) fn enter_for_good(&self) -> Result<(), KernelError> {
        setns(self.file.as_fd(), CloneFlags::CLONE_NEWNET)
            .map_err(|e| KernelError::io("enter", "the network namespace", e))
    }

    /// Which one it is.
    pub fn id(&self) -> NetNsId {
        self.id
    }

    /// Where it was opened: a hint for finding it again.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Runs `work` inside the namespace, on a thread that ends afterwards, and waits for it.
    ///
    /// # Errors
    /// When the thread cannot be made, the namespace cannot be entered, or `work` fails.
    pub fn enter<T: Send>(
        &self,
        work: impl FnOnce() -> Result<T, KernelError> + Send,
    ) -> Result<T, KernelError> {
        on_a_thread(|| {
            self.enter_for_good()?;
            work()
        })
    }
}

/// Runs `work` inside a new, empty namespace, which ends with the last socket opened in it.
///
/// # Errors
/// When the thread or the namespace cannot be made, or `work` fails.
pub fn in_scratch<T: Send>(
    work: impl FnOnce() -> Result<T, KernelError> + Send,
) -> Result<T, KernelError> {
    on_a_thread(|| {
        unshare(CloneFlags::CLONE_NEWNET)
            .map_err(|e| KernelError::io("make", "a network namespace", e))?;
        work()
    })
}

fn on_a_thread<T: Send>(
    work: impl FnOnce() -> Result<T, KernelError> + Send,
) -> Result<T, KernelError> {
    thread::scope(|scope| {
        let builder = thread::Builder::new().name("netns".into()).stack_size(256 << 10);
        let handle = builder
            .spawn_scoped(scope, work)
            .map_err(|e| KernelError::io("start", "a thread for the network namespace", e))?;
        handle.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

fn of_process(pid: i32) -> PathBuf {
    PathBuf::from(format!("/proc/{pid}/ns/net"))
}

fn named() -> Vec<PathBuf> {
    let folders = NAMED.iter().filter_map(|folder| fs::read_dir(folder).ok());
    folders.flatten().flatten().map(|entry| entry.path()).collect()
}
