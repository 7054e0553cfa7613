//! The objects of a cluster that bear a record: what is in effect through the API server, whoever asked for it.

use std::collections::BTreeMap;

use kube::{
    Api,
    api::{DynamicObject, ListParams},
};

use serde_json::{Value, json};

use super::{
    ANNOTATION, CHANGED, FaultError, LABEL, Object, ObjectKind, RESTORED, Undo,
    restore::{read, write},
    undo::label,
};
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
        let undo = Undo::borne(kind, &value).unwrap_or_else(|| Err(without_record(&value)));
        Some(Self { object, fault, undo })
    }

    /// What an object bears that bore this, also without its label; `None` if nothing.
    fn still(&self, found: &Value) -> Option<Self> {
        let (object, fault) = (self.object.clone(), self.fault.clone());
        match Undo::borne(object.kind, found) {
            Some(Ok(undo)) => Some(Self { object, fault: undo.fault.clone(), undo: Ok(undo) }),
            Some(Err(why)) => Some(Self { object, fault, undo: Err(why) }),
            None => {
                let known = self.undo.as_ref().ok()?;
                let is_another = label(found, LABEL).is_some_and(|label| label != known.fault);
                (!is_another && known.is_in(found)).then(|| self.clone())
            }
        }
    }

    /// What is known of its record, where somebody has removed that meanwhile and left the label.
    #[must_use]
    pub fn remembering(mut self, known: &BTreeMap<Object, Self>, found: &DynamicObject) -> Self {
        let value = serde_json::to_value(found).unwrap_or_default();
        let is_lost = Undo::of(&value).is_none() && label(&value, RESTORED).is_none();
        if let Some(before) = known.get(&self.object)
            && is_lost
            && before.fault == self.fault
        {
            self.undo.clone_from(&before.undo);
        }
        self
    }
}

/// What an object with our label and without a record is.
fn without_record(object: &Value) -> String {
    if label(object, RESTORED).is_some() {
        "it is restored, and what is left beside it is being removed".into()
    } else {
        format!("its record {ANNOTATION} was removed by somebody else")
    }
}

/// Looks again at an object that is not found by its label any more. Returns what it bears, if it has not been
/// restored; then the label was removed by somebody else, and is put there again.
///
/// # Errors
/// When the API server does not answer, or does not let it be read or written.
pub async fn look_again(
    connection: &Connection,
    known: &Bearer,
) -> Result<Option<Bearer>, FaultError> {
    let Some(found) = read(connection, &known.object).await? else { return Ok(None) };
    let Some(bearer) = known.still(&found) else { return Ok(None) };
    if label(&found, LABEL).is_none() {
        let version = &found["metadata"]["resourceVersion"];
        let labels = json!({ LABEL: bearer.fault });
        let patch = json!({"metadata": {"labels": labels, "resourceVersion": version}});
        write(connection, &known.object, &patch, false).await?;
    }
    Ok(Some(bearer))
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
