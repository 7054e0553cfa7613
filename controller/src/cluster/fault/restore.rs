//! How an object is restored from the record that it bears, whoever does it: the run that put it there,
//! `faultline controller` at the deadline, or `faultline halt`. Compare and swap, and read back.

use std::time::{Duration, Instant};

use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};
use tokio::time;

use super::{FaultError, LABEL, Object, Undo, sweep};
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
pub enum Restored {
    /// It has gone, and its record with it.
    Gone,
    /// It bears no such record.
    Clean,
    /// It is as it was before, read back.
    Done {
        /// The record that it bore.
        undo: Box<Undo>,
        /// What was not ours any more and was left, each in a sentence.
        changed_by_others: Vec<String>,
    },
}

/// Restores an object from the record of `fault`, or from whatever record it bears.
///
/// # Errors
/// When the API server does not let it be read or written, or the record is not understood.
pub async fn restore(
    connection: &Connection,
    object: &Object,
    fault: Option<&str>,
) -> Result<Restored, FaultError> {
    for _ in 0..CONFLICTS_MAX {
        let Some(found) = read(connection, object).await? else { return Ok(Restored::Gone) };
        let undo = match Undo::of(&found) {
            None => return forget_label(connection, object, &found, fault).await,
            Some(Err(why)) => {
                return Err(FaultError::Unreadable { object: Box::new(object.clone()), why });
            }
            Some(Ok(undo)) if fault.is_some_and(|fault| fault != undo.fault) => {
                return Ok(Restored::Clean);
            }
            Some(Ok(undo)) => undo,
        };
        let back = undo.take_back(&found);
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
        let changed_by_others = back.changed_by_others;
        return Ok(Restored::Done { undo: Box::new(undo), changed_by_others });
    }
    Err(FaultError::Contended { object: Box::new(object.clone()) })
}

/// What came of taking a fault back.
#[derive(Debug, Default)]
pub struct TakenBack {
    /// Who restored the object: the caller, or somebody else before.
    pub by_caller: bool,
    /// What was not ours any more and was left, each in a sentence.
    pub changed_by_others: Vec<String>,
    /// What is still there of it, each in a sentence. Empty: nothing.
    pub left: Vec<String>,
}

/// Restores an object and removes what is left beside it; tried again until `until` while what is in the way may
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
    let fault = known.map(|undo| undo.fault.as_str());
    let mut sweeps = known.cloned();
    let restored = patiently(until, || restore(connection, object, fault)).await?;
    match restored {
        Restored::Gone => return Ok(taken),
        Restored::Clean => {}
        Restored::Done { undo, changed_by_others } => {
            taken.by_caller = true;
            taken.changed_by_others = changed_by_others;
            sweeps = Some(*undo);
        }
    }
    if let Some(undo) = sweeps {
        taken.left = patiently(until, || sweep::sweep(connection, object, &undo)).await?;
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

fn bears(object: &Value, fault: &str) -> bool {
    matches!(Undo::of(object), Some(Ok(undo)) if undo.fault == fault)
}

/// Takes a label away that was left without a record: somebody else removed only that.
async fn forget_label(
    connection: &Connection,
    object: &Object,
    found: &Value,
    fault: Option<&str>,
) -> Result<Restored, FaultError> {
    let labelled = found.pointer("/metadata/labels").and_then(|labels| labels[LABEL].as_str());
    if labelled.is_some_and(|label| fault.is_none_or(|fault| fault == label)) {
        let version = &found["metadata"]["resourceVersion"];
        let labels = json!({ LABEL: null });
        let patch = json!({"metadata": {"labels": labels, "resourceVersion": version}});
        write(connection, object, &patch, false).await?;
    }
    Ok(Restored::Clean)
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
