//! A fault as an experiment has it, whoever injects it: an agent on its node, or the controller through the API
//! server of a cluster. Which kinds there are is their own business; here they are one catalogue.

use faultline_proto::{
    fault::{self, FieldInfo, Hold},
    yaml::{Node, Problems, Spanned},
};

use crate::cluster::fault as api;

/// A fault, of targets by name.
#[derive(Debug, Clone, PartialEq)]
pub enum FaultSpec {
    /// On nodes, by their agents.
    Node(fault::Spec),
    /// On objects, through the API server.
    Api(api::Spec),
}

/// A kind of fault, for messages, help texts and `faultline inject KIND`.
#[derive(Debug, Clone, Copy)]
pub struct FaultKind {
    /// As in an experiment: `memoryPressure`.
    pub name: &'static str,
    /// One sentence.
    pub about: &'static str,
    /// Its fields.
    pub fields: &'static [FieldInfo],
    /// It is injected through the API server, and so only in a cluster.
    pub needs_cluster: bool,
}

impl FaultKind {
    /// Every kind there is, in the order of the documentation.
    pub fn all() -> impl Iterator<Item = Self> + Clone {
        let of_nodes = fault::KINDS.iter().map(|info| Self {
            name: info.name,
            about: info.about,
            fields: info.fields,
            needs_cluster: false,
        });
        let of_api = api::KINDS.iter().map(|info| Self {
            name: info.name,
            about: info.about,
            fields: info.fields,
            needs_cluster: true,
        });
        of_nodes.chain(of_api)
    }

    /// The kind of this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::all().find(|kind| kind.name == name)
    }
}

impl FaultSpec {
    /// Decodes the body of the kind `kind`, which must be one of [`FaultKind::all`]; `None` when it has mistakes,
    /// which are in `problems`.
    pub fn decode(kind: &str, body: &Node, problems: &mut Problems) -> Option<Self> {
        if FaultKind::named(kind)?.needs_cluster {
            return api::Spec::decode(kind, body, problems).map(Self::Api);
        }
        fault::Spec::decode(kind, body, problems).map(Self::Node)
    }

    /// The kind's name.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Node(spec) => spec.kind(),
            Self::Api(spec) => spec.kind(),
        }
    }

    /// Whether it lasts.
    pub fn hold(&self) -> Hold {
        match self {
            Self::Node(spec) => spec.hold(),
            Self::Api(spec) => spec.hold(),
        }
    }

    /// The target names it speaks of, and where.
    pub fn targets(&self) -> Vec<&Spanned<String>> {
        match self {
            Self::Node(spec) => spec.targets(),
            Self::Api(spec) => spec.targets(),
        }
    }

    /// Whether it is injected on its targets' nodes, and so may follow them.
    pub fn is_on_nodes(&self) -> bool {
        matches!(self, Self::Node(_))
    }
}
