//! Where an experiment runs: which pods there are, and how their agents are reached.
//!
//! A place is the sandbox or an inventory file. Whoever runs an experiment does not know which.

use std::{collections::BTreeMap, net::IpAddr};

use faultline_proto::target::{self, Target};
use serde::{Deserialize, Serialize};

/// A pod, as a place knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pod {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its uid.
    pub uid: String,
    /// The node it runs on.
    pub node: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
    /// Its containers, the first of which is meant where none is named.
    pub containers: Vec<target::Container>,
}

impl Pod {
    /// The pod as a whole, as a fault's target.
    pub fn target(&self) -> Target {
        Target {
            namespace: self.namespace.clone(),
            pod: self.name.clone(),
            uid: self.uid.clone(),
            container: None,
        }
    }

    /// Its first container as a fault's target; the pod where it has none.
    pub fn container_target(&self) -> Target {
        Target { container: self.containers.first().cloned(), ..self.target() }
    }
}

/// How the agent of a node is reached.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentEndpoint {
    /// The node.
    pub node: String,
    /// `host:port`, to be spoken to with mutual TLS. The agent's certificate is valid for
    /// [`agent_server_name`] of the node.
    pub address: String,
}

/// The name that the certificate of a node's agent is valid for.
pub fn agent_server_name(node: &str) -> String {
    format!("{node}.agent.faultline.internal")
}

/// The name that the controller's certificate is valid for.
pub const CONTROLLER_NAME: &str = "controller.faultline.internal";

/// What the controller proves itself with, and what it believes: three PEM texts.
#[derive(Clone, Serialize, Deserialize)]
pub struct Credentials {
    /// The certificate authority of the installation.
    pub ca_pem: String,
    /// The controller's certificate.
    pub cert_pem: String,
    /// The controller's private key.
    pub key_pem: String,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Credentials { .. }")
    }
}
