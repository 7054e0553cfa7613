//! `target` or `nodes`: which nodes a fault is on. Pure.

use faultline_proto::{
    fault::{FieldForm, FieldInfo},
    yaml::{self, Fields, Problems, Spanned},
};

use super::Object;
use crate::place::Pod;

/// Nodes that one fault names.
const NODES_MAX: usize = 100;

/// The field that means the nodes of pods.
pub(super) const TARGET: FieldInfo = FieldInfo {
    name: "target",
    value: "TARGET",
    help: "The nodes that these pods are on",
    form: FieldForm::Target,
};
/// The field that names nodes.
pub(super) const NODES: FieldInfo = FieldInfo {
    name: "nodes",
    value: "NODE",
    help: "The nodes, by name, instead of `target`",
    form: FieldForm::Scalars,
};

/// Which nodes.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Nodes {
    /// Those that the pods of a target are on.
    Of(Spanned<String>),
    /// Those of these names.
    Named(Vec<String>),
}

/// Decodes one of the two fields.
pub(super) fn decode_nodes(fields: &mut Fields<'_>, problems: &mut Problems) -> Option<Nodes> {
    let target = fields.optional("target", problems, yaml::name);
    let nodes =
        fields.optional("nodes", problems, yaml::list(1..=NODES_MAX, "names of nodes", yaml::name));
    match (fields.key_span("target"), fields.key_span("nodes")) {
        (Some(_), Some(span)) => {
            let problem = problems.add(span, "`nodes` beside `target`");
            problem
                .expected("expected one of them: the nodes by name, or those of the target's pods");
            None
        }
        (None, None) => {
            let problem = problems.add(fields.span(), "nothing says which nodes");
            problem.expected("expected `target`, whose pods are on them, or `nodes`");
            None
        }
        (Some(_), None) => target.map(Nodes::Of),
        (None, Some(_)) => {
            let names = nodes?.into_iter().map(|name| name.value);
            Some(Nodes::Named(names.collect()))
        }
    }
}

impl Nodes {
    /// The target that is named.
    pub(super) fn targets(&self) -> Vec<&Spanned<String>> {
        match self {
            Self::Of(target) => vec![target],
            Self::Named(_) => Vec::new(),
        }
    }

    /// The nodes, each once.
    ///
    /// # Errors
    /// When a pod has none yet.
    pub(super) fn named(&self, chosen: &[&Pod]) -> Result<Vec<Object>, String> {
        let mut names: Vec<&str> = match self {
            Self::Named(names) => names.iter().map(String::as_str).collect(),
            Self::Of(_) => chosen.iter().map(|pod| pod.node.as_str()).collect(),
        };
        names.sort_unstable();
        names.dedup();
        if names.first() == Some(&"") {
            return Err("a pod of its target has no node yet".into());
        }
        Ok(names.into_iter().map(Object::node).collect())
    }
}

/// The uids of the pods on a node.
pub(super) fn pods_on(node: &Object, all: &[Pod], is_hit: impl Fn(&Pod) -> bool) -> Vec<String> {
    let there = all.iter().filter(|pod| pod.node == node.name && is_hit(pod));
    there.map(|pod| pod.uid.clone()).collect()
}
