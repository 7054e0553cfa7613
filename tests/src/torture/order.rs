//! The controller of a round: prepares, commits, renews and changes each fault by itself, until it is
//! told to stop or dies, and remembers until when each may last by what it was told.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use faultline::agents::{ANSWER_MAX, AgentError, Fleet};
use faultline_proto::{
    boottime::BootTime, fault::Scope, id::RunId, limits::RENEWALS_PER_LEASE, pb,
};
use tokio::{task::JoinSet, time::sleep};

use super::{draw::Drawn, measure::now, node::Node};

/// What is known of one fault's order.
#[derive(Debug, Clone, Default)]
pub(super) struct Known {
    /// The latest end, once that is chosen.
    pub(super) deadline: Option<BootTime>,
    /// The latest answer's end of the lease; `None` until the commit is answered.
    pub(super) lease_end: Option<BootTime>,
    /// A Commit has been sent.
    pub(super) committing: bool,
    /// Requests without an answer: what they asked for may have happened.
    pub(super) open: u32,
    /// Why it was not injected, if the agent said so.
    pub(super) refused: Option<String>,
}

/// The orders of a round.
#[derive(Debug)]
pub(super) struct Orders {
    known: Arc<Mutex<Vec<Known>>>,
    tasks: JoinSet<()>,
}

impl Orders {
    /// Begins with all of them at once.
    pub(super) fn begin(node: &Node, fleet: &Arc<Fleet>, faults: &[Drawn]) -> Self {
        let known = Arc::new(Mutex::new(vec![Known::default(); faults.len()]));
        let mut tasks = JoinSet::new();
        for (index, fault) in faults.iter().enumerate() {
            let order = Order {
                fleet: Arc::clone(fleet),
                node: node.name.clone(),
                known: Arc::clone(&known),
                index,
            };
            let Some(pod) = node.pod(fault.pod) else { continue };
            let target = match fault.scope {
                Scope::Pod => pod.target(),
                Scope::Container => pod.container_target(),
            };
            tasks.spawn(order.carry_out(fault.clone(), target.into()));
        }
        Self { known, tasks }
    }

    /// The controller dies: from here on no request is sent and no answer heard.
    pub(super) fn abort(&mut self) {
        self.tasks.abort_all();
    }

    /// What is known now.
    pub(super) fn known(&self) -> Vec<Known> {
        lock(&self.known).clone()
    }
}

struct Order {
    fleet: Arc<Fleet>,
    node: String,
    known: Arc<Mutex<Vec<Known>>>,
    index: usize,
}

impl Order {
    async fn carry_out(self, fault: Drawn, target: pb::Target) {
        let deadline = now().after(fault.lifetime);
        self.note(|known| known.deadline = Some(deadline));
        let injection = pb::Injection {
            fault_id: fault.id.to_string(),
            target: Some(target),
            fault: Some(fault.fault.clone().into()),
            lease_ms: u64::try_from(fault.lease.as_millis()).unwrap_or(u64::MAX),
            deadline_boottime_ns: deadline.as_nanos(),
        };
        // A run of its own: where it is refused, the others go on.
        let run = RunId::from_bits(u64::from_str_radix(&fault.id.to_string(), 16).unwrap_or(1));
        let by_node = BTreeMap::from([(self.node.clone(), vec![injection])]);
        if let Err(errors) = self.fleet.prepare(run, &by_node, false).await {
            let why = errors.iter().map(reason).next().unwrap_or_default();
            return self.note(|known| known.refused = Some(why));
        }
        let ids = BTreeMap::from([(self.node.clone(), vec![fault.id.to_string()])]);
        self.note(|known| (known.committing, known.open) = (true, known.open + 1));
        let act = async {
            self.commit(&ids).await;
            self.amend(&fault).await;
        };
        tokio::join!(act, self.renew(&ids, fault.lease));
    }

    async fn commit(&self, ids: &BTreeMap<String, Vec<String>>) {
        let answers = self.fleet.commit(ids).await;
        for answer in answers.into_values() {
            match answer {
                Ok(statuses) => self.answered(&statuses),
                Err(error) if is_refusal(&error) => {
                    let why = format!("commit: {}", reason(&error));
                    self.note(|known| (known.refused, known.open) = (Some(why), known.open - 1));
                }
                // Not known to have happened or not: it stays open.
                Err(_) => {}
            }
        }
    }

    /// Changes it, where that was drawn. A lease and its end stay as they are, whatever comes of it.
    async fn amend(&self, fault: &Drawn) {
        let Some((delay, amended)) = &fault.amended else { return };
        sleep(*delay).await;
        let amendment =
            pb::Amendment { fault_id: fault.id.to_string(), fault: Some(amended.clone().into()) };
        let by_node = BTreeMap::from([(self.node.clone(), vec![amendment])]);
        for answer in self.fleet.amend(&by_node).await.into_values() {
            let refused = answer.err().filter(is_refusal).map(|error| reason(&error));
            // Its lease or deadline may be over, or its kind one that cannot be changed.
            let unexpected = refused.filter(|why| {
                !["wrong_state", "unknown_fault", "not_possible", "target_gone"].contains(&&**why)
            });
            if let Some(why) = unexpected {
                self.note(|known| known.refused = Some(why));
            }
        }
    }

    async fn renew(&self, ids: &BTreeMap<String, Vec<String>>, lease: Duration) {
        loop {
            sleep(lease / RENEWALS_PER_LEASE).await;
            self.note(|known| known.open += 1);
            for (node, ids) in ids {
                match self.fleet.renew(node, ids.clone(), ANSWER_MAX).await {
                    Ok(statuses) => self.answered(&statuses),
                    Err(_) => return,
                }
            }
        }
    }

    fn answered(&self, statuses: &[pb::InjectionStatus]) {
        self.note(|known| {
            known.open -= 1;
            let ends = statuses.iter().map(|s| BootTime::from_nanos(s.lease_end_boottime_ns));
            known.lease_end = ends.chain(known.lease_end).max();
        });
    }

    fn note(&self, change: impl FnOnce(&mut Known)) {
        change(&mut lock(&self.known)[self.index]);
    }
}

fn lock(known: &Mutex<Vec<Known>>) -> MutexGuard<'_, Vec<Known>> {
    known.lock().unwrap_or_else(PoisonError::into_inner)
}

fn is_refusal(error: &AgentError) -> bool {
    matches!(error, AgentError::Refused { .. })
}

/// The stable word of a refusal, or that there was no answer.
pub(super) fn reason(error: &AgentError) -> String {
    match error {
        AgentError::Refused { status, .. } => word(status.details()),
        AgentError::Missing { .. } | AgentError::Unreachable { .. } => "no answer".into(),
    }
}

/// The first field of an `ErrorDetail`: one byte of tag, one of length, the word.
fn word(details: &[u8]) -> String {
    let length = details.get(1).copied().map_or(0, usize::from);
    let word = details.get(2..2 + length).unwrap_or_default();
    String::from_utf8_lossy(word).into_owned()
}
