//! How an object is restored from the record that it bears, whoever does it: the run that put it there,
//! `faultline controller` at the deadline, or `faultline halt`. Compare and swap, and read back.

use std::time::{Duration, Instant};

use faultline_proto::id::FaultId;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};
use tokio::time;

use super::{
    ANNOTATION, FaultError, LABEL, Object, RESTORED, Undo, sweep,
    undo::{label, unlabel},
};
use crate::cluster::connect::Connection;

/// Who writes, as the API server notes it.
pub(super) const FIELD_MANAGER: &str = "faultline";
/// How often an object is read anew because somebody else has written it.
const CONFLICTS_MAX: u32 = 10;
/// Between two attempts at something that may pass, at first and at most.
const AGAIN_MIN: Duration = Duration::from_millis(100);
const AGAIN_MAX: Duration = Duration::from_secs(3);

/// What became of an object that was to be restored.
#[derive(Debug, Clone, PartialEq)]
enum Restored {
    /// It has gone, and its record with it.
    Gone,
    /// It bears no such record, and nothing of the change.
    Clean,
    /// Somebody has restored it; whether what is left beside it has gone is not known.
    Before {
        /// The fault.
        fault: String,
    },
    /// It is as it was before, read back.
    Done {
        /// The record by which that was done.
        undo: Box<Undo>,
        /// What was not ours any more and was left, each in a sentence.
        changed_by_others: Vec<String>,
        /// Somebody else had ended the fault before.
        ended_by_others: bool,
    },
}

/// By what an object can be restored.
#[derive(Debug, PartialEq)]
enum Way {
    /// By its record, or by what is known of that.
    By(Box<Undo>),
    /// There is nothing to restore.
    Nothing(Restored),
}

/// By what an object can be restored whose record should be `known`. Pure.
///
/// # Errors
/// When nobody knows what it was before.
fn way(object: &Object, found: &Value, known: Option<&Undo>) -> Result<Way, FaultError> {
    let object = || Box::new(object.clone());
    match Undo::borne(object().kind, found) {
        Some(Err(why)) => return Err(FaultError::Unreadable { object: object(), why }),
        Some(Ok(undo)) if known.is_some_and(|known| known.fault != undo.fault) => {
            return Ok(Way::Nothing(Restored::Clean));
        }
        Some(Ok(undo)) => return Ok(Way::By(Box::new(undo))),
        None => {}
    }
    // A label of another fault is that one's business.
    let named =
        |name| label(found, name).filter(|fault| known.is_none_or(|known| known.fault == *fault));
    if let Some(fault) = named(RESTORED) {
        return Ok(Way::Nothing(Restored::Before { fault: fault.to_owned() }));
    }
    match (known, named(LABEL)) {
        // Somebody else has removed the record and left the change.
        (Some(known), _) if known.is_in(found) && !is_of_another(found, known) => {
            Ok(Way::By(Box::new(known.clone())))
        }
        (Some(known), Some(_)) => Ok(Way::Nothing(Restored::Before { fault: known.fault.clone() })),
        (None, Some(fault)) => {
            Err(FaultError::LostRecord { object: object(), fault: fault.to_owned() })
        }
        (_, None) => Ok(Way::Nothing(Restored::Clean)),
    }
}

/// Whether another fault has come to an object since.
fn is_of_another(found: &Value, known: &Undo) -> bool {
    label(found, LABEL).is_some_and(|fault| fault != known.fault)
}

/// Restores an object from the record of `known`, or from whatever record it bears.
///
/// # Errors
/// When the API server does not let it be read or written, or the record is not understood.
async fn restore(
    connection: &Connection,
    object: &Object,
    known: Option<&Undo>,
) -> Result<Restored, FaultError> {
    for _ in 0..CONFLICTS_MAX {
        let Some(found) = read(connection, object).await? else { return Ok(Restored::Gone) };
        let undo = match way(object, &found, known)? {
            Way::By(undo) => undo,
            Way::Nothing(restored) => return Ok(restored),
        };
        let is_lost = Undo::of(&found).is_none();
        let back = undo.take_back(&found, sweep::is_needed(object));
        match write(connection, object, &back.patch, false).await {
            Ok(true) => {}
            Ok(false) => continue,
            Err(FaultError::Cluster(error)) if error.is_not_found() => return Ok(Restored::Gone),
            Err(error) => return Err(error),
        }
        // What was written is believed when it is read.
        let now = read(connection, object).await?;
        if now.as_ref().is_some_and(|now| bears(now, &undo.fault)) {
            continue;
        }
        let mut changed_by_others = back.changed_by_others;
        if is_lost {
            changed_by_others.push(format!(
                "the record {ANNOTATION} was removed by somebody else, who left the change; it was taken back by who \
                 remembers it"
            ));
        }
        let ended_by_others = back.ended_by_others;
        return Ok(Restored::Done { undo, changed_by_others, ended_by_others });
    }
    Err(FaultError::Contended { object: Box::new(object.clone()) })
}

/// What came of taking a fault back.
#[derive(Debug, Default)]
pub struct TakenBack {
    /// Who restored the object: the caller, or somebody else before.
    pub by_caller: bool,
    /// The object has gone, and the fault with it.
    pub is_gone: bool,
    /// What was not ours any more and was left, each in a sentence.
    pub changed_by_others: Vec<String>,
    /// Somebody else had ended the fault before: what was changed was not as it was made any more.
    pub ended_by_others: bool,
    /// What is still there of it, each in a sentence. Empty: nothing.
    pub left: Vec<String>,
}

/// Restores an object and removes what is left beside it; its label goes last, so that whoever comes after somebody who
/// ended in between goes on with that. Tried again until `until` while what is in the way may
/// pass. `known` is the record that it should bear, where the caller knows.
///
/// # Errors
/// What was in the way last.
pub async fn take_back(
    connection: &Connection,
    object: &Object,
    known: Option<&Undo>,
    until: Instant,
) -> Result<TakenBack, FaultError> {
    let mut taken = TakenBack::default();
    let restored = patiently(until, || restore(connection, object, known)).await?;
    let fault = match restored {
        Restored::Gone => {
            taken.is_gone = true;
            return Ok(taken);
        }
        Restored::Clean => known.map(|undo| undo.fault.clone()),
        Restored::Before { fault } => Some(fault),
        Restored::Done { undo, changed_by_others, ended_by_others } => {
            taken.by_caller = true;
            taken.changed_by_others = changed_by_others;
            taken.ended_by_others = ended_by_others;
            Some(undo.fault)
        }
    };
    let Some(fault) = fault else { return Ok(taken) };
    if fault.parse::<FaultId>().is_err() {
        // What speaks of it is looked for by this text, which would be in much that is not ours.
        return Err(FaultError::LostRecord { object: Box::new(object.clone()), fault });
    }
    taken.left = patiently(until, || sweep::sweep(connection, object, &fault, until)).await?;
    if taken.left.is_empty() {
        patiently(until, || forget(connection, object, &fault)).await?;
    }
    Ok(taken)
}

/// Tries something until it works, or will not, or it is `until`. Each attempt is waited for: what an API server
/// was asked may be done.
async fn patiently<T, F: Future<Output = Result<T, FaultError>>>(
    until: Instant,
    attempt: impl Fn() -> F,
) -> Result<T, FaultError> {
    let mut again = AGAIN_MIN;
    loop {
        let error = match attempt().await {
            Ok(done) => return Ok(done),
            Err(error) => error,
        };
        if !error.may_pass() || Instant::now() + again >= until {
            return Err(error);
        }
        time::sleep(again).await;
        again = (again * 2).min(AGAIN_MAX);
    }
}

/// Whether an object bears the record of a fault.
pub(super) fn bears(object: &Value, fault: &str) -> bool {
    matches!(Undo::of(object), Some(Ok(undo)) if undo.fault == fault)
}

/// Takes the labels of a fault away that is restored, and of which nothing is left.
async fn forget(connection: &Connection, object: &Object, fault: &str) -> Result<(), FaultError> {
    for _ in 0..CONFLICTS_MAX {
        let Some(found) = read(connection, object).await? else { return Ok(()) };
        let is_named = [LABEL, RESTORED].iter().any(|name| label(&found, name) == Some(fault));
        if !is_named || Undo::of(&found).is_some() {
            return Ok(());
        }
        match write(connection, object, &unlabel(&found), false).await {
            Ok(true) => return Ok(()),
            Ok(false) => {}
            Err(FaultError::Cluster(error)) if error.is_not_found() => return Ok(()),
            Err(error) => return Err(error),
        }
    }
    Err(FaultError::Contended { object: Box::new(object.clone()) })
}

/// The object as the API server has it; `None` if there is none, or another of its name.
pub(super) async fn read(
    connection: &Connection,
    object: &Object,
) -> Result<Option<Value>, FaultError> {
    let api = object.api(connection.client());
    let found = match connection.answer(object.asked("get"), api.get(&object.name)).await {
        Err(error) if error.is_not_found() => return Ok(None),
        answer => answer?,
    };
    let is_it = object.uid.is_none() || found.metadata.uid == object.uid;
    Ok(is_it.then(|| serde_json::to_value(found).unwrap_or_default()))
}

/// Writes a merge patch that holds for one version of an object. Returns whether it was that version.
///
/// # Errors
/// When the API server refuses for another reason, or does not answer.
pub(super) async fn write(
    connection: &Connection,
    object: &Object,
    patch: &Value,
    dry_run: bool,
) -> Result<bool, FaultError> {
    let written = write_one(connection, object, patch, dry_run).await?;
    Ok(written.is_some())
}

/// The same, with what the object is then.
pub(super) async fn write_one(
    connection: &Connection,
    object: &Object,
    patch: &Value,
    dry_run: bool,
) -> Result<Option<Value>, FaultError> {
    let api = object.api(connection.client());
    let how = PatchParams {
        dry_run,
        field_manager: Some(FIELD_MANAGER.into()),
        ..PatchParams::default()
    };
    let patch = Patch::Merge(patch);
    let writing = api.patch(&object.name, &how, &patch);
    match connection.answer(object.asked("patch"), writing).await {
        Ok(now) => Ok(Some(serde_json::to_value(now).unwrap_or_default())),
        Err(error) if error.is_conflict() => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Makes sure that a write whose outcome nobody knows will not be done any more: it was for a version of the
/// object that is not the present one afterwards.
pub(super) async fn fence(connection: &Connection, object: &Object) -> Result<(), FaultError> {
    for label in [json!("fence"), Value::Null] {
        let patch = json!({"metadata": {"labels": {"faultline.dev/fence": label}}});
        match write(connection, object, &patch, false).await {
            Err(FaultError::Cluster(error)) if error.is_not_found() => return Ok(()),
            done => drop(done?),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::fault::{Change, ObjectKind};

    const FAULT: &str = "00000000000000a1";

    fn on() -> Object {
        let (namespace, name) = (Some("shop".into()), "api".into());
        Object { kind: ObjectKind::Deployment, namespace, name, uid: None }
    }

    fn undo() -> Undo {
        let path = "/spec/replicas".into();
        let change = Change::Value { path, before: Some(3.into()), ours: 0.into() };
        Undo::new("r", FAULT, "scale", 7, vec![change])
    }

    fn object(replicas: u32, labels: &Value) -> Value {
        json!({"metadata": {"resourceVersion": "5", "labels": labels}, "spec": {"replicas": replicas}})
    }

    #[test]
    fn a_change_whose_record_was_removed_is_restored_by_who_remembers_it() {
        for labels in [json!({}), json!({ LABEL: FAULT })] {
            let found = object(0, &labels);
            let known = way(&on(), &found, Some(&undo())).expect("it is remembered");
            assert_eq!(known, Way::By(Box::new(undo())));
        }
        let told = way(&on(), &object(0, &json!({ LABEL: FAULT })), None);
        let told = told.expect_err("nobody knows").to_string();
        assert!(told.contains("was removed by somebody else"), "{told}");
    }

    #[test]
    fn what_somebody_else_restored_is_swept_and_another_fault_is_let_be() {
        let before = Way::Nothing(Restored::Before { fault: FAULT.into() });
        let marked = json!({ LABEL: FAULT, RESTORED: FAULT });
        assert_eq!(way(&on(), &object(3, &marked), None).expect("marked"), before);
        let labelled = json!({ LABEL: FAULT });
        assert_eq!(way(&on(), &object(3, &labelled), Some(&undo())).expect("restored"), before);
        let other = json!({ LABEL: "00000000000000b2" });
        let found = way(&on(), &object(0, &other), Some(&undo())).expect("another's");
        assert_eq!(found, Way::Nothing(Restored::Clean));
        let found = way(&on(), &object(3, &json!({})), Some(&undo())).expect("clean");
        assert_eq!(found, Way::Nothing(Restored::Clean));
    }
}
