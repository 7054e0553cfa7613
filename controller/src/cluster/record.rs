//! What runs came to, kept in the cluster: a `ConfigMap` for each of the newest, in the installation's namespace, so that
//! whoever looks at a Job that has gone finds it.

use std::collections::BTreeMap;

use k8s_openapi::{api::core::v1::ConfigMap, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use kube::{
    Api,
    api::{DeleteParams, ListParams, PostParams},
};
use serde_json::Value;

use super::{Asked, Cluster, ClusterError, install::labels_of};
use crate::report::{Report, Verdict};

/// Records that are kept.
const KEPT_MAX: usize = 20;
/// Of runs that were refused, beside those: a schedule that is always refused drives no other out.
const REFUSED_KEPT_MAX: usize = 5;
/// What one may hold: a server takes 1 MiB of an object.
const RECORD_BYTES_MAX: usize = 768 * 1024;
/// The label that records are known by, and those that they are found by.
const RECORD_LABEL: &str = "faultline.dev/record";
const EXPERIMENT_LABEL: &str = "faultline.dev/experiment";
const VERDICT_LABEL: &str = "faultline.dev/verdict";
/// The longest value of a label.
const LABEL_BYTES_MAX: usize = 63;
/// The parts of a report that grow with its targets, the largest first.
const LARGE_PARTS: [&str; 4] = ["injections", "agents", "probes", "residue"];

impl Cluster {
    /// Keeps what a run came to, and the newest of those before it.
    ///
    /// # Errors
    /// When it cannot be kept, or what is old cannot be taken away.
    pub async fn record(&self, report: &Report) -> Result<(), ClusterError> {
        // Faults through the API server need no installation, and without one there is no place for a record.
        let Ok(namespace) = self.installation() else { return Ok(()) };
        let api: Api<ConfigMap> = Api::namespaced(self.connection.client(), &namespace);
        let asked = |verb| Asked::new(verb, "configmaps").within(&namespace);
        let (record, with) = (record(report, &namespace), PostParams::default());
        self.connection.answer(asked("create"), api.create(&with, &record)).await?;
        let ours = ListParams::default().labels(RECORD_LABEL);
        let all = self.connection.answer(asked("list"), api.list_metadata(&ours)).await?;
        let all = all.items.into_iter().map(|one| one.metadata).collect();
        let at_once = DeleteParams::default();
        for name in too_old(all) {
            let delete = api.delete(&name, &at_once);
            match self.connection.answer(asked("delete").named(&name), delete).await {
                // Another run has taken it away at the same time.
                Err(error) if error.is_not_found() => {}
                answer => drop(answer?),
            }
        }
        Ok(())
    }
}

/// The record of a run, in the namespace of an installation.
fn record(report: &Report, installation: &str) -> ConfigMap {
    let verdict = serde_json::to_value(report.verdict).unwrap_or_default();
    let verdict = verdict.as_str().unwrap_or_default().to_owned();
    // A name of Kubernetes can be longer than a label's value.
    let experiment: String = report.experiment.chars().take(LABEL_BYTES_MAX).collect();
    let experiment = experiment.trim_end_matches(['-', '.']).to_owned();
    let labels = [
        (RECORD_LABEL, "run".to_owned()),
        (EXPERIMENT_LABEL, experiment),
        (VERDICT_LABEL, verdict.clone()),
    ];
    let data = [
        ("verdict", verdict),
        ("reason", report.reasons.first().cloned().unwrap_or_default()),
        ("exitCode", report.exit_code.to_string()),
        ("run.json", bounded(serde_json::to_value(report).unwrap_or_default())),
    ];
    let text = |(name, value): (&str, String)| (name.to_owned(), value);
    ConfigMap {
        metadata: ObjectMeta {
            name: Some(format!("faultline-run-{}", report.run_id)),
            labels: Some(labels_of(installation).into_iter().chain(labels.map(text)).collect()),
            ..ObjectMeta::default()
        },
        data: Some(BTreeMap::from(data.map(text))),
        ..ConfigMap::default()
    }
}

/// A report as text, without what is too much of it: which parts these are is in it.
fn bounded(mut report: Value) -> String {
    let mut left_out = Vec::new();
    for part in LARGE_PARTS {
        if report.to_string().len() <= RECORD_BYTES_MAX {
            break;
        }
        report[part] = Value::Array(Vec::new());
        left_out.push(part);
        report["leftOut"] = left_out.clone().into();
    }
    report.to_string()
}

/// The names of those that are not among the newest of their sort.
fn too_old(mut all: Vec<ObjectMeta>) -> Vec<String> {
    all.sort_by_key(|one| one.creation_timestamp.as_ref().map(|time| time.0));
    let is_refused = |one: &ObjectMeta| {
        let verdict = one.labels.as_ref().and_then(|labels| labels.get(VERDICT_LABEL));
        verdict.is_some_and(|verdict| verdict == Verdict::Refused.name())
    };
    let (refused, others): (Vec<_>, Vec<_>) = all.into_iter().partition(is_refused);
    let old = |sort: Vec<ObjectMeta>, kept: usize| {
        let old = sort.len().saturating_sub(kept);
        sort.into_iter().take(old).filter_map(|one| one.name)
    };
    old(others, KEPT_MAX).chain(old(refused, REFUSED_KEPT_MAX)).collect()
}

#[cfg(test)]
mod tests {
    use k8s_openapi::{apimachinery::pkg::apis::meta::v1::Time, jiff::Timestamp};

    use super::*;

    #[test]
    fn the_newest_are_kept() {
        let made = |second: i64| ObjectMeta {
            name: Some(format!("run-{second}")),
            creation_timestamp: Timestamp::from_second(second).ok().map(Time),
            ..ObjectMeta::default()
        };
        let all: Vec<ObjectMeta> = (0..22).rev().map(made).collect();
        assert_eq!(too_old(all), ["run-0", "run-1"]);
        assert!(too_old((0..20).map(made).collect()).is_empty());
        let refused = |second: i64| ObjectMeta {
            labels: Some(BTreeMap::from([(VERDICT_LABEL.to_owned(), "refused".to_owned())])),
            ..made(second)
        };
        let many = (0..20).map(made).chain((20..26).map(refused)).collect();
        assert_eq!(too_old(many), ["run-20"], "of what was refused only");
    }

    #[test]
    fn a_report_that_is_too_large_says_what_is_missing() {
        let small = serde_json::json!({ "injections": [1], "verdict": "held" });
        assert_eq!(bounded(small.clone()), small.to_string());
        let large =
            serde_json::json!({ "injections": ["x".repeat(RECORD_BYTES_MAX)], "agents": [1] });
        let kept: Value = serde_json::from_str(&bounded(large)).expect("JSON");
        assert_eq!(kept["leftOut"], serde_json::json!(["injections"]));
        assert_eq!(kept["agents"], serde_json::json!([1]));
    }
}
