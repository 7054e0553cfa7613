//! What a record may have whoever finds it do. Records are read off objects that others may write to as well: a node
//! may annotate itself, and must not have `faultline controller` write for it what it may not write. So only what
//! the kinds of faults change is taken back, and only from what they make of it. Pure.

use faultline_proto::id::FaultId;
use serde_json::Value;

use super::{
    Change, ObjectKind, Undo, cordon, drain, image_pull, scale, taint, template::ROLLED,
    undo::escaped, unschedulable,
};

impl Undo {
    /// The record that an object of this kind bears; `None` if it bears none.
    ///
    /// # Errors
    /// When it bears one that cannot be understood, or would have others do what no fault does: why, in a sentence.
    pub fn borne(kind: ObjectKind, object: &Value) -> Option<Result<Self, String>> {
        Some(Self::of(object)?.and_then(|undo| undo.check(kind).map(|()| undo)))
    }

    /// Whether its changes are those of its kind of fault, on such an object.
    ///
    /// # Errors
    /// What is not, in a sentence.
    pub fn check(&self, on: ObjectKind) -> Result<(), String> {
        if self.fault.parse::<FaultId>().is_err() {
            return Err("its record names no fault's id, and is not followed".into());
        }
        let [change] = self.changes.as_slice() else {
            return Err("its record is of several changes, which no fault makes".into());
        };
        if is_made_by(&self.kind, on, change, &self.fault) {
            return Ok(());
        }
        let path = change.path();
        Err(format!(
            "its record would have {path} changed in a way that no {} does, and is not followed; somebody else wrote \
             it",
            self.kind
        ))
    }
}

impl Change {
    fn path(&self) -> &str {
        match self {
            Self::Value { path, .. } | Self::Item { path, .. } => path,
        }
    }
}

fn is_made_by(kind: &str, on: ObjectKind, change: &Change, fault: &str) -> bool {
    match change {
        Change::Value { path, before, ours } => {
            let before = before.as_ref();
            match kind {
                cordon::NAME | drain::NAME => {
                    on == ObjectKind::Node
                        && path == cordon::UNSCHEDULABLE
                        && *ours == Value::Bool(true)
                        && before.is_none_or(|before| *before == Value::Bool(false))
                }
                scale::NAME => {
                    scale::SCALED.contains(&on)
                        && path == scale::REPLICAS
                        && ours.is_u64()
                        && before.is_none_or(Value::is_u64)
                }
                unschedulable::NAME => {
                    let selector = format!(
                        "/spec/template/spec/nodeSelector/{}",
                        escaped(unschedulable::NO_NODE)
                    );
                    unschedulable::SCHEDULED.contains(&on)
                        && *path == selector
                        && *ours == fault
                        && before.is_none()
                }
                image_pull::NAME => {
                    ROLLED.contains(&on)
                        && is_image(path)
                        && *ours == image_pull::image(fault)
                        && before.is_some_and(Value::is_string)
                }
                _ => false,
            }
        }
        Change::Item { path, ours } => {
            kind == taint::NAME && on == ObjectKind::Node && path == taint::TAINTS && is_taint(ours)
        }
    }
}

/// Whether this is the image of a container of a template.
fn is_image(path: &str) -> bool {
    let rest = path.strip_prefix(image_pull::CONTAINERS).and_then(|rest| rest.strip_prefix('/'));
    rest.and_then(|rest| rest.strip_suffix("/image")).is_some_and(|at| at.parse::<usize>().is_ok())
}

fn is_taint(item: &Value) -> bool {
    let Some(fields) = item.as_object() else { return false };
    let text = |name: &str| fields.get(name).and_then(Value::as_str);
    let (Some(key), Some(_), Some(effect)) = (text("key"), text("value"), text("effect")) else {
        return false;
    };
    let is_effect = taint::EFFECTS.iter().any(|(name, _)| *name == effect);
    fields.len() == 3 && !key.is_empty() && is_effect && !taint::is_reserved(key)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const FAULT: &str = "00000000000000a1";

    fn value(kind: &str, path: &str, before: Option<Value>, ours: Value) -> Undo {
        Undo::new("r", FAULT, kind, 7, vec![Change::Value { path: path.into(), before, ours }])
    }

    fn taint(ours: Value) -> Undo {
        let path = "/spec/taints".into();
        Undo::new("r", FAULT, "taint", 7, vec![Change::Item { path, ours }])
    }

    #[test]
    fn what_faults_write_is_followed() {
        let selector = "/spec/template/spec/nodeSelector/faultline.dev~1unschedulable";
        let image = "/spec/template/spec/containers/0/image";
        let ours = image_pull::image(FAULT);
        for (undo, on) in [
            (value("cordon", "/spec/unschedulable", None, true.into()), ObjectKind::Node),
            (
                value("drain", "/spec/unschedulable", Some(false.into()), true.into()),
                ObjectKind::Node,
            ),
            (value("scale", "/spec/replicas", Some(3.into()), 0.into()), ObjectKind::ReplicaSet),
            (value("unschedulable", selector, None, FAULT.into()), ObjectKind::StatefulSet),
            (value("imagePull", image, Some("a:1".into()), ours.into()), ObjectKind::DaemonSet),
            (
                taint(json!({"key": "example.com/a", "value": "b", "effect": "NoExecute"})),
                ObjectKind::Node,
            ),
        ] {
            assert_eq!(undo.check(on), Ok(()), "{undo:?}");
        }
    }

    #[test]
    fn what_no_fault_writes_is_not_followed() {
        let on_node = [
            value("cordon", "/metadata/labels", None, true.into()),
            value("cordon", "/spec/taints", Some(json!([])), true.into()),
            value("cordon", "/spec/unschedulable", Some(true.into()), false.into()),
            value("scale", "/spec/replicas", Some(3.into()), 0.into()),
            taint(json!({})),
            taint(json!({"key": "a"})),
            taint(
                json!({"key": "node-role.kubernetes.io/control-plane", "value": "", "effect": "NoSchedule"}),
            ),
            Undo::new("r", FAULT, "cordon", 7, Vec::new()),
            Undo::new(
                "r",
                "a",
                "cordon",
                7,
                value("cordon", "/spec/unschedulable", None, true.into()).changes,
            ),
        ];
        for undo in on_node {
            undo.check(ObjectKind::Node).expect_err(&format!("{undo:?}"));
        }
        let image = "/spec/template/spec/containers/0/image";
        for undo in [
            value("imagePull", image, Some("evil:1".into()), "a:1".into()),
            value(
                "imagePull",
                "/spec/template/spec/containers/0/command",
                Some("x".into()),
                image_pull::image(FAULT).into(),
            ),
            value("unschedulable", "/spec/template/spec/nodeSelector/disk", None, FAULT.into()),
            value("scale", "/spec/paused", Some(3.into()), 0.into()),
        ] {
            undo.check(ObjectKind::Deployment).expect_err(&format!("{undo:?}"));
        }
    }
}
