//! Into the hub: this process's own network and mount namespace, with or without root.
//!
//! The machine's network is never touched: bridges and interfaces are made in here, and are gone
//! when the last process in here is.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

use nix::{
    errno::Errno,
    mount::{MsFlags, mount},
    sched::{CloneFlags, setns, unshare},
    unistd::{getegid, geteuid},
};

use super::{
    cgroups,
    error::{SandboxError, Step as _, StepError},
    network, runtime_dir,
};
use crate::place::Process;

/// Proof that this process is in a hub of its own, where sandboxes can be built.
#[derive(Debug)]
pub struct Entered {
    pub(super) base: PathBuf,
    rootless: bool,
}

impl Entered {
    /// What a sandbox lacks here, each as one sentence. Empty as root on an ordinary system.
    pub fn missing(&self) -> Vec<String> {
        let mut missing = Vec::new();
        let memory = cgroups::has_memory(&cgroups::usable("probe"));
        if self.rootless {
            missing.push(
                "without root there are no control groups: memoryPressure is refused, memory \
                 limits are not enforced, and targets are found by the sandbox's own pid files"
                    .into(),
            );
        } else if !memory {
            missing.push(
                "there is no memory controller that can be written to: memoryPressure is refused \
                 and memory limits are not enforced"
                    .into(),
            );
        }
        if !network::has_ipv6() {
            missing.push("this kernel has no IPv6: pods have IPv4 addresses only".into());
        }
        missing
    }

    /// Whether this is done in a user namespace, without root's rights on the machine.
    pub fn is_rootless(&self) -> bool {
        self.rootless
    }
}

/// Moves this process into a hub of its own. On the main thread, before any other exists and before
/// any asynchronous runtime.
///
/// # Errors
/// When there are threads already, or the system does not allow it.
pub fn enter() -> Result<Entered, SandboxError> {
    single_threaded()?;
    let base = runtime_dir::base();
    let namespaces = CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS;
    let direct = if geteuid().is_root() { unshare(namespaces) } else { Err(Errno::EPERM) };
    let rootless = match direct {
        Ok(()) => false,
        Err(Errno::EPERM) => {
            enter_user_namespace()?;
            unshare(namespaces).map_err(not_allowed)?;
            true
        }
        Err(error) => return Err(not_allowed(error)),
    };
    // Mounts made here must not show on the machine, and its own must not come and go here.
    let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    mount(None::<&str>, "/", None::<&str>, private, None::<&str>).map_err(|error| match error {
        Errno::EACCES | Errno::EPERM => not_allowed(error),
        error => StepError { step: "make the mounts private".into(), source: error.into() }.into(),
    })?;
    Ok(Entered { base, rootless })
}

/// Moves this process into the network namespace of another, and before that into its user
/// namespace if that is another one. On the main thread, before any other exists.
///
/// # Errors
/// When there are threads already, the process has gone, or it is not this user's.
pub(crate) fn join(process: Process) -> Result<(), SandboxError> {
    single_threaded()?;
    let open = |kind: &str| {
        let path = format!("/proc/{}/ns/{kind}", process.pid);
        File::open(&path).step(|| format!("open {path}"))
    };
    let user = open("user")?;
    let own = fs::read_link("/proc/self/ns/user").step(|| "look at /proc/self/ns/user".into())?;
    let theirs = fs::read_link(format!("/proc/{}/ns/user", process.pid));
    let net = open("net")?;
    if !process.is_alive() {
        let source = io::Error::from(io::ErrorKind::NotFound);
        return Err(StepError { step: "find the sandbox's process".into(), source }.into());
    }
    if theirs.is_ok_and(|theirs| theirs != own) {
        setns(user, CloneFlags::CLONE_NEWUSER).step(|| "enter its user namespace".into())?;
    }
    setns(net, CloneFlags::CLONE_NEWNET).step(|| "enter its network namespace".into())?;
    Ok(())
}

fn single_threaded() -> Result<(), SandboxError> {
    let path = Path::new("/proc/self/task");
    let threads = fs::read_dir(path).step(|| format!("list {}", path.display()))?.count();
    if threads == 1 { Ok(()) } else { Err(SandboxError::Threads { threads }) }
}

/// Becomes root of a user namespace in which only this user exists: `user_namespaces(7)`.
fn enter_user_namespace() -> Result<(), SandboxError> {
    let (uid, gid) = (geteuid(), getegid());
    unshare(CloneFlags::CLONE_NEWUSER).map_err(not_allowed)?;
    let write = |name: &str, text: String| {
        let path = format!("/proc/self/{name}");
        fs::write(&path, text).map_err(|error| match Errno::try_from(error) {
            Ok(error) => not_allowed(error),
            Err(source) => StepError { step: format!("write {path}"), source }.into(),
        })
    };
    // A group may be mapped only by who has given up changing its groups.
    write("setgroups", "deny".into())?;
    write("uid_map", format!("0 {uid} 1"))?;
    write("gid_map", format!("0 {gid} 1"))
}

/// Finds out what forbids namespaces here, and what helps.
fn not_allowed(error: Errno) -> SandboxError {
    let sysctl = |name: &str| fs::read_to_string(format!("/proc/sys/{name}")).unwrap_or_default();
    let (why, advice) = if sysctl("user/max_user_namespaces").trim() == "0" {
        ("user namespaces are switched off", "run as root, or set user.max_user_namespaces")
    } else if sysctl("kernel/unprivileged_userns_clone").trim() == "0" {
        (
            "user namespaces are for root only",
            "run as root, or set kernel.unprivileged_userns_clone=1",
        )
    } else if sysctl("kernel/apparmor_restrict_unprivileged_userns").trim() == "1" {
        (
            "AppArmor gives no rights in user namespaces",
            "run as root, or set kernel.apparmor_restrict_unprivileged_userns=0",
        )
    } else if geteuid().is_root() {
        ("this root may not make namespaces, as in a container", "give the container --privileged")
    } else {
        ("something such as seccomp or SELinux forbids user namespaces", "run as root")
    };
    SandboxError::NotAllowed { why: why.into(), advice: advice.into(), source: error.into() }
}
