//! A pod's container, by identity: names may come back, uids and ids do not.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{InvalidWire, pb};

/// What a fault is on: a pod, and a container of it where the fault kind needs one.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Target {
    /// The pod's namespace.
    pub namespace: String,
    /// The pod's name.
    pub pod: String,
    /// The pod's uid: a UUID, or 32 hexadecimal digits for a static pod.
    pub uid: String,
    /// The container, or `None` for the pod as a whole.
    pub container: Option<Container>,
}

/// A container, by name and by the id its runtime gave it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Container {
    /// Its name in the pod.
    pub name: String,
    /// 64 lower-case hexadecimal digits.
    pub id: String,
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.pod)?;
        match &self.container {
            Some(container) => write!(f, "[{}]", container.name),
            None => Ok(()),
        }
    }
}

/// Whether `text` is a pod uid: hexadecimal digits, 32 of them, with or without a UUID's dashes.
pub fn is_pod_uid(text: &str) -> bool {
    let hex = |part: &str| part.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    match text.len() {
        32 => hex(text),
        36 => {
            let parts: Vec<&str> = text.split('-').collect();
            parts.iter().map(|p| p.len()).eq([8, 4, 4, 4, 12]) && parts.iter().all(|p| hex(p))
        }
        _ => false,
    }
}

/// Whether `text` is a container id: 64 lower-case hexadecimal digits.
pub fn is_container_id(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

/// Whether `text` can be a Kubernetes object's name (RFC 1123 subdomain, 253 bytes).
pub fn is_object_name(text: &str) -> bool {
    let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'.';
    let edge = |b: Option<&u8>| b.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    let bytes = text.as_bytes();
    bytes.len() <= 253
        && bytes.iter().all(|b| inner(*b))
        && edge(bytes.first())
        && edge(bytes.last())
}

impl TryFrom<pb::Target> for Target {
    type Error = InvalidWire;

    fn try_from(wire: pb::Target) -> Result<Self, InvalidWire> {
        let name = |field: &str, text: &str| {
            let problem = || format!("expected a Kubernetes name, got {text:?}");
            if is_object_name(text) { Ok(()) } else { Err(InvalidWire::new(field, problem())) }
        };
        name("pod_namespace", &wire.pod_namespace)?;
        name("pod_name", &wire.pod_name)?;
        if !is_pod_uid(&wire.pod_uid) {
            let problem =
                format!("expected a UUID or 32 hexadecimal digits, got {:?}", wire.pod_uid);
            return Err(InvalidWire::new("pod_uid", problem));
        }
        let container = if wire.container_id.is_empty() && wire.container_name.is_empty() {
            None
        } else {
            name("container_name", &wire.container_name)?;
            if !is_container_id(&wire.container_id) {
                let problem = format!(
                    "expected 64 lower-case hexadecimal digits, got {:?}",
                    wire.container_id
                );
                return Err(InvalidWire::new("container_id", problem));
            }
            Some(Container { name: wire.container_name, id: wire.container_id })
        };
        Ok(Self { namespace: wire.pod_namespace, pod: wire.pod_name, uid: wire.pod_uid, container })
    }
}

impl From<Target> for pb::Target {
    fn from(target: Target) -> Self {
        let (container_name, container_id) =
            target.container.map_or_else(Default::default, |c| (c.name, c.id));
        Self {
            pod_namespace: target.namespace,
            pod_name: target.pod,
            pod_uid: target.uid,
            container_name,
            container_id,
        }
    }
}
