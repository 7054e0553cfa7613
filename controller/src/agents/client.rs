//! One agent: its connection, its clock, and what it is asked.

use std::{
    io,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use faultline_proto::{boottime::BootTime, id::RunId, limits::MESSAGE_BYTES_MAX, pb};
use futures::future::BoxFuture;
use hyper_util::rt::TokioIo;
use pb::agent_client::AgentClient;
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite};
use tonic::{
    Code, Status,
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity, Uri},
};

use super::clock::AgentClock;
use crate::{
    cluster::fault::{API_SERVER, FaultError},
    place::{AgentEndpoint, Credentials, Via},
};

const CONNECT_MAX: Duration = Duration::from_secs(3);
/// The same, where something else has to make the connection first.
const DIALED_CONNECT_MAX: Duration = Duration::from_secs(12);
/// How long an agent may take to answer. A revert may have to be tried several times.
pub const ANSWER_MAX: Duration = Duration::from_secs(10);
/// Questions by which an agent's clock is learnt.
const CLOCK_QUESTIONS: u32 = 4;

/// A connection to an agent, whatever carries it.
pub trait Io: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// Something that can connect to one agent, again and again: also to the one that takes its place.
pub trait Dial: std::fmt::Debug + Send + Sync {
    /// Connects.
    fn dial(self: Arc<Self>) -> BoxFuture<'static, io::Result<Box<dyn Io>>>;
}

/// What an agent said or failed to say.
#[derive(Debug, Error)]
pub enum AgentError {
    /// There is none for the node.
    #[error("node {node}: no agent is known there{}", .why.as_ref().map_or(String::new(), |why| format!(": {why}")))]
    Missing {
        /// The node.
        node: String,
        /// Why not, where that is known.
        why: Option<String>,
    },
    /// It cannot be reached, or does not accept this controller, or is not who it should be.
    #[error("node {node}: its agent cannot be reached at {address}")]
    Unreachable {
        /// The node.
        node: String,
        /// Where it was looked for.
        address: String,
        /// What happened.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// It is no agent, but the API server, and what is in the way there.
    #[error(transparent)]
    Api(Box<FaultError>),
    /// It answered, and refused.
    #[error("node {node}: {}", .status.message())]
    Refused {
        /// The node.
        node: String,
        /// All it said.
        status: Box<Status>,
    },
}

impl AgentError {
    pub(super) fn missing(node: &str) -> Self {
        Self::Missing { node: node.into(), why: None }
    }

    /// The same, where it is known why there is none.
    #[must_use]
    pub fn with_why(self, known: impl Fn(&str) -> Option<String>) -> Self {
        match self {
            Self::Missing { node, why: None } => Self::Missing { why: known(&node), node },
            other => other,
        }
    }

    /// Whether an agent looked for what a fault is on, and found that it is not there.
    pub fn is_target_gone(&self) -> bool {
        matches!(self, Self::Refused { status, .. } if status.code() == Code::NotFound)
    }

    /// Whether it may be done all the same: the API server was asked, and its answer did not come. (What an agent may
    /// have done all the same, it takes back.)
    pub fn may_be_done(&self) -> bool {
        matches!(self, Self::Api(error) if error.is_unknown())
    }

    /// The node it is about.
    pub fn node(&self) -> &str {
        match self {
            Self::Missing { node, .. }
            | Self::Unreachable { node, .. }
            | Self::Refused { node, .. } => node,
            Self::Api(_) => API_SERVER,
        }
    }
}

/// The agent of one node.
#[derive(Debug, Clone)]
pub struct Agent {
    node: String,
    address: String,
    client: AgentClient<Channel>,
    /// Shared by all that speak to it: every renewal may tell it better.
    clock: Arc<Mutex<AgentClock>>,
    description: pb::DescribeResponse,
}

impl Agent {
    /// Connects, and learns who it is and what time it is there.
    ///
    /// # Errors
    /// When it cannot be reached, or does not accept this controller, or is not who it should be.
    pub async fn connect(
        endpoint: &AgentEndpoint,
        credentials: &Credentials,
    ) -> Result<Self, AgentError> {
        let unreachable =
            |source: Box<dyn std::error::Error + Send + Sync>| AgentError::Unreachable {
                node: endpoint.node.clone(),
                address: endpoint.address.clone(),
                source,
            };
        let tls = ClientTlsConfig::new()
            .domain_name(endpoint.expected_name())
            .ca_certificate(Certificate::from_pem(&credentials.ca_pem))
            .identity(Identity::from_pem(&credentials.cert_pem, &credentials.key_pem));
        let connecting = Endpoint::from_shared(format!("https://{}", endpoint.address))
            .and_then(|e| e.tls_config(tls))
            .map_err(|e| unreachable(e.into()))?
            .connect_timeout(CONNECT_MAX)
            .tcp_nodelay(true)
            .http2_keep_alive_interval(Duration::from_secs(5))
            .keep_alive_timeout(Duration::from_secs(5));
        // The kernel accepts connections for a process that is stopped; only TLS is never answered.
        let channel = connect(connecting, &endpoint.via).await.map_err(unreachable)?;
        let mut client = AgentClient::new(channel)
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX);
        let (description, clock) = ask_clock(&mut client).await.map_err(|status| {
            // With TLS 1.3 a client whose certificate is not accepted learns that only now.
            match status.code() {
                Code::Unknown | Code::Unavailable => unreachable(
                    format!(
                        "it did not accept this controller's certificate, or went away: {}",
                        status.message()
                    )
                    .into(),
                ),
                _ => AgentError::Refused { node: endpoint.node.clone(), status: Box::new(status) },
            }
        })?;
        let (node, address) = (endpoint.node.clone(), endpoint.address.clone());
        // Where agents share a certificate, only that tells them apart.
        if description.node != node {
            let other = &description.node;
            return Err(unreachable(format!("the agent of `{other}` answers there").into()));
        }
        let clock = Arc::new(Mutex::new(clock));
        Ok(Self { node, address, client, clock, description })
    }

    /// The node it is on.
    pub fn node(&self) -> &str {
        &self.node
    }

    /// What it said of itself when it was connected to.
    pub fn description(&self) -> &pb::DescribeResponse {
        &self.description
    }

    /// Its clock.
    pub fn clock(&self) -> AgentClock {
        *self.clock.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks for its time again: its node, and what is known by that. `None` if it does not answer.
    pub(super) async fn clock_again(&self) -> Option<(String, AgentClock)> {
        let mut client = self.client.clone();
        let (_, clock) = ask_clock(&mut client).await.ok()?;
        Some((self.node.clone(), clock))
    }

    /// Takes in what was learnt of its clock, where that is better than what is known.
    pub(super) fn know_better(&self, clock: AgentClock) {
        let mut known = self.clock.lock().unwrap_or_else(PoisonError::into_inner);
        *known = known.better(clock, Instant::now());
    }

    pub(super) async fn prepare(
        &self,
        run_id: RunId,
        injections: Vec<pb::Injection>,
        dry_run: bool,
    ) -> Result<Vec<pb::Prepared>, AgentError> {
        let request = pb::PrepareRequest { run_id: run_id.to_string(), injections, dry_run };
        let mut client = self.client.clone();
        let response = self.answered(client.prepare(timed(request))).await?;
        Ok(response.prepared)
    }

    pub(super) async fn commit(
        &self,
        fault_ids: Vec<String>,
        at: Option<BootTime>,
    ) -> Result<Vec<pb::InjectionStatus>, AgentError> {
        let request = pb::CommitRequest {
            fault_ids,
            at_boottime_ns: at.map_or(0, BootTime::as_nanos),
            not_after_boottime_ns: self.patience_ends(),
        };
        let mut client = self.client.clone();
        Ok(self.answered(client.commit(timed(request))).await?.injections)
    }

    /// Whether it was halted since it was connected to, also where that has been ended since.
    pub(super) async fn is_halted_since(&self) -> Result<bool, AgentError> {
        let mut client = self.client.clone();
        let now = self.answered(client.describe(timed(pb::DescribeRequest {}))).await?;
        // One that was restarted since has forgotten it, unless it still is.
        let last = now.last_halt_boottime_ns;
        Ok(now.halted_reason.is_some() || last > self.description.last_halt_boottime_ns)
    }

    pub(super) async fn renew(
        &self,
        fault_ids: Vec<String>,
    ) -> Result<Vec<pb::InjectionStatus>, AgentError> {
        let mut client = self.client.clone();
        let request = timed(pb::RenewRequest { fault_ids });
        let asked = Instant::now();
        let answer = self.answered(client.renew(request)).await?;
        // An agent of before does not tell.
        if answer.boottime_ns > 0 {
            let there = BootTime::from_nanos(answer.boottime_ns);
            self.know_better(AgentClock::new(asked, Instant::now(), there));
        }
        Ok(answer.injections)
    }

    pub(super) async fn amend(
        &self,
        amendments: Vec<pb::Amendment>,
    ) -> Result<Vec<pb::InjectionStatus>, AgentError> {
        let mut client = self.client.clone();
        let not_after_boottime_ns = self.patience_ends();
        let request = timed(pb::AmendRequest { amendments, not_after_boottime_ns });
        Ok(self.answered(client.amend(request)).await?.injections)
    }

    pub(super) async fn revert(
        &self,
        fault_ids: Vec<String>,
    ) -> Result<Vec<pb::InjectionStatus>, AgentError> {
        self.revert_by(pb::RevertRequest { fault_ids, run_id: String::new() }).await
    }

    pub(super) async fn revert_run(
        &self,
        run_id: RunId,
    ) -> Result<Vec<pb::InjectionStatus>, AgentError> {
        let run_id = run_id.to_string();
        self.revert_by(pb::RevertRequest { fault_ids: Vec::new(), run_id }).await
    }

    async fn revert_by(
        &self,
        request: pb::RevertRequest,
    ) -> Result<Vec<pb::InjectionStatus>, AgentError> {
        let mut client = self.client.clone();
        Ok(self.answered(client.revert(timed(request))).await?.injections)
    }

    /// Has it try something again and again from a pod.
    ///
    /// # Errors
    /// When it refuses, or cannot be reached. The stream has no end of its own, and no deadline.
    pub async fn observe(
        &self,
        request: pb::ObserveRequest,
    ) -> Result<tonic::Streaming<pb::Observation>, AgentError> {
        let mut client = self.client.clone();
        let answer = client.observe(request).await.map_err(|status| self.failed(status))?;
        Ok(answer.into_inner())
    }

    /// Every injection it knows of.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn list(&self) -> Result<Vec<pb::InjectionStatus>, AgentError> {
        let mut client = self.client.clone();
        Ok(self.answered(client.list(timed(pb::ListRequest {}))).await?.injections)
    }

    pub(super) async fn halt(
        &self,
        reason: &str,
        for_good: bool,
    ) -> Result<Vec<pb::InjectionStatus>, AgentError> {
        let mut client = self.client.clone();
        let request = timed(pb::HaltRequest { reason: reason.into(), for_good });
        Ok(self.answered(client.halt(request)).await?.injections)
    }

    pub(super) async fn resume(
        &self,
        acknowledged_fault_ids: Vec<String>,
    ) -> Result<(), AgentError> {
        let mut client = self.client.clone();
        let not_after_boottime_ns = self.patience_ends();
        let request = timed(pb::ResumeRequest { acknowledged_fault_ids, not_after_boottime_ns });
        self.answered(client.resume(request)).await?;
        Ok(())
    }

    /// When nobody waits any more for an answer to what is asked now, in the agent's time. Whatever holds
    /// the request up, it is not done after that.
    fn patience_ends(&self) -> u64 {
        let ends = Instant::now() + ANSWER_MAX.saturating_sub(self.clock().uncertainty());
        self.clock().to_agent(ends).as_nanos()
    }

    /// Waits for something of this agent, but no longer than `limit`.
    pub(super) async fn within<T>(
        &self,
        limit: Duration,
        answer: impl Future<Output = Result<T, AgentError>>,
    ) -> Result<T, AgentError> {
        let late = || self.failed(Status::deadline_exceeded(format!("no answer within {limit:?}")));
        tokio::time::timeout(limit, answer).await.unwrap_or_else(|_| Err(late()))
    }

    /// Waits for an answer, but not for ever: a server that hangs does not honour a deadline either.
    async fn answered<T>(
        &self,
        call: impl Future<Output = Result<tonic::Response<T>, Status>>,
    ) -> Result<T, AgentError> {
        let answer = async { call.await.map_err(|status| self.failed(status)) };
        self.within(ANSWER_MAX, answer).await.map(tonic::Response::into_inner)
    }

    fn failed(&self, status: Status) -> AgentError {
        match status.code() {
            Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled | Code::Unknown => {
                AgentError::Unreachable {
                    node: self.node.clone(),
                    address: self.address.clone(),
                    source: status.message().into(),
                }
            }
            _ => AgentError::Refused { node: self.node.clone(), status: Box::new(status) },
        }
    }
}

async fn connect(
    endpoint: Endpoint,
    via: &Via,
) -> Result<Channel, Box<dyn std::error::Error + Send + Sync>> {
    let (limit, connected) = match via {
        Via::Direct => (CONNECT_MAX, tokio::time::timeout(CONNECT_MAX, endpoint.connect()).await),
        Via::Dialed(dial) => {
            let dial = Arc::clone(dial);
            let connector = tower::service_fn(move |_: Uri| {
                let connecting = Arc::clone(&dial).dial();
                async move { connecting.await.map(TokioIo::new) }
            });
            let endpoint = endpoint.connect_timeout(DIALED_CONNECT_MAX);
            let connecting = endpoint.connect_with_connector(connector);
            (DIALED_CONNECT_MAX, tokio::time::timeout(DIALED_CONNECT_MAX, connecting).await)
        }
    };
    let connected = connected.map_err(|_late| format!("no answer within {limit:?}"))?;
    Ok(connected?)
}

fn timed<T>(message: T) -> tonic::Request<T> {
    let mut request = tonic::Request::new(message);
    request.set_timeout(ANSWER_MAX);
    request
}

/// Asks several times and keeps the best: the first question also sets up what lies in between.
async fn ask_clock(
    client: &mut AgentClient<Channel>,
) -> Result<(pb::DescribeResponse, AgentClock), Status> {
    let mut best: Option<(pb::DescribeResponse, AgentClock)> = None;
    for _ in 0..CLOCK_QUESTIONS {
        let asked = Instant::now();
        let late = || Status::unavailable(format!("no answer within {CONNECT_MAX:?}"));
        let answer = tokio::time::timeout(CONNECT_MAX, client.describe(pb::DescribeRequest {}))
            .await
            .unwrap_or_else(|_| Err(late()))?
            .into_inner();
        let there = BootTime::from_nanos(answer.boottime_ns);
        let clock = AgentClock::new(asked, Instant::now(), there);
        best = Some(match best {
            Some((_, known)) => (answer, known.better(clock, Instant::now())),
            None => (answer, clock),
        });
    }
    best.ok_or_else(|| Status::internal("no question was asked"))
}
