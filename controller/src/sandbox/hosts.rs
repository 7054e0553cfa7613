//! Names: one file with all pods, mounted over `/etc/hosts` for the hub, the nodes and the pods, so
//! that every program's ordinary name resolution finds them, and does not look further.
//!
//! A name stands for the IPv4 address only: a program that tries just the first address it gets
//! would otherwise fail against a server that listens on one family.

use std::{fmt::Write as _, fs::OpenOptions, io::Write as _, path::Path};

use nix::mount::{MntFlags, MsFlags, mount, umount2};

use super::{
    address,
    error::{Step as _, StepError},
    identity::write_public,
    layout::NodePlan,
};

const HOSTS: &str = "/etc/hosts";
const RESOLVER: &str = "/etc/resolv.conf";
/// Without a `nameserver` line resolvers ask this machine, where nobody listens: an unknown name, or
/// a name's IPv6 address, is refused at once (resolv.conf(5)). The machine's own name servers are
/// not reachable from the hub, and would be waited for.
const RESOLVER_TEXT: &str = "# The sandbox has no name server: all names are in /etc/hosts.\n";

/// The text of the file. A pod's short name belongs to the first pod that has it.
pub(super) fn text(nodes: &[NodePlan]) -> String {
    let mut text = String::from("127.0.0.1 localhost\n::1 localhost\n");
    let mut short = std::collections::HashSet::new();
    for node in nodes {
        line(
            &mut text,
            &address::node(node.index).v4.to_string(),
            std::slice::from_ref(&node.name),
        );
        for pod in &node.pods {
            let mut names = vec![format!("{}.{}", pod.name, pod.namespace)];
            if short.insert(&pod.name) {
                names.insert(0, pod.name.clone());
            }
            line(&mut text, &address::pod(node.index, pod.host).v4.to_string(), &names);
        }
    }
    text
}

fn line(text: &mut String, address: &str, names: &[String]) {
    writeln!(text, "{address} {}", names.join(" ")).expect("a String takes any text");
}

/// Writes the files and mounts them in this process's mount namespace, which is not the machine's.
pub(super) fn mount_over(directory: &Path, nodes: &[NodePlan]) -> Result<(), StepError> {
    for (target, text) in [(HOSTS, text(nodes).as_str()), (RESOLVER, RESOLVER_TEXT)] {
        // A system without one reads none, and there is nothing to mount over.
        let Some(name) = Path::new(target).file_name().filter(|_| Path::new(target).exists())
        else {
            continue;
        };
        let file = directory.join(name);
        // Also for a workload that gives up its rights.
        write_public(&file, text)?;
        mount(Some(&file), target, None::<&str>, MsFlags::MS_BIND, None::<&str>)
            .step(|| format!("mount {} over {target}", file.display()))?;
    }
    Ok(())
}

/// Writes the names anew after addresses have changed: into the file itself, as it is mounted.
pub(super) fn update(directory: &Path, nodes: &[NodePlan]) -> Result<(), StepError> {
    let file = directory.join("hosts");
    let write = || {
        let text = text(nodes);
        let mut hosts = OpenOptions::new().write(true).open(&file)?;
        // In one piece and before it is shortened: whoever reads meanwhile finds every name.
        hosts.write_all(text.as_bytes())?;
        hosts.set_len(text.len().try_into().unwrap_or(u64::MAX))
    };
    // Where the machine has no such file, nothing was mounted.
    if file.exists() { write().step(|| format!("write {}", file.display())) } else { Ok(()) }
}

/// Takes the mounts away again, as far as they are there.
pub(super) fn unmount(directory: &Path) -> Result<(), StepError> {
    for target in [HOSTS, RESOLVER] {
        let name = Path::new(target).file_name().unwrap_or_default();
        if directory.join(name).exists() {
            umount2(target, MntFlags::MNT_DETACH)
                .step(|| format!("unmount {target}"))
                .or_else(not_mounted)?;
        }
    }
    Ok(())
}

/// The file was written, and then the mount failed.
fn not_mounted(error: StepError) -> Result<(), StepError> {
    let code = error.source.raw_os_error();
    if code == Some(nix::libc::EINVAL) { Ok(()) } else { Err(error) }
}
