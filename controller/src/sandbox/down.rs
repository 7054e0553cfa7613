//! Taking a sandbox down, and the proof that nothing of it is left.

use std::{path::PathBuf, time::Duration};

use tokio::{io::AsyncWriteExt as _, task::spawn_blocking, time::timeout};

use super::{
    cgroups,
    error::{SandboxError, chain},
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
    /// ended and removed. Returns what is left nevertheless, each as one sentence; empty: nothing.
    ///
    /// # Errors
    /// When it could not be looked at what is left.
    pub async fn down(mut self) -> Result<Vec<String>, SandboxError> {
        self.take_down(Manner::InGoodOrder).await
    }

    /// Goes through all of it, whatever fails on the way, and collects what did.
    pub(super) async fn take_down(&mut self, manner: Manner) -> Result<Vec<String>, SandboxError> {
        self.is_down = true;
        self.shared.set_up();
        let mut residue = Vec::new();
        self.end_nodes(manner, &mut residue).await;
        let groups = self.groups();
        let left = spawn_blocking(move || cgroups::clear(&groups)).await.unwrap_or_default();
        residue.extend(left.iter().map(|group| format!("control group {}", group.display())));
        sweep::take_back(&self.cgroups, &self.directory.path);
        if let Err(error) = hosts::unmount(&self.directory.path) {
            residue.push(chain(&error));
        }
        match Net::open(self.ipv6)?.clear_hub().await {
            Ok(links) => residue.extend(links.iter().map(|link| format!("interface {link}"))),
            Err(error) => residue.push(chain(&error)),
        }
        if let Err(error) = Base::lock(&self.base)?.remove(&self.directory.path) {
            residue.push(chain(&error));
        }
        residue.extend(self.look());
        Ok(residue)
    }

    async fn end_nodes(&mut self, manner: Manner, residue: &mut Vec<String>) {
        for node in &mut self.nodes {
            let Some(mut control) = node.control.take() else { continue };
            if manner == Manner::InGoodOrder && control.write_all(DOWN).await.is_ok() {
                // The pipe is the node's life: it stays open for as long as the agent may take.
                node.control = Some(control);
            }
        }
        for (index, node) in self.nodes.iter_mut().enumerate() {
            let ended = timeout(REVERT_TIMEOUT + END_TIMEOUT, node.process.wait()).await;
            node.control = None;
            if ended.is_err() {
                residue.push(format!("node{} did not end", index + 1));
                // Its pid 1 sees that the pipe has gone; this is for the case that it does not.
                drop(node.process.start_kill());
            }
        }
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
        if let Ok(base) = Base::lock(&self.base) {
            drop(base.remove(&self.directory.path));
        }
    }
}
