//! `scale`: a workload has another number of replicas for a while, and then as many as before.

use std::time::Duration;

use faultline_proto::{
    fault::{FieldForm, FieldInfo},
    yaml::{self, Fields, Node, Problems, Spanned},
};

use super::{
    Before, Change, Expanded, Kind, KindInfo, Look, ObjectKind, Planned, Sight, look, workloads,
};
use crate::{place::Pod, report::counted};

/// Its name.
pub(super) const NAME: &str = "scale";
/// The most replicas.
const REPLICAS_MAX: u64 = 10_000;
/// Where the number is.
pub(super) const REPLICAS: &str = "/spec/replicas";
/// What has replicas.
pub(super) const SCALED: [ObjectKind; 3] =
    [ObjectKind::Deployment, ObjectKind::StatefulSet, ObjectKind::ReplicaSet];
/// Pods have 30 seconds to end where nothing is said, and those of a `StatefulSet` end one after the other.
const PROOF_WINDOW: Duration = Duration::from_mins(5);

/// For help texts and `faultline inject scale`.
pub(super) const INFO: KindInfo = KindInfo {
    name: NAME,
    about: "Give a workload another number of replicas for a while",
    fields: &[
        FieldInfo {
            name: "target",
            value: "TARGET",
            help: "Pods of the Deployment, StatefulSet or ReplicaSet",
            form: FieldForm::Target,
        },
        FieldInfo {
            name: "to",
            value: "COUNT",
            help: "How many replicas; 0: none",
            form: FieldForm::Scalar,
        },
    ],
};

/// As an experiment has it.
#[derive(Debug, Clone, PartialEq)]
pub struct Spec {
    target: Spanned<String>,
    to: u32,
}

pub(super) fn decode(body: &Node, problems: &mut Problems) -> Option<Spec> {
    let before = problems.len();
    let mut fields = Fields::open(body, NAME, problems)?;
    let target = fields.required("target", problems, yaml::name);
    let to = fields.required("to", problems, yaml::count(0..=REPLICAS_MAX));
    fields.finish(problems);
    let to = u32::try_from(to.unwrap_or_default()).unwrap_or_default();
    (problems.len() == before).then_some(Spec { target: target?, to })
}

impl Kind for Spec {
    fn targets(&self) -> Vec<&Spanned<String>> {
        vec![&self.target]
    }

    fn expand(&self, chosen: &[&Pod], all: &[Pod]) -> Result<Vec<Expanded>, String> {
        let mut found = workloads(chosen, all, &SCALED)?;
        let keeps = usize::try_from(self.to).unwrap_or(usize::MAX);
        for Expanded { hits, beside, .. } in &mut found {
            // Of a StatefulSet the last go; of a Deployment nobody knows which, but how many. So each of them has to
            // be somebody who may be hit, also where there will be more of them.
            let order = |uid: &String| {
                let name = all.iter().find(|pod| pod.uid == *uid).map(|pod| pod.name.as_str());
                let name = name.unwrap_or_default();
                let ordinal = name.rsplit('-').next().and_then(|n| n.parse::<u32>().ok());
                (ordinal, name.to_owned())
            };
            hits.sort_by_key(order);
            *beside = hits.drain(..keeps.min(hits.len())).collect();
        }
        Ok(found)
    }

    fn minds_autoscalers(&self) -> bool {
        true
    }

    fn plan(&self, before: &Before<'_>) -> Result<Planned, String> {
        let (on, to) = (before.on, i64::from(self.to));
        let now = before.object.pointer(REPLICAS).cloned();
        let from = now.as_ref().and_then(serde_json::Value::as_i64).unwrap_or(1);
        if from == to {
            return Err(format!("{on} has {from} replicas already"));
        }
        if let (Some(autoscaler), true) = (before.autoscalers.first(), to > 0) {
            return Err(format!(
                "the autoscaler {autoscaler} looks after {on} and would change its replicas again; only `to: 0` \
                 makes it hold still"
            ));
        }
        let change = Change::Value { path: REPLICAS.into(), before: now, ours: to.into() };
        Ok(Planned {
            text: format!("scale {on} from {from} to {to} replicas"),
            changes: vec![change],
            pods: look::refs(look::of(on, before.pods)),
            ..Planned::default()
        })
    }

    fn look(&self, look: &Look<'_>) -> Sight {
        let replicas = look.number("/status/replicas");
        let there = look.own_pods().len();
        let wanted = usize::try_from(self.to).unwrap_or(usize::MAX);
        let said =
            format!("{} there now, and its status tells of {replicas}", counted(there, "pod"));
        // Pods that are told to end and still run are seen as there.
        if look.is_observed() && replicas == i64::from(self.to) && there == wanted {
            Sight::Proven(said)
        } else {
            Sight::Missing(format!("{said}, and {} are wanted", self.to))
        }
    }

    fn proof_window(&self) -> Duration {
        PROOF_WINDOW
    }
}
