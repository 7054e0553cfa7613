//! Inventory files: agents, pods and credentials, written by a person or by a running sandbox.
//!
//! YAML, of which JSON is a part. What a sandbox writes has two fields more, with which another
//! process finds the way into its network and its pods.
//!
//! ```yaml
//! agents: [{ node: node1, address: "10.0.0.1:7700" }]
//! pods:
//!   - { name: api-1, namespace: shop, uid: 0b6…, node: node1, addresses: [10.1.0.7],
//!       labels: { app: api }, containers: [{ name: main, id: 5f0… }] }
//! tls: { ca: ca.pem, cert: controller.pem, key: controller-key.pem }
//! ```

mod decode;

use std::{
    collections::BTreeMap,
    fs, io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use faultline_proto::yaml::{Problem, Source, Span};
use serde::Serialize;
use thiserror::Error;

use super::{AgentEndpoint, Credentials, ExecError, ExecOutcome, Pod, Process};
use crate::sandbox::{self, SandboxError, StepError};

/// What there is.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Inventory {
    /// Where it was read from.
    #[serde(skip)]
    pub file: PathBuf,
    /// How the agents are reached, one of each node.
    pub agents: Vec<AgentEndpoint>,
    /// The pods, as they were when it was read.
    pub pods: Vec<Pod>,
    /// What the controller proves itself with.
    pub tls: Tls,
    /// A sandbox's own process: the network that all of this is in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub network: Option<Process>,
    /// The processes that hold the namespaces of a sandbox's pods, by the pods' uids.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub holders: BTreeMap<String, Process>,
}

/// Paths of PEM files; relative ones are relative to the inventory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Tls {
    /// The certificate authority of the installation.
    pub ca: PathBuf,
    /// The controller's certificate.
    pub cert: PathBuf,
    /// The controller's private key.
    pub key: PathBuf,
}

/// A version of an inventory's file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Version {
    inode: u64,
    bytes: u64,
    changed: SystemTime,
}

/// Why an inventory cannot be used.
#[derive(Debug, Error)]
pub enum InventoryError {
    /// It cannot be read.
    #[error("failed to read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// It is not a valid inventory. Show each problem with the source, where there is room.
    #[error("{}", summary(.origin, .problems))]
    Invalid {
        /// What was read.
        origin: Source,
        /// All mistakes, in the order they stand. Not empty.
        problems: Vec<Problem>,
    },
}

fn summary(origin: &Source, problems: &[Problem]) -> String {
    let line = |problem: &Problem| {
        let Span { line, column, .. } = problem.span;
        let expected = problem.expected.as_ref().map_or(String::new(), |text| format!("; {text}"));
        let help = problem.help.as_ref().map_or(String::new(), |text| format!("; {text}"));
        format!("{}:{line}:{column}: {}{expected}{help}", origin.name, problem.message)
    };
    problems.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// Reads an inventory.
///
/// # Errors
/// When it cannot be read, or every mistake that is in it.
pub fn load(path: &Path) -> Result<Inventory, InventoryError> {
    let text = fs::read_to_string(path)
        .map_err(|source| InventoryError::Read { path: path.to_owned(), source })?;
    decode::inventory(path, &text).map_err(|problems| InventoryError::Invalid {
        origin: Source { name: path.display().to_string(), text },
        problems: problems.into_sorted(),
    })
}

impl Inventory {
    /// Moves this process into the sandbox's network, where the inventory is a sandbox's. To be
    /// called on the main thread, before any other exists. Does nothing for a written inventory.
    ///
    /// # Errors
    /// When there are threads already, the sandbox has ended, or it is not this user's.
    pub fn enter(&self) -> Result<(), SandboxError> {
        self.network.map_or(Ok(()), sandbox::join)
    }

    /// The pods as they are now: the file is read again. If that fails, as they were at first.
    pub fn pods(&self) -> Vec<Pod> {
        load(&self.file).map_or_else(|_| self.pods.clone(), |now| now.pods)
    }

    /// Which version of the file there is now; `None` if there is none.
    pub(super) fn version(&self) -> Option<Version> {
        let meta = fs::metadata(&self.file).ok()?;
        Some(Version { inode: meta.ino(), bytes: meta.len(), changed: meta.modified().ok()? })
    }

    /// Reads the credentials.
    ///
    /// # Errors
    /// When one of the files cannot be read.
    pub fn credentials(&self) -> Result<Credentials, StepError> {
        let directory = self.file.parent().unwrap_or(Path::new(""));
        let read = |file: &Path| {
            let path = directory.join(file);
            fs::read_to_string(&path)
                .map_err(|source| StepError { step: format!("read {}", path.display()), source })
        };
        Ok(Credentials {
            ca_pem: read(&self.tls.ca)?,
            cert_pem: read(&self.tls.cert)?,
            key_pem: read(&self.tls.key)?,
        })
    }

    /// Runs a command in a pod of a sandbox that another process holds.
    ///
    /// # Errors
    /// When there is no way into the pod, or the outcome is not known.
    pub async fn exec(
        &self,
        pod: &Pod,
        command: &[String],
        within: Duration,
    ) -> Result<ExecOutcome, ExecError> {
        if self.network.is_none() {
            return Err(ExecError::NoWayIn { pod: pod.name.clone() });
        }
        let known = |holders: &BTreeMap<String, Process>| {
            holders.get(&pod.uid).copied().filter(|holder| holder.is_alive())
        };
        // One that came later stands in the file only.
        let holder = known(&self.holders).or_else(|| known(&load(&self.file).ok()?.holders));
        let holder = holder.ok_or_else(|| ExecError::NoSuchPod { pod: pod.name.clone() })?;
        sandbox::exec_in(holder, command, within).await
    }
}
