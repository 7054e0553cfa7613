//! What goes on while a fault is in effect: its effect is looked for, pods are evicted, and somebody else's revert
//! is noticed.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use faultline_proto::{
    fault::Hold,
    status::{Proof, RevertReason, State},
};
use kube::{
    Api,
    api::{DynamicObject, PostParams},
};
use serde_json::Value;
use tokio::time;

use super::{
    Look, Object, ObjectKind, PodRef, Sight, Undo,
    injector::{Shared, eviction, restored_by},
    restore::read,
};
use crate::{cluster::error::Asked, run::one_line};

/// Between two looks for an effect: at what is known of pods, which costs nothing.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// Between two questions for the object meanwhile.
pub(super) const ASK_EVERY: Duration = Duration::from_millis(300);
/// The same once its effect is proven.
const HOLD_EVERY: Duration = Duration::from_secs(2);
/// Before a fault is taken back, its effect should have been seen.
const BEFORE_END: Duration = Duration::from_millis(300);
/// How long one goes on removing what somebody who restored an object has left beside it.
const REVERT_MAX: Duration = Duration::from_secs(20);
/// Between two attempts at an eviction that a budget does not allow yet.
const EVICT_EVERY: Duration = Duration::from_secs(1);

/// Looks for the effect of a fault until it is proven or should have been, and then whether it is still there.
pub(super) async fn look(shared: Arc<Shared>, id: String, generation: i64) {
    let mut object: Option<Value> = None;
    let mut asked: Option<Instant> = None;
    loop {
        let known = shared.with(&id, |held| {
            let every = if held.proof == Proof::Pending { ASK_EVERY } else { HOLD_EVERY };
            (held.injection.object.clone(), every, held.undo.clone())
        });
        let Some((on, every, undo)) = known else { return };
        let is_due = asked.is_none_or(|asked| asked.elapsed() >= every);
        if on.kind != ObjectKind::Pod && is_due {
            asked = Some(Instant::now());
            // Whoever does not answer now is asked again.
            if let Ok(found) = read(&shared.connection, &on).await {
                if let Some(undo) = undo
                    && is_restored(&on, found.as_ref(), &undo)
                {
                    let by =
                        if found.is_some() { restored_by(&undo) } else { RevertReason::TargetGone };
                    shared.with(&id, |held| {
                        if held.state == State::Active {
                            held.reason.get_or_insert(by);
                        }
                    });
                    // Not awaited: it ends this look. It looks at what is left beside the object, and says who it was.
                    tokio::spawn(async move {
                        shared.revert(&id, Instant::now() + REVERT_MAX).await;
                    });
                    return;
                }
                object = found;
            }
        }
        let pods = shared.pods.state();
        let is_over = shared.with(&id, |held| {
            if held.proof != Proof::Pending {
                return held.injection.spec.hold() == Hold::Instant;
            }
            let look = Look {
                on: &held.injection.object,
                object: object.as_ref(),
                pods: &pods,
                planned: &held.planned,
                generation,
                fault: &held.injection.fault_id,
            };
            let sight = held.injection.spec.look(&look);
            let committed = held.committed.unwrap_or_else(Instant::now);
            let mut window = held.injection.spec.proof_window();
            window = window.min(held.injection.lasts.saturating_sub(BEFORE_END));
            match sight {
                Sight::Proven(evidence) => {
                    held.proof = Proof::Proven;
                    held.proven = Some(Instant::now());
                    held.evidence = evidence;
                }
                Sight::Missing(what) if committed.elapsed() >= window => {
                    held.proof = Proof::Failed;
                    let blocked = std::mem::take(&mut held.blocked);
                    let blocked =
                        if blocked.is_empty() { blocked } else { format!(" ({blocked})") };
                    held.evidence = format!(
                        "{what}{blocked}, {} later",
                        crate::report::time(committed.elapsed())
                    );
                }
                Sight::Missing(what) => held.evidence = what,
            }
            false
        });
        if is_over != Some(false) {
            return;
        }
        let pending = shared.with(&id, |held| held.proof == Proof::Pending);
        time::sleep(if pending == Some(true) { LOOK_EVERY } else { ASK_EVERY }).await;
    }
}

/// Whether somebody has restored the object, or it has gone. One whose record alone was removed is not restored.
fn is_restored(on: &Object, object: Option<&Value>, undo: &Undo) -> bool {
    let Some(object) = object else { return true };
    match Undo::borne(on.kind, object) {
        Some(Ok(found)) => found.fault != undo.fault,
        Some(Err(_unreadable)) => false,
        None => !undo.is_in(object),
    }
}

/// Has a pod evicted, as soon as its budgets allow it, and as long as the fault is in effect.
pub(super) async fn evict(shared: Arc<Shared>, id: String, pod: PodRef) {
    let Ok(client) = shared.connection.client_without_retry() else { return };
    let PodRef { namespace, name, uid } = &pod;
    let kind = ObjectKind::Pod.api_resource();
    let api: Api<DynamicObject> = Api::namespaced_with(client, namespace, &kind);
    let body = eviction(namespace, name, uid);
    while shared.with(&id, |held| held.state == State::Active) == Some(true) {
        let asked = Asked::new("create", "pods/eviction").within(namespace).named(name);
        let params = PostParams::default();
        let evicting = api.create_subresource::<Value, Value>("eviction", name, &params, &body);
        match shared.connection.answer(asked, evicting).await {
            Ok(_) => return,
            // It has gone, or another one has its name.
            Err(error) if error.is_not_found() || error.is_conflict() => return,
            Err(error) => {
                let why = one_line(&error);
                shared.with(&id, |held| {
                    // It may be evicted yet; what it waits for is told if it is not.
                    if held.state == State::Active {
                        held.blocked = why;
                    }
                });
            }
        }
        time::sleep(EVICT_EVERY).await;
    }
}
