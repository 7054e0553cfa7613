//! The objects of a cluster that bear a record: what is in effect through the API server, whoever asked for it.

use kube::{
    Api,
    api::{DynamicObject, ListParams},
};

use super::{CHANGED, LABEL, Object, ObjectKind, Undo};
use crate::cluster::{ClusterError, connect::Connection, error::Asked};

/// An object with a record, or with the label that goes with one.
#[derive(Debug, Clone, PartialEq)]
pub struct Bearer {
    /// The object.
    pub object: Object,
    /// The fault that its label names.
    pub fault: String,
    /// Its record; why there is none that could be read.
    pub undo: Result<Undo, String>,
}

impl Bearer {
    /// What an object bears; `None` if nothing.
    pub fn of(kind: ObjectKind, found: &DynamicObject) -> Option<Self> {
        let fault = found.metadata.labels.as_ref()?.get(LABEL)?.clone();
        let object = Object {
            kind,
            namespace: found.metadata.namespace.clone(),
            name: found.metadata.name.clone()?,
            uid: None,
        };
        let value = serde_json::to_value(found).unwrap_or_default();
        let undo = Undo::of(&value).unwrap_or_else(|| Err("its record is gone".into()));
        Some(Self { object, fault, undo })
    }
}

/// Looks for them, by their label. Also returns which kinds could not be looked at, and why.
pub async fn find(connection: &Connection) -> (Vec<Bearer>, Vec<ClusterError>) {
    let labelled = ListParams::default().labels(LABEL);
    let of_kind = |kind: ObjectKind| {
        let api: Api<DynamicObject> = Api::all_with(connection.client(), &kind.api_resource());
        let labelled = labelled.clone();
        async move {
            let asked = Asked::new("list", kind.full_resource());
            let found = connection.answer(asked, api.list(&labelled)).await?;
            let bearers = found.items.iter().filter_map(|found| Bearer::of(kind, found));
            Ok::<Vec<Bearer>, ClusterError>(bearers.collect())
        }
    };
    let (mut bearers, mut errors) = (Vec::new(), Vec::new());
    for answer in futures::future::join_all(CHANGED.map(of_kind)).await {
        match answer {
            Ok(found) => bearers.extend(found),
            Err(error) => errors.push(error),
        }
    }
    (bearers, errors)
}
