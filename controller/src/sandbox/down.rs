//! Taking a sandbox down, and the proof that nothing of it is left.

use std::{path::PathBuf, time::Duration};

use tokio::{
    io::AsyncWriteExt as _,
    task::spawn_blocking,
    time::{Instant, timeout, timeout_at},
};

use super::{
    cgroups,
    error::{SandboxError, StepError, chain},
    hosts,
    init::{DOWN, REVERT_TIMEOUT},
    network::Net,
    runtime_dir::Base,
    sweep,
    up::Sandbox,
};

/// How much longer than the agents' time the end of a node may take.
const END_TIMEOUT: Duration = Duration::from_secs(2);

/// How a sandbox ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Manner {
    /// The agents get the time to revert.
    InGoodOrder,
    /// Everything is killed.
    AtOnce,
}

impl Sandbox {
    /// Ends the sandbox: the agents get the time to revert what is injected, then everything is
    /// ended and removed. Returns what is left nevertheless, or could not be looked at, each as one
    /// sentence; empty: nothing.
    pub async fn down(mut self) -> Vec<String> {
        self.take_down(Manner::InGoodOrder).await
    }

    /// Goes through all of it, whatever fails on the way, and collects what did.
    pub(super) async fn take_down(&mut self, manner: Manner) -> Vec<String> {
        self.shared.set_up();
        let mut residue = self.end_nodes(manner).await;
        let groups = self.groups();
        let left = spawn_blocking(move || cgroups::clear(&groups)).await.unwrap_or_default();
        residue.extend(left.iter().map(|group| format!("control group {}", group.display())));
        sweep::take_back(&self.cgroups, &self.directory.path);
        if let Err(error) = hosts::unmount(&self.directory.path) {
            residue.push(chain(&error));
        }
        match self.clear_hub().await {
            Ok(links) => residue.extend(links.iter().map(|link| format!("interface {link}"))),
            Err(error) => residue.push(chain(&error)),
        }
        if let Err(error) = self.remove_directory() {
            residue.push(chain(&error));
        }
        residue.extend(self.look());
        self.is_down = true;
        residue
    }

    /// Ends the processes of the nodes. All nodes have the same time, from now.
    async fn end_nodes(&mut self, manner: Manner) -> Vec<String> {
        let mut residue = Vec::new();
        for node in &mut self.nodes {
            let Some(mut control) = node.control.take() else { continue };
            if manner == Manner::InGoodOrder && control.write_all(DOWN).await.is_ok() {
                // The pipe is the node's life: it stays open for as long as the agent may take.
                node.control = Some(control);
            }
        }
        let patience = Instant::now() + REVERT_TIMEOUT + END_TIMEOUT;
        for (index, node) in self.nodes.iter_mut().enumerate() {
            if timeout_at(patience, node.process.wait()).await.is_ok() {
                continue;
            }
            // Both of its own processes see that the pipe has gone, and either ends the node.
            node.control = None;
            if timeout(END_TIMEOUT, node.process.wait()).await.is_err() {
                residue.push(format!("the processes of node{}", index + 1));
            }
        }
        residue
    }

    async fn clear_hub(&self) -> Result<Vec<String>, StepError> {
        Net::open(self.ipv6)?.clear_hub().await
    }

    fn remove_directory(&self) -> Result<(), SandboxError> {
        Ok(Base::lock(&self.base)?.remove(&self.directory.path)?)
    }

    fn groups(&self) -> Vec<PathBuf> {
        self.cgroups.iter().map(|root| root.path.clone()).collect()
    }

    /// Reads back what there is of the sandbox now.
    fn look(&self) -> Vec<String> {
        let groups = self.groups().into_iter().filter(|group| group.exists());
        let mut found: Vec<String> =
            groups.map(|group| format!("control group {}", group.display())).collect();
        if self.directory.path.exists() {
            found.push(format!("directory {}", self.directory.path.display()));
        }
        found.extend(self.shared.still_running());
        found
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        if self.is_down {
            return;
        }
        tracing::error!(id = self.id(), "a sandbox was dropped without being taken down");
        for node in &mut self.nodes {
            node.control = None;
        }
        cgroups::clear(&self.groups());
        sweep::take_back(&self.cgroups, &self.directory.path);
        drop(hosts::unmount(&self.directory.path));
        drop(self.remove_directory());
    }
}
