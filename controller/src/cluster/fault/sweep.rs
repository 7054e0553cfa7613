//! What controllers of Kubernetes keep of a workload that was changed, and that does not go by itself when it is
//! restored. A Deployment's annotations are copied to its `ReplicaSet`s, and those of others to their
//! `ControllerRevision`s, ours among them: `kubectl rollout undo` would copy them back. What was made of a template
//! of ours would stay in the history. And a `StatefulSet` waits for ever for a pod that was made of such a one.

use std::time::{Duration, Instant};

use kube::{
    Api,
    api::{
        ApiResource, DeleteParams, DynamicObject, ListParams, Patch, PatchParams, Preconditions,
    },
    core::GroupVersionKind,
};
use serde_json::{Value, json};
use tokio::time;

use super::{
    ANNOTATION, FaultError, Object, ObjectKind,
    restore::{FIELD_MANAGER, read},
};
use crate::cluster::{connect::Connection, error::Asked};

/// How long whoever looks after a workload may take to make it what it was.
const SETTLE_MAX: Duration = Duration::from_secs(20);
/// Between two looks at that.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// Whether anything is kept beside such an object.
pub(super) fn is_needed(object: &Object) -> bool {
    Copies::of(object).is_some()
}

/// Whether a part of an object speaks of a fault.
fn speaks_of(object: &Value, part: &str, fault: &str) -> bool {
    object.pointer(part).is_some_and(|part| part.to_string().contains(fault))
}

/// The revisions that a workload makes pods of at present.
fn current(workload: &Value) -> Vec<String> {
    let revisions = ["/status/currentRevision", "/status/updateRevision"];
    let named = revisions.iter().filter_map(|path| workload.pointer(path)?.as_str());
    named.map(str::to_owned).collect()
}

/// Removes what is left of a fault beside a workload that was restored, until `until`. Returns what is there still.
///
/// # Errors
/// When the API server does not answer, or does not allow it.
pub(super) async fn sweep(
    connection: &Connection,
    object: &Object,
    fault: &str,
    until: Instant,
) -> Result<Vec<String>, FaultError> {
    let Some(copies) = Copies::of(object) else { return Ok(Vec::new()) };
    let until = until.min(Instant::now() + SETTLE_MAX);
    loop {
        let mut left = Vec::new();
        let Some(now) = read(connection, object).await? else { return Ok(left) };
        let number = |path: &str| now.pointer(path).and_then(Value::as_i64).unwrap_or(0);
        if number("/status/observedGeneration") < number("/metadata/generation") {
            // It would copy the record once more.
            left.push(format!("nobody has looked at {object} since it was restored"));
        } else if speaks_of(&now, "/spec/template", fault) {
            // Whatever was made of it is what is wanted at present.
            left.push(format!("the template of {object} speaks of this fault still"));
        } else {
            let uid = now["metadata"]["uid"].as_str().unwrap_or_default().to_owned();
            left.extend(copies.sweep(connection, &uid, fault, &current(&now)).await?);
            left.extend(stuck_pods(connection, object, &uid, fault).await?);
        }
        if left.is_empty() || Instant::now() >= until {
            return Ok(left);
        }
        time::sleep(LOOK_EVERY).await;
    }
}

/// What copies of a workload's template and annotations are kept in.
struct Copies {
    api_resource: ApiResource,
    resource: &'static str,
    /// Where the template is in them.
    template: &'static str,
    namespace: String,
}

impl Copies {
    fn of(object: &Object) -> Option<Self> {
        let (kind, resource, template) = match object.kind {
            ObjectKind::Deployment => ("ReplicaSet", "replicasets", "/spec/template"),
            ObjectKind::StatefulSet | ObjectKind::DaemonSet => {
                ("ControllerRevision", "controllerrevisions", "/data")
            }
            ObjectKind::Pod | ObjectKind::ReplicaSet | ObjectKind::Node => return None,
        };
        let kind = GroupVersionKind::gvk("apps", "v1", kind);
        let api_resource = ApiResource::from_gvk_with_plural(&kind, resource);
        Some(Self { api_resource, resource, template, namespace: object.namespace.clone()? })
    }

    fn api(&self, connection: &Connection) -> Api<DynamicObject> {
        Api::namespaced_with(connection.client(), &self.namespace, &self.api_resource)
    }

    fn asked(&self, verb: &'static str) -> Asked {
        Asked::new(verb, format!("{}.apps", self.resource)).within(&self.namespace)
    }

    /// Those that a workload owns and that speak of a fault.
    async fn sweep(
        &self,
        connection: &Connection,
        owner: &str,
        fault: &str,
        current: &[String],
    ) -> Result<Vec<String>, FaultError> {
        let api = self.api(connection);
        let all = ListParams::default();
        let all = connection.answer(self.asked("list"), api.list(&all)).await?;
        let mut left = Vec::new();
        for copy in all.items.iter().filter(|copy| is_owned(copy, owner)) {
            let text = serde_json::to_value(copy).unwrap_or_default();
            let name = copy.metadata.name.clone().unwrap_or_default();
            let count = |path| text.pointer(path).and_then(Value::as_i64).unwrap_or(0);
            if speaks_of(&text, self.template, fault) {
                if current.contains(&name) {
                    left.push(format!(
                        "pods are made of {} {name}, which is of this fault",
                        self.resource
                    ));
                    continue;
                }
                if count("/spec/replicas") > 0 || count("/status/replicas") > 0 {
                    left.push(format!("{} {name} still has pods of this fault", self.resource));
                    continue;
                }
                let uid = copy.metadata.uid.clone();
                let params = only(uid);
                let asked = self.asked("delete").named(&name);
                gone(connection.answer(asked, api.delete(&name, &params)).await)?;
            } else if annotation(&text).is_some_and(|record| record.contains(fault)) {
                let annotations = json!({ ANNOTATION: null });
                let patch = Patch::Merge(json!({"metadata": {"annotations": annotations}}));
                let how = PatchParams::apply(FIELD_MANAGER);
                let patching = api.patch(&name, &how, &patch);
                gone(connection.answer(self.asked("patch").named(&name), patching).await)?;
            }
        }
        Ok(left)
    }
}

fn annotation(object: &Value) -> Option<&str> {
    object.pointer("/metadata/annotations")?.get(ANNOTATION)?.as_str()
}

fn is_owned(object: &DynamicObject, owner: &str) -> bool {
    object.metadata.owner_references.iter().flatten().any(|reference| reference.uid == owner)
}

fn only(uid: Option<String>) -> DeleteParams {
    let preconditions = Preconditions { uid, resource_version: None };
    DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() }
}

/// An answer, where it is as well that there was no such thing any more.
fn gone<T>(answer: Result<T, crate::cluster::ClusterError>) -> Result<(), FaultError> {
    match answer {
        Ok(_) => Ok(()),
        Err(error) if error.is_not_found() || error.is_conflict() => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Deletes the pods of a `StatefulSet` that were made of a template of ours: it never replaces one that is not
/// ready (Kubernetes' documentation calls that a forced rollback).
async fn stuck_pods(
    connection: &Connection,
    object: &Object,
    owner: &str,
    fault: &str,
) -> Result<Vec<String>, FaultError> {
    if object.kind != ObjectKind::StatefulSet {
        return Ok(Vec::new());
    }
    let namespace = object.namespace.clone().unwrap_or_default();
    let kind = ObjectKind::Pod.api_resource();
    let api: Api<DynamicObject> = Api::namespaced_with(connection.client(), &namespace, &kind);
    let asked = |verb| Asked::new(verb, "pods").within(&namespace);
    let all = connection.answer(asked("list"), api.list(&ListParams::default())).await?;
    let mut left = Vec::new();
    for pod in all.items.iter().filter(|pod| is_owned(pod, owner)) {
        if !pod.data["spec"].to_string().contains(fault) {
            continue;
        }
        // One that is told to end goes, however long its kubelet takes: that a new one comes is recovery.
        if pod.metadata.deletion_timestamp.is_none() {
            let name = pod.metadata.name.clone().unwrap_or_default();
            left.push(format!("pod {namespace}/{name} of this fault is still there"));
            let params = only(pod.metadata.uid.clone());
            gone(
                connection.answer(asked("delete").named(&name), api.delete(&name, &params)).await,
            )?;
        }
    }
    Ok(left)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_template_that_speaks_of_a_fault_is_noticed_and_what_is_current_is_known() {
        let fault = "00000000000000a1";
        let image = super::super::image_pull::image(fault);
        let template = json!({"spec": {"containers": [{"image": "a"}, {"image": image}]}});
        let status = json!({"currentRevision": "db-1", "updateRevision": "db-2"});
        let set = json!({"spec": {"template": template}, "status": status});
        assert!(speaks_of(&set, "/spec/template", fault));
        assert!(!speaks_of(&set, "/spec/template", "00000000000000b2"));
        assert_eq!(current(&set), ["db-1", "db-2"]);
    }
}
