//! `unschedulable`: new pods of a workload find no node, and stay Pending on purpose. Its template asks for a node
//! with a label that no node has, which makes the workload roll: as many old pods go as its strategy allows.

use std::time::Duration;

use faultline_proto::{
    fault::{FieldForm, FieldInfo},
    yaml::{self, Fields, Node, Problems, Spanned},
};
use k8s_openapi::api::core::v1;

use super::{
    Before, Change, Expanded, Kind, KindInfo, Look, ObjectKind, Planned, Sight, look,
    template::check_rolls, undo::escaped, workloads,
};
use crate::place::Pod;

/// Its name.
pub(super) const NAME: &str = "unschedulable";
/// The label that no node has; its value is the fault's id.
pub(super) const NO_NODE: &str = "faultline.dev/unschedulable";
/// Whose pods a scheduler finds nodes for. A `DaemonSet` makes no pod where a selector finds no node: all would go.
pub(super) const SCHEDULED: [ObjectKind; 2] = [ObjectKind::Deployment, ObjectKind::StatefulSet];
/// Until a scheduler has looked at a new pod.
const PROOF_WINDOW: Duration = Duration::from_mins(2);

/// For help texts and `faultline inject unschedulable`.
pub(super) const INFO: KindInfo = KindInfo {
    name: NAME,
    about: "Have new pods of a workload find no node",
    fields: &[FieldInfo {
        name: "target",
        value: "TARGET",
        help: "Pods of the Deployment or StatefulSet",
        form: FieldForm::Target,
    }],
};

/// As an experiment has it.
#[derive(Debug, Clone, PartialEq)]
pub struct Spec {
    target: Spanned<String>,
}

pub(super) fn decode(body: &Node, problems: &mut Problems) -> Option<Spec> {
    let before = problems.len();
    let mut fields = Fields::open(body, NAME, problems)?;
    let target = fields.required("target", problems, yaml::name);
    fields.finish(problems);
    (problems.len() == before).then_some(Spec { target: target? })
}

/// Whether a pod was made of a template that this fault changed.
fn is_marked(pod: &v1::Pod, fault: &str) -> bool {
    let selector = pod.spec.as_ref().and_then(|spec| spec.node_selector.as_ref());
    selector.and_then(|selector| selector.get(NO_NODE)).is_some_and(|value| value == fault)
}

/// Why a pod has no node, as its scheduler says; `None` if none has looked at it, or it has one.
fn unschedulable(pod: &v1::Pod) -> Option<String> {
    let conditions = pod.status.as_ref()?.conditions.as_ref()?;
    let condition = conditions.iter().find(|c| c.type_ == "PodScheduled" && c.status == "False")?;
    let reason = condition.reason.as_deref().filter(|reason| *reason == "Unschedulable")?;
    Some(format!("{reason}: {}", condition.message.as_deref().unwrap_or_default()))
}

impl Kind for Spec {
    fn targets(&self) -> Vec<&Spanned<String>> {
        vec![&self.target]
    }

    fn expand(&self, chosen: &[&Pod], all: &[Pod]) -> Result<Vec<Expanded>, String> {
        workloads(chosen, all, &SCHEDULED)
    }

    fn plan(&self, before: &Before<'_>) -> Result<Planned, String> {
        check_rolls(before.on, before.object)?;
        let path = format!("/spec/template/spec/nodeSelector/{}", escaped(NO_NODE));
        let change = Change::Value { path, before: None, ours: before.fault.into() };
        Ok(Planned {
            text: format!("have new pods of {} find no node", before.on),
            changes: vec![change],
            pods: look::refs(look::of(before.on, before.pods)),
            ..Planned::default()
        })
    }

    fn look(&self, look: &Look<'_>) -> Sight {
        let own = look.own_pods();
        let new: Vec<_> = own.into_iter().filter(|pod| is_marked(pod, look.fault)).collect();
        match new.iter().find_map(|pod| Some((pod, unschedulable(pod)?))) {
            Some((pod, why)) => {
                let name = pod.metadata.name.as_deref().unwrap_or_default();
                Sight::Proven(format!("{name} is Pending, {why}"))
            }
            None if new.is_empty() => Sight::Missing("no new pod was made".into()),
            None => Sight::Missing("no scheduler has looked at its new pods".into()),
        }
    }

    fn proof_window(&self) -> Duration {
        PROOF_WINDOW
    }
}
