//! Agents for the sim ring: they speak the real protocol over real mutual TLS, touch no kernel, and
//! are faulty on purpose.

use std::{
    collections::BTreeMap,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use faultline::place::AgentEndpoint;
use faultline_proto::{fault::Fault, pb};
use pb::agent_server::{Agent, AgentServer};
use tokio::net::TcpListener;
use tokio_stream::{Stream, wrappers::TcpListenerStream};
use tonic::{
    Request, Response, Status,
    transport::{Certificate, Identity, Server, ServerTlsConfig},
};

use crate::pki::Authority;

/// Answers of one that warms up: as many as a clock is asked for at first.
const WARM_UP: u32 = 4;

/// What is wrong with an agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flaw {
    /// Nothing.
    None,
    /// It refuses every Prepare that is not a dry run.
    RefusesPrepare,
    /// It refuses already to plan.
    RefusesPlan,
    /// Every answer takes so long.
    Slow(Duration),
    /// Its first answers about itself take so long; later ones are quick.
    WarmsUp(Duration),
    /// It takes the request to commit, and never answers.
    HangsAtCommit,
    /// It answers no Prepare from the second one on.
    HangsAtMore,
    /// It commits, and cannot prove any effect.
    NoEffect,
    /// It commits, and sees neither an effect nor that there is none.
    NeverSees,
    /// It says that the effect is proven, of another target than it was asked for.
    LiesAboutTarget,
    /// It says that a fault is reverted, and names residue beside it.
    LiesAboutResidue,
    /// It forgets every fault as soon as it is committed, and answers nothing about it.
    Forgets,
    /// It loses faults to their lease right after the commit.
    LosesLease,
    /// Somebody halts it right after the commit.
    IsHalted,
    /// It answers no Renew.
    HangsAtRenew,
    /// When it is asked to revert, it has been restarted long ago.
    WasRestarted,
    /// It answers no Revert.
    HangsAtRevert,
    /// It is restarted twice after the commit: it knows of no fault, and its kernel holds nothing.
    KnowsNothing,
    /// The same, and its kernel holds something by the fault's name.
    KnowsOnlyResidue,
    /// It does not say what it holds once it has reverted something.
    HangsAtListing,
    /// It answers no Halt.
    HangsAtHalt,
    /// It cannot revert: stuck, with residue.
    Stuck,
    /// It is of a version that is not ours.
    IsOfAnotherVersion,
    /// It is stuck, as it says.
    SaysItIsStuck,
    /// It is too old to amend.
    CannotAmend,
    /// It cannot prove the effect of what it amends.
    AmendsInVain,
    /// It refuses every Prepare from the second one on.
    RefusesMore,
    /// Of what it is asked to try from a pod, it says that every attempt fails.
    SeesFailures,
}

/// What an agent was asked.
#[derive(Debug, Default)]
pub struct Calls {
    /// Questions about itself.
    pub describes: AtomicU32,
    /// Prepares that were no dry runs.
    pub prepares: AtomicU32,
    /// Commits.
    pub commits: AtomicU32,
    /// Renewals.
    pub renewals: AtomicU32,
    /// Reverts.
    pub reverts: AtomicU32,
    /// What was prepared, in dry runs not.
    pub prepared: Mutex<Vec<pb::Injection>>,
    /// What was to be tried from its pods.
    pub observed: Mutex<Vec<pb::ObserveRequest>>,
    /// What was amended.
    pub amended: Mutex<Vec<pb::Amendment>>,
    /// When the last Commit took place there.
    pub committed: Mutex<Option<Instant>>,
    /// How long after it was heard the last Commit would have been taken, in milliseconds; 0: for ever.
    pub commit_patience_ms: AtomicU64,
}

/// An agent that is running. It ends when this is dropped.
#[derive(Debug)]
pub struct FakeAgent {
    /// How it is reached.
    pub endpoint: AgentEndpoint,
    /// What it was asked.
    pub calls: Arc<Calls>,
    held: Held,
    gone: Gone,
    last_halt_ns: Arc<AtomicU64>,
    begun: Instant,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for FakeAgent {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl FakeAgent {
    /// Starts an agent for `node`.
    pub async fn start(authority: &Authority, node: &str, flaw: Flaw) -> anyhow::Result<Self> {
        let pair = authority.agent(node)?;
        let tls = ServerTlsConfig::new()
            .identity(Identity::from_pem(pair.cert_pem, pair.key_pem))
            .client_ca_root(Certificate::from_pem(authority.ca_pem()));
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let endpoint = AgentEndpoint::direct(node, listener.local_addr()?.to_string());
        let calls = Arc::new(Calls::default());
        let (held, gone, begun) = (Held::default(), Gone::default(), Instant::now());
        let last_halt_ns = Arc::<AtomicU64>::default();
        let service = Service {
            node: node.into(),
            flaw,
            begun,
            calls: Arc::clone(&calls),
            held: Arc::clone(&held),
            gone: Arc::clone(&gone),
            last_halt_ns: Arc::clone(&last_halt_ns),
        };
        let server = Server::builder().tls_config(tls)?.add_service(AgentServer::new(service));
        let task = tokio::spawn(async move {
            drop(server.serve_with_incoming(TcpListenerStream::new(listener)).await);
        });
        Ok(Self { endpoint, calls, held, gone, last_halt_ns, begun, task })
    }

    /// As if another run had a fault on the pod with this uid.
    pub fn hold(&self, run_id: &str, uid: &str) {
        let target = pb::Target {
            pod_namespace: "shop".into(),
            pod_name: "theirs".into(),
            pod_uid: uid.into(),
            ..pb::Target::default()
        };
        let status = pb::InjectionStatus {
            fault_id: "00000000000000ff".into(),
            run_id: run_id.into(),
            kind: "partition".into(),
            target: Some(target),
            state: pb::State::Active.into(),
            ..pb::InjectionStatus::default()
        };
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.insert(status.fault_id.clone(), status);
    }

    /// As if somebody had halted it and ended that at once.
    pub fn halt_and_resume(&self) {
        self.last_halt_ns.store(nanos_since(self.begun), Ordering::SeqCst);
    }

    /// As if the pod with this uid had gone: its faults are reverted, and nothing is tried from it any more.
    pub fn lose_target(&self, uid: &str) {
        all(&self.gone).push(uid.into());
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        for status in held.values_mut() {
            if status.target.as_ref().is_some_and(|target| target.pod_uid == uid) {
                status.state = pb::State::Reverted.into();
                status.revert_reason = pb::RevertReason::TargetGone.into();
                status.reverted_boottime_ns = nanos_since(self.begun);
            }
        }
    }

    /// How often a counter of [`Calls`] was hit.
    pub fn count(counter: &AtomicU32) -> u32 {
        counter.load(Ordering::SeqCst)
    }
}

/// What an agent holds, by fault id.
type Held = Arc<Mutex<BTreeMap<String, pb::InjectionStatus>>>;
/// The uids of pods that have gone.
type Gone = Arc<Mutex<Vec<String>>>;

/// The boot time of an agent that has begun then.
fn nanos_since(begun: Instant) -> u64 {
    // Any beginning will do; not 0, which stands for "not yet".
    u64::try_from(begun.elapsed().as_nanos()).unwrap_or(u64::MAX) + 1_000_000_000
}

struct Service {
    node: String,
    flaw: Flaw,
    begun: Instant,
    calls: Arc<Calls>,
    held: Held,
    gone: Gone,
    last_halt_ns: Arc<AtomicU64>,
}

type Answer<T> = Result<Response<T>, Status>;

impl Service {
    fn now_ns(&self) -> u64 {
        nanos_since(self.begun)
    }

    fn held(&self) -> MutexGuard<'_, BTreeMap<String, pb::InjectionStatus>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn answer<T>(&self, answer: T) -> Answer<T> {
        if let Flaw::Slow(delay) = self.flaw {
            tokio::time::sleep(delay).await;
        }
        Ok(Response::new(answer))
    }

    fn statuses(&self) -> Vec<pb::InjectionStatus> {
        self.held().values().cloned().collect()
    }
}

/// Everything that was noted.
fn all<T>(noted: &Mutex<Vec<T>>) -> MutexGuard<'_, Vec<T>> {
    noted.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What an agent says of a fault of which it has no record.
fn unrecorded(id: &str, has_residue: bool) -> pb::InjectionStatus {
    let state = if has_residue { pb::State::Stuck } else { pb::State::Reverted };
    pb::InjectionStatus {
        fault_id: id.into(),
        state: state.into(),
        revert_reason: pb::RevertReason::Restarted.into(),
        residue: if has_residue { vec!["a table, says the fake".into()] } else { Vec::new() },
        ..pb::InjectionStatus::default()
    }
}

async fn hang() {
    std::future::pending::<()>().await;
}

#[tonic::async_trait]
impl Agent for Service {
    type WatchStream = Pin<Box<dyn Stream<Item = Result<pb::WatchResponse, Status>> + Send>>;
    type ObserveStream = Pin<Box<dyn Stream<Item = Result<pb::Observation, Status>> + Send>>;

    /// Says that all goes well, as often as is asked, as long as the pod is there.
    async fn observe(&self, request: Request<pb::ObserveRequest>) -> Answer<Self::ObserveStream> {
        let request = request.into_inner();
        all(&self.calls.observed).push(request.clone());
        let uid = request.target.map(|target| target.pod_uid).unwrap_or_default();
        let every = Duration::from_millis(request.every_ms.max(1));
        let (gone, begun) = (Arc::clone(&self.gone), self.begun);
        let failure = (self.flaw == Flaw::SeesFailures)
            .then(|| pb::Failure { kind: "timeout".into(), text: "so the fake says".into() });
        let stream = futures::stream::unfold((), move |()| {
            let (gone, uid, failure) = (Arc::clone(&gone), uid.clone(), failure.clone());
            async move {
                tokio::time::sleep(every).await;
                if all(&gone).contains(&uid) {
                    return None;
                }
                let now = nanos_since(begun);
                let attempt =
                    pb::Attempt { began_boottime_ns: now, failure, ..pb::Attempt::default() };
                let attempt = Some(attempt);
                let settled_until_boottime_ns = now + 1;
                Some((Ok(pb::Observation { attempt, settled_until_boottime_ns }), ()))
            }
        });
        Ok(Response::new(Box::pin(stream)))
    }

    async fn describe(&self, _: Request<pb::DescribeRequest>) -> Answer<pb::DescribeResponse> {
        let asked = self.calls.describes.fetch_add(1, Ordering::SeqCst);
        if let Flaw::WarmsUp(delay) = self.flaw
            && asked < WARM_UP
        {
            tokio::time::sleep(delay).await;
        }
        let description = pb::DescribeResponse {
            node: self.node.clone(),
            boottime_ns: self.now_ns(),
            agent_version: match self.flaw {
                Flaw::IsOfAnotherVersion => "99.0.0".into(),
                _ => env!("CARGO_PKG_VERSION").into(),
            },
            stuck_reason: (self.flaw == Flaw::SaysItIsStuck).then(|| "a fault is stuck".into()),
            last_halt_boottime_ns: self.last_halt_ns.load(Ordering::SeqCst),
            ..pb::DescribeResponse::default()
        };
        self.answer(description).await
    }

    async fn prepare(&self, request: Request<pb::PrepareRequest>) -> Answer<pb::PrepareResponse> {
        let request = request.into_inner();
        if self.flaw == Flaw::RefusesPlan {
            return Err(Status::failed_precondition("this node has no nf_tables: it is a fake"));
        }
        let prepared = request
            .injections
            .iter()
            .map(|i| pb::Prepared { fault_id: i.fault_id.clone(), plan: "pretend".into() })
            .collect();
        if !request.dry_run {
            let earlier = self.calls.prepares.fetch_add(1, Ordering::SeqCst);
            let refuses_more = self.flaw == Flaw::RefusesMore && earlier > 0;
            if self.flaw == Flaw::RefusesPrepare || refuses_more {
                return Err(Status::failed_precondition("the disk is full, says the fake"));
            }
            if self.flaw == Flaw::HangsAtMore && earlier > 0 {
                hang().await;
            }
            all(&self.calls.prepared).extend(request.injections.iter().cloned());
            for injection in request.injections {
                let kind = injection.fault.and_then(|f| Fault::try_from(f).ok());
                let status = pb::InjectionStatus {
                    fault_id: injection.fault_id.clone(),
                    run_id: request.run_id.clone(),
                    kind: kind.map_or(String::new(), |f| f.kind().into()),
                    target: injection.target,
                    state: pb::State::Prepared.into(),
                    deadline_boottime_ns: injection.deadline_boottime_ns,
                    ..pb::InjectionStatus::default()
                };
                self.held().insert(injection.fault_id, status);
            }
        }
        self.answer(pb::PrepareResponse { prepared, boottime_ns: self.now_ns() }).await
    }

    async fn commit(&self, request: Request<pb::CommitRequest>) -> Answer<pb::CommitResponse> {
        let request = request.into_inner();
        self.calls.commits.fetch_add(1, Ordering::SeqCst);
        let patience = request.not_after_boottime_ns.saturating_sub(self.now_ns()) / 1_000_000;
        self.calls.commit_patience_ms.store(patience, Ordering::SeqCst);
        if self.flaw == Flaw::HangsAtCommit {
            hang().await;
        }
        let wait = request.at_boottime_ns.saturating_sub(self.now_ns());
        tokio::time::sleep(Duration::from_nanos(wait)).await;
        *self.calls.committed.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
        let now = self.now_ns();
        for id in &request.fault_ids {
            if let Some(status) = self.held().get_mut(id) {
                let proof = match self.flaw {
                    Flaw::NoEffect => pb::Proof::Failed,
                    Flaw::NeverSees => pb::Proof::Pending,
                    _ => pb::Proof::Proven,
                };
                status.state = pb::State::Active.into();
                status.committed_boottime_ns = now;
                status.lease_end_boottime_ns = now + 1_000_000_000;
                status.effect = Some(pb::Effect {
                    proof: proof.into(),
                    evidence: "so the fake says".into(),
                    proven_boottime_ns: now,
                });
                if self.flaw == Flaw::LiesAboutTarget
                    && let Some(target) = status.target.as_mut()
                {
                    target.pod_name = "somebody-else".into();
                }
            }
        }
        let injections = self.statuses();
        match self.flaw {
            Flaw::Forgets | Flaw::KnowsNothing | Flaw::KnowsOnlyResidue => self.held().clear(),
            Flaw::LosesLease | Flaw::IsHalted => {
                let why = match self.flaw {
                    Flaw::IsHalted => pb::RevertReason::Halted,
                    _ => pb::RevertReason::LeaseLost,
                };
                for status in self.held().values_mut() {
                    status.state = pb::State::Reverted.into();
                    status.revert_reason = why.into();
                    status.reverted_boottime_ns = now + 1;
                }
            }
            _ => {}
        }
        self.answer(pb::CommitResponse { injections }).await
    }

    async fn renew(&self, _: Request<pb::RenewRequest>) -> Answer<pb::RenewResponse> {
        self.calls.renewals.fetch_add(1, Ordering::SeqCst);
        if self.flaw == Flaw::HangsAtRenew {
            hang().await;
        }
        let is_over = matches!(self.flaw, Flaw::LosesLease | Flaw::IsHalted);
        let injections = if is_over { Vec::new() } else { self.statuses() };
        self.answer(pb::RenewResponse { injections, boottime_ns: self.now_ns() }).await
    }

    async fn amend(&self, request: Request<pb::AmendRequest>) -> Answer<pb::AmendResponse> {
        if self.flaw == Flaw::CannotAmend {
            return Err(Status::unimplemented("the fake cannot amend"));
        }
        let amended = request.into_inner().amendments;
        all(&self.calls.amended).extend(amended.iter().cloned());
        let is_asked = |id: &String| amended.iter().any(|amendment| amendment.fault_id == *id);
        if self.flaw == Flaw::AmendsInVain {
            for effect in self.held().values_mut().filter_map(|status| status.effect.as_mut()) {
                effect.proof = pb::Proof::Failed.into();
            }
        }
        let injections = self.statuses().into_iter().filter(|s| is_asked(&s.fault_id)).collect();
        self.answer(pb::AmendResponse { injections }).await
    }

    async fn revert(&self, request: Request<pb::RevertRequest>) -> Answer<pb::RevertResponse> {
        self.calls.reverts.fetch_add(1, Ordering::SeqCst);
        if self.flaw == Flaw::HangsAtRevert {
            hang().await;
        }
        let request = request.into_inner();
        let now = self.now_ns();
        for status in self.held().values_mut() {
            let asked =
                request.fault_ids.contains(&status.fault_id) || request.fault_ids.is_empty();
            if !asked || status.reverted_boottime_ns > 0 {
                continue;
            }
            status.reverted_boottime_ns = now;
            status.revert_reason = pb::RevertReason::Asked.into();
            status.state = pb::State::Reverted.into();
            match self.flaw {
                Flaw::WasRestarted => {
                    status.revert_reason = pb::RevertReason::Restarted.into();
                }
                Flaw::LiesAboutResidue => status.residue = vec!["table inet faultline_x".into()],
                Flaw::Stuck => {
                    status.state = pb::State::Stuck.into();
                    status.residue = vec!["table inet faultline_x".into()];
                }
                _ => {}
            }
        }
        let mut injections = self.statuses();
        if matches!(self.flaw, Flaw::KnowsNothing | Flaw::KnowsOnlyResidue) {
            let ids = request.fault_ids.iter();
            injections.extend(ids.map(|id| unrecorded(id, self.flaw == Flaw::KnowsOnlyResidue)));
        }
        self.answer(pb::RevertResponse { injections }).await
    }

    async fn list(&self, _: Request<pb::ListRequest>) -> Answer<pb::ListResponse> {
        if self.flaw == Flaw::HangsAtListing && FakeAgent::count(&self.calls.reverts) > 0 {
            hang().await;
        }
        let injections = self.statuses();
        self.answer(pb::ListResponse { injections, boottime_ns: self.now_ns() }).await
    }

    async fn watch(&self, _: Request<pb::WatchRequest>) -> Answer<Self::WatchStream> {
        Err(Status::unimplemented("the fake has no watch"))
    }

    async fn halt(&self, _: Request<pb::HaltRequest>) -> Answer<pb::HaltResponse> {
        if self.flaw == Flaw::HangsAtHalt {
            hang().await;
        }
        self.answer(pb::HaltResponse { injections: self.statuses() }).await
    }

    async fn resume(&self, _: Request<pb::ResumeRequest>) -> Answer<pb::ResumeResponse> {
        self.answer(pb::ResumeResponse {}).await
    }
}
