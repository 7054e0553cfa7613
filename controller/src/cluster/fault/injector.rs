//! Who injects through the API server, as an agent does on its node: prepares, commits, tells, reverts.
//!
//! What it does ends without it: the record on each object says how, and `faultline controller` does it at the
//! deadline. So there is no lease to renew, and a run that has gone leaves a fault until its deadline.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use faultline_proto::{
    fault::Hold,
    id::RunId,
    pb,
    status::{RevertReason, State},
};
use futures::future::join_all;
use k8s_openapi::api::{autoscaling::v1::HorizontalPodAutoscaler, core::v1};
use kube::{
    Api,
    api::{DeleteParams, ListParams},
    runtime::reflector::Store,
};
use serde_json::{Value, json};
use tokio::time;

use super::{
    Before, FaultError, LABEL, Object, Planned, RESTORED, Spec, TakenBack, Undo, access,
    held::{Held, own_clock},
    restore::{fence, read, take_back, write},
    undo::label,
};
use crate::{
    agents::AgentClock,
    cluster::{ClusterError, Home, connect::Connection, error::Asked, halt::Halt, stand_by},
};

/// What stands where the node of a fault on a node does.
pub const API_SERVER: &str = "API server";

/// A fault on one object, to be injected.
#[derive(Debug, Clone)]
pub struct Injection {
    /// Its id.
    pub fault_id: String,
    /// On what.
    pub object: Object,
    /// What.
    pub spec: Spec,
    /// For how long, from the commit on.
    pub lasts: Duration,
    /// The uids of the pods that it may take down: those that were found to be such as may be.
    pub hits: Vec<String>,
}

/// The faults of a run through the API server. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Injector {
    pub(super) shared: Arc<Shared>,
}

pub(super) struct Shared {
    pub(super) connection: Connection,
    pub(super) pods: Store<v1::Pod>,
    pub(super) clock: AgentClock,
    /// The namespace of the installation, or where it would be.
    home: Home,
    /// Whether nobody has to stand by who would take back what is left.
    without_controller: bool,
    held: Mutex<BTreeMap<String, Held>>,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Injector").field("connection", &self.connection).finish_non_exhaustive()
    }
}

impl Shared {
    pub(super) fn held(&self) -> MutexGuard<'_, BTreeMap<String, Held>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does something with a fault, if it is known.
    pub(super) fn with<T>(&self, fault: &str, work: impl FnOnce(&mut Held) -> T) -> Option<T> {
        self.held().get_mut(fault).map(work)
    }
}

impl Injector {
    /// With a look at all pods of the cluster.
    pub(in crate::cluster) fn new(
        connection: Connection,
        pods: Store<v1::Pod>,
        home: Home,
        without_controller: bool,
    ) -> Self {
        let (clock, held) = (own_clock(), Mutex::default());
        let shared = Shared { connection, pods, clock, home, without_controller, held };
        Self { shared: Arc::new(shared) }
    }

    /// Why everything is halted; `None` if it is not.
    ///
    /// # Errors
    /// When it is not told.
    pub async fn halted(&self) -> Result<Option<String>, ClusterError> {
        let Shared { connection, home, .. } = &*self.shared;
        if !home.is_meant {
            return Ok(None);
        }
        Halt::new(connection.clone(), &home.namespace).reason().await
    }

    /// Checks that nothing is halted; and for what lasts, that it would be taken back, and when it should.
    async fn check(&self, injections: &[Injection]) -> Result<(), FaultError> {
        if let Some(reason) = self.halted().await? {
            return Err(FaultError::Impossible(format!(
                "everything is halted ({reason}); `faultline resume` ends that"
            )));
        }
        if injections.iter().all(|injection| injection.spec.hold() == Hold::Instant) {
            return Ok(());
        }
        let Shared { connection, home, without_controller, .. } = &*self.shared;
        stand_by::check(connection, &home.namespace, *without_controller).await
    }

    /// The clock that its times are told by.
    pub fn clock(&self) -> AgentClock {
        self.shared.clock
    }

    /// Plans faults, asks whether all of it is allowed and would be accepted, and keeps them unless it is a
    /// `dry_run`. Nothing is changed.
    ///
    /// # Errors
    /// What is in the way of each.
    pub async fn prepare(
        &self,
        run: RunId,
        injections: &[Injection],
        dry_run: bool,
    ) -> Result<Vec<pb::Prepared>, Vec<FaultError>> {
        for (at, injection) in injections.iter().enumerate() {
            let object = &injection.object;
            if injections[..at].iter().any(|other| other.object == *object) {
                let why = format!("two faults of one step are on {object}: make two steps of it");
                return Err(vec![FaultError::Impossible(why)]);
            }
        }
        self.check(injections).await.map_err(|error| vec![error])?;
        let run = run.to_string();
        let planning = injections.iter().map(|injection| self.shared.prepare(&run, injection));
        let (mut prepared, mut errors) = (Vec::new(), Vec::new());
        for planned in join_all(planning).await {
            match planned {
                Ok(held) => prepared.push(held),
                Err(error) => errors.push(error),
            }
        }
        if !errors.is_empty() {
            return Err(errors);
        }
        let told = |held: &Held| pb::Prepared {
            fault_id: held.injection.fault_id.clone(),
            plan: held.planned.text.clone(),
        };
        let told = prepared.iter().map(told).collect();
        if !dry_run {
            let mut all = self.shared.held();
            all.extend(prepared.into_iter().map(|held| (held.injection.fault_id.clone(), held)));
        }
        Ok(told)
    }

    /// What is known of some faults.
    pub fn statuses(&self, ids: &[String]) -> Vec<pb::InjectionStatus> {
        let held = self.shared.held();
        let known = ids.iter().filter_map(|id| held.get(id));
        known.map(|held| held.status(&self.shared.clock)).collect()
    }

    /// What is known of all.
    pub fn all_statuses(&self) -> Vec<pb::InjectionStatus> {
        let held = self.shared.held();
        held.values().map(|held| held.status(&self.shared.clock)).collect()
    }

    /// Takes faults back, and looks that nothing is left of them. What cannot be done by then is told as being
    /// reverted still.
    pub async fn revert(&self, ids: &[String], within: Duration) -> Vec<pb::InjectionStatus> {
        let until = Instant::now() + within;
        // Tasks: whoever stops waiting for it stops nothing that is half done.
        let reverting = ids.iter().map(|id| {
            let (shared, id) = (Arc::clone(&self.shared), id.clone());
            tokio::spawn(async move { shared.revert(&id, until).await })
        });
        if time::timeout_at(until.into(), join_all(reverting)).await.is_err() {
            let mut held = self.shared.held();
            for id in ids {
                let late = held.get_mut(id).filter(|held| held.state != State::Reverted);
                if let Some(held) = late.filter(|held| held.residue.is_empty()) {
                    held.residue =
                        vec![format!("{} is being restored still", held.injection.object)];
                }
            }
        }
        self.statuses(ids)
    }

    /// The same, of everything of this run.
    pub async fn revert_all(&self, within: Duration) -> Vec<pb::InjectionStatus> {
        let ids: Vec<String> = self.shared.held().keys().cloned().collect();
        self.revert(&ids, within).await
    }
}

impl Shared {
    /// Looks at an object, plans, and asks whether it is allowed and would be accepted.
    async fn prepare(&self, run: &str, injection: &Injection) -> Result<Held, FaultError> {
        let (object, planned) = self.plan(injection).await?;
        access::check(&self.connection, access::needs(&injection.object, &planned)).await?;
        let held = Held::new(run, injection.clone(), planned, object);
        self.rehearse(&held).await?;
        Ok(held)
    }

    /// The object as it is, and what would be done to it.
    pub(super) async fn plan(&self, injection: &Injection) -> Result<(Value, Planned), FaultError> {
        let on = &injection.object;
        let gone =
            || FaultError::Impossible(format!("there is no {} {on} (any more)", on.kind.word()));
        let object = read(&self.connection, on).await?.ok_or_else(gone)?;
        match Undo::borne(on.kind, &object) {
            None => {
                let left = label(&object, RESTORED).or_else(|| label(&object, LABEL));
                if let Some(fault) = left {
                    let (object, fault) = (Box::new(on.clone()), fault.to_owned());
                    return Err(FaultError::Swept { object, fault });
                }
            }
            Some(Ok(undo)) => {
                let (object, undo) = (Box::new(on.clone()), Box::new(undo));
                return Err(FaultError::Foreign { object, undo });
            }
            Some(Err(why)) => {
                return Err(FaultError::Unreadable { object: Box::new(on.clone()), why });
            }
        }
        let autoscalers = if injection.spec.minds_autoscalers() {
            self.autoscalers(on).await?
        } else {
            Vec::new()
        };
        let pods = self.pods.state();
        let before = Before {
            on,
            object: &object,
            pods: &pods,
            autoscalers: &autoscalers,
            fault: &injection.fault_id,
            hits: &injection.hits,
        };
        let planned = injection.spec.plan(&before).map_err(FaultError::Impossible)?;
        if !planned.changes.is_empty() {
            // What would not be taken back by whoever finds the record is not done.
            let changes = planned.changes.clone();
            let undo = Undo::new("", &injection.fault_id, injection.spec.kind(), 0, changes);
            undo.check(on.kind).map_err(|why| {
                FaultError::Impossible(format!("{on} could not be restored: {why}"))
            })?;
        }
        Ok((object, planned))
    }

    /// The names of the autoscalers that look after a workload.
    async fn autoscalers(&self, on: &Object) -> Result<Vec<String>, FaultError> {
        let Some(namespace) = &on.namespace else { return Ok(Vec::new()) };
        let api: Api<HorizontalPodAutoscaler> =
            Api::namespaced(self.connection.client(), namespace);
        let asked = Asked::new("list", "horizontalpodautoscalers.autoscaling").within(namespace);
        let listing = ListParams::default();
        let all = self.connection.answer(asked, api.list(&listing)).await?;
        let is_of = |autoscaler: &HorizontalPodAutoscaler| {
            let target = autoscaler.spec.as_ref().map(|spec| &spec.scale_target_ref);
            target.is_some_and(|target| {
                target.kind.eq_ignore_ascii_case(on.kind.word()) && target.name == on.name
            })
        };
        let found = all.items.into_iter().filter(is_of);
        Ok(found.filter_map(|autoscaler| autoscaler.metadata.name).collect())
    }

    /// Has the API server say whether it would accept what is planned, admission included.
    async fn rehearse(&self, held: &Held) -> Result<(), FaultError> {
        let on = &held.injection.object;
        if let Some(grace) = held.planned.delete {
            let params =
                DeleteParams { dry_run: true, grace_period_seconds: grace, ..Default::default() };
            let api = on.api(self.connection.client());
            self.connection.answer(on.asked("delete"), api.delete(&on.name, &params)).await?;
        }
        let patch = match (&held.planned.mark, held.planned.changes.is_empty()) {
            (Some(mark), _) => mark.clone(),
            (None, true) => return Ok(()),
            (None, false) => {
                // Somebody else may write it meanwhile, which is no reason against it.
                let mut patch = held.record(Duration::ZERO).put(&held.object);
                patch["metadata"]["resourceVersion"] = Value::Null;
                if let Some(metadata) = patch["metadata"].as_object_mut() {
                    metadata.remove("resourceVersion");
                }
                patch
            }
        };
        write(&self.connection, on, &patch, true).await?;
        Ok(())
    }

    /// Takes one fault back. What cannot be done until then is left as being reverted.
    pub(super) async fn revert(&self, id: &str, until: Instant) {
        let Some(reverting) = self.with(id, |held| Arc::clone(&held.reverting)) else { return };
        let Ok(_one) = time::timeout_at(until.into(), reverting.lock()).await else { return };
        let begun = self.with(id, |held| {
            if held.state == State::Reverted {
                return None;
            }
            held.state = State::Reverting;
            held.tasks.drain(..).for_each(|task| task.abort());
            Some(held.committing.take())
        });
        let Some(Some(committing)) = begun else { return };
        // What an API server was asked to do may still come: its answer is waited for.
        if let Some(mut committing) = committing
            && time::timeout_at(until.into(), &mut committing).await.is_err()
        {
            self.with(id, |held| {
                held.committing = Some(committing);
                held.residue =
                    vec!["the API server has not answered to the change itself yet".into()];
            });
            return;
        }
        let known = self.with(id, |held| {
            if held.committed.is_none() {
                // It was not in effect as far as anybody knows, so that nobody can have ended it.
                held.reason.get_or_insert(RevertReason::Asked);
            }
            (held.undo.clone(), held.is_unknown, held.injection.object.clone())
        });
        let Some((undo, is_unknown, object)) = known else { return };
        let Some(undo) = undo else {
            // Nothing was written that could be taken back.
            self.with(id, |held| held.end(RevertReason::Asked));
            return;
        };
        let result = async {
            if is_unknown {
                fence(&self.connection, &object).await?;
            }
            take_back(&self.connection, &object, Some(&undo), until).await
        };
        let result = result.await;
        self.with(id, |held| match result {
            Ok(taken) => {
                // Who sweeps what was restored before has not ended it: the first one has.
                let reason = *held.reason.get_or_insert(ended_by(&taken, &undo));
                held.changed_by_others.extend(taken.changed_by_others);
                held.is_unknown = false;
                if taken.ended_by_others {
                    held.failure = ENDED_BY_OTHERS.into();
                }
                if taken.left.is_empty() {
                    held.end(reason);
                } else {
                    held.residue = taken.left;
                }
            }
            Err(error) => {
                // It may be restored: who asks again finds no record then.
                held.reason.get_or_insert(RevertReason::Asked);
                held.remains(&error);
            }
        });
    }
}

/// What is said of a fault that somebody else has ended.
pub const ENDED_BY_OTHERS: &str =
    "somebody else changed what it had changed before its time was over";

/// Who has taken a fault back: the caller, or nobody, since its object has gone, or somebody else.
fn ended_by(taken: &TakenBack, undo: &Undo) -> RevertReason {
    if taken.by_caller {
        return RevertReason::Asked;
    }
    if taken.is_gone {
        return RevertReason::TargetGone;
    }
    restored_by(undo)
}

/// Who has restored an object that bears no record any more: whoever waits for its deadline, or a halt.
pub(super) fn restored_by(undo: &Undo) -> RevertReason {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let now = now.unwrap_or_default().as_millis();
    if now >= u128::from(undo.deadline_unix_ms) {
        RevertReason::Deadline
    } else {
        RevertReason::Halted
    }
}

/// That a pod is to be evicted, as servers of all versions read it.
pub(super) fn eviction(namespace: &str, name: &str, uid: &str) -> Value {
    json!({
        "metadata": {"namespace": namespace, "name": name},
        "deleteOptions": {"preconditions": {"uid": uid}},
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_workload_that_has_gone_is_no_halt() {
        let undo = |deadline| Undo::new("r", "f", "scale", deadline, Vec::new());
        let taken = TakenBack::default();
        assert_eq!(ended_by(&taken, &undo(u64::MAX)), RevertReason::Halted);
        assert_eq!(ended_by(&taken, &undo(0)), RevertReason::Deadline);
        let gone = TakenBack { is_gone: true, ..TakenBack::default() };
        assert_eq!(ended_by(&gone, &undo(u64::MAX)), RevertReason::TargetGone);
        let own = TakenBack { by_caller: true, ..TakenBack::default() };
        assert_eq!(ended_by(&own, &undo(u64::MAX)), RevertReason::Asked);
    }
}
