//! Names: one file with all pods, mounted over `/etc/hosts` for the hub, the nodes and the pods, so
//! that every program's ordinary name resolution finds them.
//!
//! A name stands for the IPv4 address only: a program that tries just the first address it gets
//! would otherwise fail against a server that listens on one family.

use std::{fmt::Write as _, path::Path};

use nix::mount::{MntFlags, MsFlags, mount, umount2};

use super::{
    address,
    error::{Step as _, StepError},
    identity::write_private,
    layout::NodePlan,
};

const HOSTS: &str = "/etc/hosts";

/// The text of the file. A pod's short name belongs to the first pod that has it.
pub(super) fn text(nodes: &[NodePlan]) -> String {
    let mut text = String::from("127.0.0.1 localhost\n::1 localhost\n");
    let mut short = std::collections::HashSet::new();
    for node in nodes {
        line(&mut text, &address::node(node.index).v4.to_string(), &[node.name.clone()]);
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

/// Writes the file and mounts it in this process's mount namespace, which is not the machine's.
pub(super) fn mount_over(file: &Path, nodes: &[NodePlan]) -> Result<(), StepError> {
    write_private(file, &text(nodes))?;
    mount(Some(file), HOSTS, None::<&str>, MsFlags::MS_BIND, None::<&str>)
        .step(|| format!("mount {} over {HOSTS}", file.display()))
}

/// Takes the mount away again.
pub(super) fn unmount() -> Result<(), StepError> {
    umount2(HOSTS, MntFlags::MNT_DETACH).step(|| format!("unmount {HOSTS}"))
}
