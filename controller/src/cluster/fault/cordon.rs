//! `cordon`: no new pod comes to a node for a while; those that are there stay.

use std::time::Duration;

use faultline_proto::yaml::{Fields, Node, Problems, Spanned};
use serde_json::Value;

use super::{
    Before, Change, Expanded, Kind, KindInfo, Look, Object, Planned, Sight,
    nodes::{Nodes, decode_nodes},
};
use crate::place::Pod;

/// Its name.
pub(super) const NAME: &str = "cordon";
/// Where it is said.
pub(super) const UNSCHEDULABLE: &str = "/spec/unschedulable";
const PROOF_WINDOW: Duration = Duration::from_secs(10);

/// For help texts and `faultline inject cordon`.
pub(super) const INFO: KindInfo = KindInfo {
    name: NAME,
    about: "Let no new pod come to nodes",
    fields: &[super::nodes::TARGET, super::nodes::NODES],
};

/// As an experiment has it.
#[derive(Debug, Clone, PartialEq)]
pub struct Spec {
    nodes: Nodes,
}

pub(super) fn decode(body: &Node, problems: &mut Problems) -> Option<Spec> {
    let before = problems.len();
    let mut fields = Fields::open(body, NAME, problems)?;
    let nodes = decode_nodes(&mut fields, problems);
    fields.finish(problems);
    (problems.len() == before).then_some(Spec { nodes: nodes? })
}

/// Has a node take no new pods.
///
/// # Errors
/// When it takes none already.
pub(super) fn change(on: &Object, node: &Value) -> Result<Change, String> {
    let now = node.pointer(UNSCHEDULABLE).cloned();
    if now == Some(Value::Bool(true)) {
        return Err(format!("{on} is cordoned already"));
    }
    Ok(Change::Value { path: UNSCHEDULABLE.into(), before: now, ours: true.into() })
}

/// Whether a node takes no new pods.
pub(super) fn is_cordoned(look: &Look<'_>) -> bool {
    look.object.and_then(|node| node.pointer(UNSCHEDULABLE)) == Some(&Value::Bool(true))
}

impl Kind for Spec {
    fn targets(&self) -> Vec<&Spanned<String>> {
        self.nodes.targets()
    }

    /// Nobody is hit: the pods that are there stay.
    fn expand(&self, chosen: &[&Pod], _all: &[Pod]) -> Result<Vec<Expanded>, String> {
        let nodes = self.nodes.named(chosen)?.into_iter();
        Ok(nodes.map(|object| Expanded { object, hits: Vec::new(), beside: Vec::new() }).collect())
    }

    fn plan(&self, before: &Before<'_>) -> Result<Planned, String> {
        Ok(Planned {
            text: format!("let no new pod come to {}", before.on),
            changes: vec![change(before.on, before.object)?],
            ..Planned::default()
        })
    }

    fn look(&self, look: &Look<'_>) -> Sight {
        if is_cordoned(look) {
            Sight::Proven("the API server tells of it as unschedulable".into())
        } else {
            Sight::Missing("it is schedulable".into())
        }
    }

    fn proof_window(&self) -> Duration {
        PROOF_WINDOW
    }
}
