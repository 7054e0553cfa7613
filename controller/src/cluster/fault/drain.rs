//! `drain`: no new pod comes to a node, and those that are there are evicted as their budgets allow. The cordon is
//! taken back; the pods are somewhere else by then.

use std::time::Duration;

use faultline_proto::{
    fault::{FieldForm, FieldInfo},
    yaml::{self, Fields, Node, Problems, Spanned},
};
use k8s_openapi::api::core::v1;

use super::{
    Before, Expanded, Kind, KindInfo, Look, Planned, Sight,
    cordon::{change, is_cordoned},
    look,
    nodes::{Nodes, decode_nodes, pods_on},
};
use crate::{cluster::pod, place::Pod};

/// Its name.
pub(super) const NAME: &str = "drain";
/// How long it may take where nothing is said, and at most.
const WITHIN_DEFAULT: Duration = Duration::from_mins(5);
const WITHIN_MAX: Duration = Duration::from_hours(2);

/// The key of the taint that a cordoned node has.
const CORDON_TAINT: &str = "node.kubernetes.io/unschedulable";

/// For help texts and `faultline inject drain`.
pub(super) const INFO: KindInfo = KindInfo {
    name: NAME,
    about: "Evict the pods of nodes, as their budgets allow, and let no new one come",
    fields: &[
        super::nodes::TARGET,
        super::nodes::NODES,
        FieldInfo {
            name: "within",
            value: "DURATION",
            help: "How soon all must have gone [default: 5m, and never later than `for`]",
            form: FieldForm::Scalar,
        },
        FieldInfo {
            name: "deleteEmptyDirData",
            value: "true|false",
            help: "Also pods whose emptyDir volumes go with them [default: false]",
            form: FieldForm::Scalar,
        },
    ],
};

/// As an experiment has it.
#[derive(Debug, Clone, PartialEq)]
pub struct Spec {
    nodes: Nodes,
    within: Duration,
    delete_empty_dir_data: bool,
}

pub(super) fn decode(body: &Node, problems: &mut Problems) -> Option<Spec> {
    let before = problems.len();
    let mut fields = Fields::open(body, NAME, problems)?;
    let nodes = decode_nodes(&mut fields, problems);
    let range = Duration::from_secs(1)..=WITHIN_MAX;
    let within = fields.optional("within", problems, yaml::duration(range));
    let choices = &[("true", true), ("false", false)];
    let empty_dir = fields.optional("deleteEmptyDirData", problems, yaml::one_of(choices));
    fields.finish(problems);
    (problems.len() == before).then_some(Spec {
        nodes: nodes?,
        within: within.unwrap_or(WITHIN_DEFAULT),
        delete_empty_dir_data: empty_dir.unwrap_or_default(),
    })
}

/// Whether a pod belongs to its node: a `DaemonSet` would make it there again, or its kubelet does.
fn stays(owner: Option<&str>) -> bool {
    owner.is_some_and(|owner| owner.starts_with("daemonset/") || owner.starts_with("node/"))
}

/// A pod, for a sentence.
fn named(pod: &v1::Pod) -> String {
    let part = |part: &Option<String>| part.clone().unwrap_or_default();
    format!("pod {}/{}", part(&pod.metadata.namespace), part(&pod.metadata.name))
}

/// Whether a pod may come to a node also while that is cordoned.
fn tolerates_cordon(pod: &v1::Pod) -> bool {
    let tolerations = pod.spec.iter().flat_map(|spec| spec.tolerations.iter().flatten());
    let keys = tolerations.map(|toleration| toleration.key.as_deref().unwrap_or_default());
    keys.into_iter().any(|key| key.is_empty() || key == CORDON_TAINT)
}

impl Spec {
    /// Whether a pod can be evicted, and not only ended for good.
    fn check(&self, pod: &v1::Pod) -> Result<(), String> {
        let named = named(pod);
        if pod::owner(pod).is_none() {
            return Err(format!("nothing would make {named} again"));
        }
        let volumes = pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
        let has_empty_dir = volumes.into_iter().any(|volume| volume.empty_dir.is_some());
        if has_empty_dir && !self.delete_empty_dir_data {
            return Err(format!(
                "{named} has an emptyDir volume, whose data would go with it; `deleteEmptyDirData: \
                 true` allows that"
            ));
        }
        Ok(())
    }
}

impl Kind for Spec {
    fn targets(&self) -> Vec<&Spanned<String>> {
        self.nodes.targets()
    }

    fn expand(&self, chosen: &[&Pod], all: &[Pod]) -> Result<Vec<Expanded>, String> {
        let expanded = |object| {
            let hits = pods_on(&object, all, |pod| !stays(pod.owner.as_deref()));
            Expanded { object, hits, beside: Vec::new() }
        };
        Ok(self.nodes.named(chosen)?.into_iter().map(expanded).collect())
    }

    fn plan(&self, before: &Before<'_>) -> Result<Planned, String> {
        let change = change(before.on, before.object)?;
        let there = look::of(before.on, before.pods);
        let goes: Vec<_> = there.filter(|pod| !stays(pod::owner(pod).as_deref())).collect();
        for pod in &goes {
            // The experiment's rules were asked about the others, and not about this one.
            if !look::refs([*pod]).iter().all(|pod| before.hits.contains(&pod.uid)) {
                return Err(format!("{} came to {} just now", named(pod), before.on));
            }
            self.check(pod)?;
        }
        let pods = look::refs(goes);
        Ok(Planned {
            text: format!("drain {} of {} pods", before.on, pods.len()),
            changes: vec![change],
            evict: pods.clone(),
            pods,
            ..Planned::default()
        })
    }

    fn look(&self, look: &Look<'_>) -> Sight {
        if !is_cordoned(look) {
            return Sight::Missing("it is schedulable".into());
        }
        let all = look.planned.pods.len();
        let there = look.there(&look.planned.pods);
        if there.is_empty() {
            // Who came before the cordon and after the plan is not evicted: no rule was asked about it.
            let others = look
                .own_pods()
                .into_iter()
                .filter(|pod| !stays(pod::owner(pod).as_deref()) && !tolerates_cordon(pod));
            let others: Vec<String> = others.map(named).collect();
            if let Some(first) = others.first() {
                let said = "came to it before it was cordoned, and is not evicted";
                return Sight::Missing(format!("{all} of {all} pods have gone; {first} {said}"));
            }
            return Sight::Proven(format!("unschedulable, and {all} of {all} pods have gone"));
        }
        let gone = all - there.len();
        Sight::Missing(format!("{gone} of {all} pods have gone; {} is there", look::names(&there)))
    }

    fn proof_window(&self) -> Duration {
        self.within
    }
}
