//! What kinds that change a workload's pod template have in common: whether the change makes new pods, and what
//! new pods are known by. Pure.

use serde_json::Value;

use super::{Object, ObjectKind};

/// What has a pod template that can be changed, and makes new pods of it.
pub(super) const ROLLED: [ObjectKind; 3] =
    [ObjectKind::Deployment, ObjectKind::StatefulSet, ObjectKind::DaemonSet];

/// Whether a new template would make new pods.
///
/// # Errors
/// Why not, in a sentence.
pub(super) fn check_rolls(on: &Object, object: &Value) -> Result<(), String> {
    if object.pointer("/spec/paused") == Some(&Value::Bool(true)) {
        return Err(format!("{on} is paused: `kubectl rollout resume` has it make new pods again"));
    }
    let strategy = object.pointer("/spec/updateStrategy/type").and_then(Value::as_str);
    if strategy == Some("OnDelete") {
        return Err(format!(
            "{on} makes new pods only of those that somebody deletes (`updateStrategy: OnDelete`)"
        ));
    }
    let partition = object.pointer("/spec/updateStrategy/rollingUpdate/partition");
    let replicas = object.pointer("/spec/replicas").and_then(Value::as_i64);
    if let (Some(partition), Some(replicas)) = (partition.and_then(Value::as_i64), replicas)
        && partition >= replicas
    {
        return Err(format!(
            "{on} makes no new pods: the `partition` of its updateStrategy is {partition}, and it has {replicas}"
        ));
    }
    if replicas == Some(0) {
        return Err(format!("{on} has no replicas"));
    }
    Ok(())
}
