//! What is injected, and on what: on a pod's node, or on an object through the API server. Pure.

use std::{fmt, time::Duration};

use faultline_proto::{
    fault::{Counted, Fault, Hold},
    target::Target,
};

use crate::cluster::fault::{Object, Spec};

/// What is injected.
#[derive(Debug, Clone, PartialEq)]
pub enum What {
    /// A fault for an agent.
    Node(Fault),
    /// A fault through the API server.
    Api(Spec),
}

/// What it is on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum On {
    /// A pod, or a container of one.
    Pod(Target),
    /// An object: a pod as such, what makes pods, or a node.
    Object(Object),
}

impl What {
    /// The kind's name.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Node(fault) => fault.kind(),
            Self::Api(spec) => spec.kind(),
        }
    }

    /// Whether it lasts.
    pub fn hold(&self) -> Hold {
        match self {
            Self::Node(fault) => fault.hold(),
            Self::Api(spec) => spec.hold(),
        }
    }

    /// How long after the commit the effect may take to be seen, before it counts as not there.
    pub fn proof_window(&self) -> Duration {
        match self {
            Self::Node(fault) => fault.proof_window(),
            Self::Api(spec) => spec.proof_window(),
        }
    }

    /// What it is counted as; `None` for what belongs to no family.
    pub fn counted(&self) -> Option<Counted> {
        match self {
            Self::Node(fault) => fault.counted(),
            Self::Api(spec) => spec.counted(),
        }
    }
}

impl On {
    /// What it is known by: a pod's uid, where it is one; empty otherwise.
    pub fn uid(&self) -> &str {
        match self {
            Self::Pod(target) => &target.uid,
            Self::Object(object) => object.uid.as_deref().unwrap_or_default(),
        }
    }

    /// The namespace that it is in; empty of a node.
    pub fn namespace(&self) -> &str {
        match self {
            Self::Pod(target) => &target.namespace,
            Self::Object(object) => object.namespace.as_deref().unwrap_or_default(),
        }
    }

    /// The pod's name; of what is no pod, empty.
    pub fn pod(&self) -> &str {
        match self {
            Self::Pod(target) => &target.pod,
            Self::Object(object) if object.uid.is_some() => &object.name,
            Self::Object(_) => "",
        }
    }

    /// The id of the container that it is on, if it is on one.
    pub fn container_id(&self) -> Option<&str> {
        match self {
            Self::Pod(target) => target.container.as_ref().map(|container| container.id.as_str()),
            Self::Object(_) => None,
        }
    }
}

impl fmt::Display for On {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pod(target) => target.fmt(f),
            Self::Object(object) => object.fmt(f),
        }
    }
}
