//! `rolloutRestart`: all pods of a workload are replaced, as its strategy says and as `kubectl rollout restart` does
//! it. There is nothing to take back.

use std::time::Duration;

use faultline_proto::{
    fault::{FieldForm, FieldInfo, Hold},
    yaml::{self, Fields, Node, Problems, Spanned},
};
use serde_json::json;

use super::{
    Before, Expanded, Kind, KindInfo, Look, Planned, Sight, look,
    template::{ROLLED, check_rolls},
    workloads,
};
use crate::{place::Pod, report};

/// Its name.
pub(super) const NAME: &str = "rolloutRestart";
/// By which `kubectl rollout restart` makes a template another one.
const RESTARTED: &str = "kubectl.kubernetes.io/restartedAt";
/// How long it may take where nothing is said, and at most.
const WITHIN_DEFAULT: Duration = Duration::from_mins(10);
const WITHIN_MAX: Duration = Duration::from_hours(2);

/// For help texts and `faultline inject rollout-restart`.
pub(super) const INFO: KindInfo = KindInfo {
    name: NAME,
    about: "Have a workload replace all its pods, as its strategy says",
    fields: &[
        FieldInfo {
            name: "target",
            value: "TARGET",
            help: "Pods of the Deployment, StatefulSet or DaemonSet",
            form: FieldForm::Target,
        },
        FieldInfo {
            name: "within",
            value: "DURATION",
            help: "How soon all must be replaced [default: 10m]",
            form: FieldForm::Scalar,
        },
    ],
};

/// As an experiment has it.
#[derive(Debug, Clone, PartialEq)]
pub struct Spec {
    target: Spanned<String>,
    within: Duration,
}

pub(super) fn decode(body: &Node, problems: &mut Problems) -> Option<Spec> {
    let before = problems.len();
    let mut fields = Fields::open(body, NAME, problems)?;
    let target = fields.required("target", problems, yaml::name);
    let range = Duration::from_secs(1)..=WITHIN_MAX;
    let within = fields.optional("within", problems, yaml::duration(range));
    fields.finish(problems);
    let within = within.unwrap_or(WITHIN_DEFAULT);
    (problems.len() == before).then_some(Spec { target: target?, within })
}

impl Kind for Spec {
    fn hold(&self) -> Hold {
        Hold::Instant
    }

    fn targets(&self) -> Vec<&Spanned<String>> {
        vec![&self.target]
    }

    fn expand(&self, chosen: &[&Pod], all: &[Pod]) -> Result<Vec<Expanded>, String> {
        workloads(chosen, all, &ROLLED)
    }

    fn plan(&self, before: &Before<'_>) -> Result<Planned, String> {
        check_rolls(before.on, before.object)?;
        let pods = look::refs(look::of(before.on, before.pods));
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        // As RFC 3339 has it, and kubectl writes it.
        let now = report::utc(now.unwrap_or_default()).replace(" UTC", "Z").replace(' ', "T");
        let annotations = json!({ RESTARTED: now });
        Ok(Planned {
            text: format!("restart the {} pods of {}", pods.len(), before.on),
            mark: Some(json!({"spec": {"template": {"metadata": {"annotations": annotations}}}})),
            pods,
            ..Planned::default()
        })
    }

    fn look(&self, look: &Look<'_>) -> Sight {
        let all = look.planned.pods.len();
        let old = look.there(&look.planned.pods);
        let updated = look
            .number("/status/updatedReplicas")
            .max(look.number("/status/updatedNumberScheduled"));
        if look.is_observed() && old.is_empty() {
            return Sight::Proven(format!("{all} of {all} pods have gone; {updated} are new"));
        }
        let gone = all - old.len();
        Sight::Missing(format!(
            "{gone} of {all} pods were replaced; {} is there",
            look::names(&old)
        ))
    }

    fn proof_window(&self) -> Duration {
        self.within
    }
}
