//! The change itself: written at one instant, in one request for each object, and tried again on what somebody else
//! has changed in between.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use faultline_proto::{
    fault::Hold,
    pb,
    status::{Proof, State},
};
use futures::future::join_all;
use kube::api::{DeleteParams, Preconditions};
use tokio::{sync::oneshot, time};

use super::{
    FaultError, Injector, hold,
    injector::Shared,
    restore::{bears, read, write_one},
};
use crate::cluster::ClusterError;

/// How much later than its planned end a fault is restored by whoever finds it: the run does that itself at its
/// end, and should not have to race for it.
pub const DEADLINE_SLACK: Duration = Duration::from_secs(10);
/// How often an object is planned anew that somebody else has changed.
const CONFLICTS_MAX: u32 = 10;

impl Injector {
    /// Injects what was prepared, at `at` or now.
    ///
    /// # Errors
    /// What was in the way, of the first that could not be done.
    pub async fn commit(
        &self,
        ids: &[String],
        at: Option<Instant>,
    ) -> Result<Vec<pb::InjectionStatus>, FaultError> {
        let committing = ids.iter().map(|id| self.commit_one(id.clone(), at));
        for done in join_all(committing).await {
            done?;
        }
        Ok(self.statuses(ids))
    }

    async fn commit_one(&self, id: String, at: Option<Instant>) -> Result<(), FaultError> {
        let (told, answer) = oneshot::channel();
        let shared = Arc::clone(&self.shared);
        // A task: whoever stops waiting for it has not stopped the API server.
        let task = tokio::spawn({
            let id = id.clone();
            async move {
                if let Some(at) = at {
                    time::sleep_until(at.into()).await;
                }
                drop(told.send(shared.commit(&id).await));
            }
        });
        self.shared.with(&id, |held| held.committing = Some(task));
        let unknown = || FaultError::Impossible(format!("nothing is prepared by the id {id}"));
        answer.await.unwrap_or_else(|_gone| Err(unknown()))
    }
}

impl Shared {
    /// Injects one fault, and begins to look for its effect.
    async fn commit(self: &Arc<Self>, id: &str) -> Result<(), FaultError> {
        let generation = self.change(id).await?;
        let began = Instant::now();
        self.with(id, |held| {
            held.committed = Some(began);
            let window = held.injection.spec.proof_window();
            let lasts = match held.injection.spec.hold() {
                Hold::Lasts => held.injection.lasts,
                Hold::Instant => window,
            };
            held.deadline = Some(began + lasts + DEADLINE_SLACK);
            // One that is taken back already is not brought to life again.
            if held.state == State::Prepared {
                held.state = State::Active;
                held.proof = Proof::Pending;
                let looking = tokio::spawn(hold::look(Arc::clone(self), id.to_owned(), generation));
                held.tasks.push(looking.abort_handle());
                for pod in &held.planned.evict {
                    let evicting = hold::evict(Arc::clone(self), id.to_owned(), pod.clone());
                    held.tasks.push(tokio::spawn(evicting).abort_handle());
                }
            }
        });
        Ok(())
    }

    /// Writes the change of a fault. Returns the generation of the object that this made; 0 where there is none.
    async fn change(&self, id: &str) -> Result<i64, FaultError> {
        let none = || FaultError::Impossible(format!("nothing is prepared by the id {id}"));
        for attempt in 0..CONFLICTS_MAX {
            if attempt > 0 {
                let injection = self.with(id, |held| held.injection.clone()).ok_or_else(none)?;
                let (object, planned) = self.plan(&injection).await?;
                self.with(id, |held| (held.object, held.planned) = (object, planned));
            }
            let what = self.with(id, |held| {
                let on = held.injection.object.clone();
                if let Some(grace) = held.planned.delete {
                    return (on, Change::Delete(grace));
                }
                if let Some(mark) = &held.planned.mark {
                    return (on, Change::Patch(mark.clone()));
                }
                let undo = held.record(DEADLINE_SLACK);
                let patch = undo.put(&held.object);
                // From now on it may be there.
                held.undo = Some(undo);
                held.is_unknown = true;
                (on, Change::Patch(patch))
            });
            let (on, change) = what.ok_or_else(none)?;
            let patch = match change {
                Change::Delete(grace) => {
                    let uid = on.uid.clone();
                    let params = DeleteParams {
                        grace_period_seconds: grace,
                        preconditions: Some(Preconditions { uid, resource_version: None }),
                        ..DeleteParams::default()
                    };
                    let api = on.api(self.connection.client());
                    self.connection
                        .answer(on.asked("delete"), api.delete(&on.name, &params))
                        .await?;
                    return Ok(0);
                }
                Change::Patch(patch) => patch,
            };
            let written = write_one(&self.connection, &on, &patch, false).await;
            let unknown = written.as_ref().is_err_and(is_unknown);
            self.with(id, |held| held.is_unknown = unknown);
            if let Some(now) = written? {
                return Ok(generation(&now));
            }
            // A client asks again by itself where an answer was lost, and what is in the way then is the change itself.
            let now = read(&self.connection, &on).await?;
            if let Some(now) = now.filter(|now| bears(now, id)) {
                return Ok(generation(&now));
            }
        }
        let object = self.with(id, |held| held.injection.object.clone()).ok_or_else(none)?;
        Err(FaultError::Contended { object: Box::new(object) })
    }
}

/// Whether nobody knows if a write was done: it was not answered, or by something in between, or by a server that
/// failed over it.
fn is_unknown(error: &FaultError) -> bool {
    match error {
        FaultError::Cluster(error) => match error {
            ClusterError::Unreachable { .. }
            | ClusterError::NoAnswer { .. }
            | ClusterError::Nonsense { .. } => true,
            ClusterError::Refused { code, .. } => *code >= 500,
            _ => false,
        },
        _ => false,
    }
}

fn generation(object: &serde_json::Value) -> i64 {
    object["metadata"]["generation"].as_i64().unwrap_or(0)
}

enum Change {
    Delete(Option<u32>),
    Patch(serde_json::Value),
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::error::Asked;

    #[test]
    fn a_server_that_failed_over_a_write_may_have_done_it() {
        let refused = |code| {
            let asked = Box::new(Asked::new("patch", "deployments.apps"));
            FaultError::Cluster(ClusterError::Refused { asked, code, why: "timed out".into() })
        };
        for code in [500, 503, 504] {
            assert!(is_unknown(&refused(code)), "{code}");
        }
        for code in [403, 404, 409, 422, 429] {
            assert!(!is_unknown(&refused(code)), "{code}");
        }
        assert!(!is_unknown(&FaultError::Impossible("it is paused".into())));
    }
}
