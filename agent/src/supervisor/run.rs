//! The loop: one request or one timer after the other, and those who wait for an outcome.

use std::{
    sync::mpsc::{Receiver, RecvTimeoutError},
    time::Duration,
};

use faultline_proto::{boottime::BootTime, id::FaultId, status::RevertReason};
use tokio::sync::oneshot;
use tracing::info;

use super::{
    amend::{AmendAnswer, AmendError},
    handle::{CommitAnswer, Request, RevertScope, Reverted, Unrecorded, When},
    held::{Held, Status},
    node::{COMMIT_ANSWER_MAX, NodeState},
    stuck::ResumeError,
};
use crate::kernel::clock;

/// The longest sleep: a bound on what a mistake in the timers could cost.
const SLEEP_MAX: Duration = Duration::from_secs(1);

/// Somebody who waits for injections to come to something.
enum Waiter {
    Commit {
        ids: Vec<FaultId>,
        until: BootTime,
        reply: oneshot::Sender<CommitAnswer>,
    },
    Amend {
        ids: Vec<FaultId>,
        until: BootTime,
        reply: oneshot::Sender<AmendAnswer>,
    },
    Revert {
        ids: Vec<FaultId>,
        unrecorded: Vec<Unrecorded>,
        reply: oneshot::Sender<Reverted>,
    },
    Halt {
        ids: Vec<FaultId>,
        kept: Result<(), String>,
        reply: oneshot::Sender<Result<Vec<Status>, String>>,
    },
    Shutdown {
        ids: Vec<FaultId>,
        reply: oneshot::Sender<Vec<Status>>,
    },
}

/// Runs until a shutdown has been answered, or nobody is left to ask.
pub(super) fn run(mut node: NodeState, queue: &Receiver<Request>) {
    let mut waiters: Vec<Waiter> = Vec::new();
    loop {
        let mut next = node.tick();
        node.meter();
        if let Some(at) = node.sweep_if_due() {
            next = Some(next.map_or(at, |next| next.min(at)));
        }
        if answer(&node, &mut waiters) {
            return;
        }
        for waiter in &waiters {
            if let Waiter::Commit { until, .. } | Waiter::Amend { until, .. } = waiter {
                next = Some(next.map_or(*until, |next| next.min(*until)));
            }
        }
        let sleep = next.map_or(SLEEP_MAX, |at| at.since(clock::now()).min(SLEEP_MAX));
        match queue.recv_timeout(sleep) {
            Ok(request) => take(&mut node, &mut waiters, request),
            Err(RecvTimeoutError::Timeout) => {}
            // Every handle is gone without a shutdown: nobody can renew a lease any more.
            Err(RecvTimeoutError::Disconnected) => {
                revert_all(&mut node, RevertReason::Shutdown);
                return;
            }
        }
    }
}

fn take(node: &mut NodeState, waiters: &mut Vec<Waiter>, request: Request) {
    match request {
        // Whoever has given up on it may have asked for something else meanwhile.
        Request::Prepare { reply, .. } if reply.is_closed() => {}
        Request::Amend { reply, .. } if reply.is_closed() => {}
        Request::Resume { reply, .. } if reply.is_closed() => {}
        Request::Prepare { run_id, items, dry_run, reply } => {
            let prepared = node.prepare(run_id, items, dry_run);
            if let Err(error) = &prepared {
                node.metrics.refused(error.word());
            }
            send(reply, prepared);
        }
        Request::Commit { ids, when: When { at, not_after }, reply } => {
            if let Err(error) = node.check_commit(&ids, not_after) {
                return send(reply, Err(error));
            }
            let at = at.filter(|at| *at > clock::now());
            for id in &ids {
                let Some(held) = node.held.get_mut(id) else { continue };
                (held.commit_at, held.commit_not_after) = (at, not_after);
                if at.is_none() {
                    node.inject(*id);
                }
            }
            let until = at.unwrap_or_else(clock::now).after(COMMIT_ANSWER_MAX);
            waiters.push(Waiter::Commit { ids, until, reply });
        }
        Request::Amend { items, not_after, reply } => {
            if is_past(not_after) {
                return send(reply, Err(AmendError::TooLate));
            }
            let ids = items.iter().map(|item| item.fault_id).collect();
            if let Err(error) = node.amend(items) {
                return send(reply, Err(error));
            }
            let until = clock::now().after(COMMIT_ANSWER_MAX);
            waiters.push(Waiter::Amend { ids, until, reply });
        }
        Request::Renew { ids, reply } => {
            send(reply, ids.into_iter().filter_map(|id| node.renew(id)).collect());
        }
        Request::Revert { scope, reply } => {
            let ids = in_scope(node, &scope);
            for id in &ids {
                node.revert(*id, RevertReason::Asked);
            }
            let unrecorded = node.revert_unknown(&ids);
            waiters.push(Waiter::Revert { ids, unrecorded, reply });
        }
        Request::List { reply } => send(reply, node.statuses()),
        Request::Halt { reason, for_good, reply } => {
            let kept = node.halt(reason, for_good);
            let ids = revert_all(node, RevertReason::Halted);
            waiters.push(Waiter::Halt { ids, kept, reply });
        }
        Request::Resume { acknowledged, not_after, reply } => {
            let late = is_past(not_after).then_some(ResumeError::TooLate);
            send(reply, late.map_or_else(|| node.resume(&acknowledged), Err));
        }
        Request::Condition { reply } => send(reply, node.condition()),
        Request::Shutdown { reply } => {
            node.is_closing = true;
            let ids = revert_all(node, RevertReason::Shutdown);
            waiters.push(Waiter::Shutdown { ids, reply });
        }
    }
}

/// Whether whoever asked has given up by now. A request may have waited in an agent that was stopped.
fn is_past(not_after: Option<BootTime>) -> bool {
    not_after.is_some_and(|not_after| not_after < clock::now())
}

/// Answers whoever waits for something that has come. Returns whether a shutdown is complete.
fn answer(node: &NodeState, waiters: &mut Vec<Waiter>) -> bool {
    let mut shut_down = false;
    let statuses =
        |ids: &[FaultId]| ids.iter().filter_map(|id| node.status(*id)).collect::<Vec<_>>();
    let settled = |ids: &[FaultId]| {
        ids.iter().all(|id| node.held.get(id).is_none_or(|h| h.life.is_settled()))
    };
    let is_answered = |ids: &[FaultId], until: BootTime| {
        let known = ids.iter().all(|id| node.held.get(id).is_none_or(Held::is_answered));
        known || clock::now() >= until
    };
    for waiter in std::mem::take(waiters) {
        match waiter {
            Waiter::Commit { ids, until, reply } if is_answered(&ids, until) => {
                send(reply, Ok(statuses(&ids)));
            }
            Waiter::Amend { ids, until, reply } if is_answered(&ids, until) => {
                send(reply, Ok(statuses(&ids)));
            }
            Waiter::Revert { ids, unrecorded, reply } if settled(&ids) => {
                send(reply, Reverted { injections: statuses(&ids), unrecorded });
            }
            Waiter::Halt { ids, kept, reply } if settled(&ids) => {
                send(reply, kept.map(|()| statuses(&ids)));
            }
            Waiter::Shutdown { ids, reply } if settled(&ids) => {
                // Before the answer: whoever has it may end the process.
                node.leave();
                info!("shut down");
                send(reply, statuses(&ids));
                shut_down = true;
            }
            waiting => waiters.push(waiting),
        }
    }
    shut_down
}

fn revert_all(node: &mut NodeState, reason: RevertReason) -> Vec<FaultId> {
    let ids: Vec<FaultId> = node.held.keys().copied().collect();
    for id in &ids {
        node.revert(*id, reason);
    }
    ids
}

fn in_scope(node: &NodeState, scope: &RevertScope) -> Vec<FaultId> {
    match scope {
        RevertScope::Faults(ids) => ids.clone(),
        RevertScope::Everything => node.held.keys().copied().collect(),
        RevertScope::Run(run_id) => {
            let all = node.statuses().into_iter();
            all.filter(|s| s.run_id == *run_id).map(|s| s.fault_id).collect()
        }
    }
}

/// Answers; whoever asked may have given up, and that is their affair.
fn send<T>(reply: oneshot::Sender<T>, answer: T) {
    drop(reply.send(answer));
}
