//! The gRPC service: wire to domain, domain to status code. It decides nothing.

mod convert;
mod error;
mod identity;
mod tls;

use std::{
    net::SocketAddr,
    pin::Pin,
    sync::{Arc, RwLock},
};

use faultline_proto::{
    boottime::BootTime,
    limits::{MESSAGE_BYTES_MAX, REASON_BYTES_MAX},
    pb::{self, agent_server},
};
use futures::{Stream, StreamExt, stream};
use thiserror::Error;
use tokio::{net::TcpListener, sync::broadcast::error::RecvError};
use tonic::{Request, Response, Status, transport::Server};

pub use identity::{Identity, IdentityError};

use crate::{kernel::clock, node_info::NodeInfo, observe::Observers, supervisor::Handle};

/// The service of one agent.
#[derive(Debug)]
pub struct Service {
    supervisor: Handle,
    info: Arc<NodeInfo>,
    observers: Observers,
}

/// The service cannot be offered.
#[derive(Debug, Error)]
pub enum ServeError {
    /// Not on this address.
    #[error("cannot listen on {address}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// Not with these certificates.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// No longer.
    #[error("the gRPC server failed")]
    Transport(#[from] tonic::transport::Error),
}

/// Serves until `stop` completes.
///
/// # Errors
/// When the address cannot be bound or the certificates cannot be used.
pub async fn serve(
    address: SocketAddr,
    identity: Identity,
    supervisor: Handle,
    info: Arc<NodeInfo>,
    stop: impl Future<Output = ()>,
) -> Result<(), ServeError> {
    let listener = TcpListener::bind(address)
        .await
        .map_err(|source| ServeError::Listen { address, source })?;
    let service = agent_server::AgentServer::new(Service {
        supervisor,
        info,
        observers: Observers::default(),
    })
    .max_decoding_message_size(MESSAGE_BYTES_MAX)
    .max_encoding_message_size(MESSAGE_BYTES_MAX);
    let current = Arc::new(RwLock::new(identity.accepted()?));
    let guard = identity.guard(Arc::clone(&current));
    let service = tonic::service::interceptor::InterceptedService::new(
        service,
        move |request: Request<()>| guard.admit(request),
    );
    let incoming = tls::incoming(listener, identity, current);
    tracing::info!(%address, "serving");
    Server::builder()
        .http2_keepalive_interval(Some(std::time::Duration::from_secs(10)))
        .add_service(service)
        .serve_with_incoming_shutdown(incoming, stop)
        .await?;
    Ok(())
}

type Answer<T> = Result<Response<T>, Status>;
type Observations = Pin<Box<dyn Stream<Item = Result<pb::Observation, Status>> + Send>>;
type Changes = Pin<Box<dyn Stream<Item = Result<pb::WatchResponse, Status>> + Send>>;

#[tonic::async_trait]
impl agent_server::Agent for Service {
    type WatchStream = Changes;
    type ObserveStream = Observations;

    async fn describe(&self, _: Request<pb::DescribeRequest>) -> Answer<pb::DescribeResponse> {
        let condition = self.supervisor.condition().await.map_err(error::queue)?;
        Ok(Response::new(pb::DescribeResponse {
            node: self.info.node.clone(),
            agent_version: env!("CARGO_PKG_VERSION").into(),
            boot_id: self.info.boot_id.clone(),
            kernel_release: self.info.kernel_release.clone(),
            boottime_ns: clock::now().as_nanos(),
            cgroup_version: self.info.cgroup_version().into(),
            features: self.info.features.iter().cloned().map(Into::into).collect(),
            stuck_reason: condition.stuck_reason(),
            stuck: condition.stuck.iter().map(convert::stuck).collect(),
            last_halt_boottime_ns: condition.last_halt.map_or(0, BootTime::as_nanos),
            halted_reason: condition.halted.map(|halt| halt.reason),
            pods_seen: u32::try_from(self.info.resolver.pods_seen()).unwrap_or(u32::MAX),
        }))
    }

    async fn prepare(&self, request: Request<pb::PrepareRequest>) -> Answer<pb::PrepareResponse> {
        let request = convert::prepare(request.into_inner()).map_err(|e| error::invalid(&e))?;
        let prepared = self
            .supervisor
            .prepare(request.run_id, request.items, request.dry_run)
            .await
            .map_err(error::queue)?
            .map_err(|e| error::prepare(&e))?;
        let prepared = prepared.into_iter().map(convert::prepared).collect();
        Ok(Response::new(pb::PrepareResponse { prepared, boottime_ns: clock::now().as_nanos() }))
    }

    async fn commit(&self, request: Request<pb::CommitRequest>) -> Answer<pb::CommitResponse> {
        let request = request.into_inner();
        let ids = convert::fault_ids(&request.fault_ids).map_err(|e| error::invalid(&e))?;
        let when = convert::when(&request, clock::now()).map_err(|e| error::invalid(&e))?;
        let statuses = self
            .supervisor
            .commit(ids, when)
            .await
            .map_err(error::queue)?
            .map_err(|e| error::not_allowed(&e))?;
        let injections = statuses.into_iter().map(convert::status).collect();
        Ok(Response::new(pb::CommitResponse { injections }))
    }

    async fn renew(&self, request: Request<pb::RenewRequest>) -> Answer<pb::RenewResponse> {
        let ids =
            convert::fault_ids(&request.into_inner().fault_ids).map_err(|e| error::invalid(&e))?;
        let statuses = self.supervisor.renew(ids).await.map_err(error::queue)?;
        let injections = statuses.into_iter().map(convert::status).collect();
        Ok(Response::new(pb::RenewResponse { injections, boottime_ns: clock::now().as_nanos() }))
    }

    async fn amend(&self, request: Request<pb::AmendRequest>) -> Answer<pb::AmendResponse> {
        let request = request.into_inner();
        let not_after = convert::not_after(request.not_after_boottime_ns);
        let items = convert::amend(request).map_err(|e| error::invalid(&e))?;
        let statuses = self
            .supervisor
            .amend(items, not_after)
            .await
            .map_err(error::queue)?
            .map_err(|e| error::amend(&e))?;
        let injections = statuses.into_iter().map(convert::status).collect();
        Ok(Response::new(pb::AmendResponse { injections }))
    }

    async fn revert(&self, request: Request<pb::RevertRequest>) -> Answer<pb::RevertResponse> {
        let scope = convert::revert(&request.into_inner()).map_err(|e| error::invalid(&e))?;
        let reverted = self.supervisor.revert(scope).await.map_err(error::queue)?;
        let known = reverted.injections.into_iter().map(convert::status);
        let unrecorded = reverted.unrecorded.into_iter().map(convert::unrecorded);
        Ok(Response::new(pb::RevertResponse { injections: known.chain(unrecorded).collect() }))
    }

    async fn list(&self, _: Request<pb::ListRequest>) -> Answer<pb::ListResponse> {
        let statuses = self.supervisor.list().await.map_err(error::queue)?;
        let injections = statuses.into_iter().map(convert::status).collect();
        Ok(Response::new(pb::ListResponse { injections, boottime_ns: clock::now().as_nanos() }))
    }

    async fn watch(&self, _: Request<pb::WatchRequest>) -> Answer<Changes> {
        // Subscribed before the list is taken, so that no change falls in between.
        let changes = self.supervisor.changes();
        let now = self.supervisor.list().await.map_err(error::queue)?;
        let later = stream::unfold(changes, |mut changes| async move {
            match changes.recv().await {
                Ok(status) => Some((Ok(status), changes)),
                Err(RecvError::Lagged(lost)) => {
                    let text = format!("{lost} changes were lost: read faster, and List");
                    Some((Err(Status::data_loss(text)), changes))
                }
                Err(RecvError::Closed) => None,
            }
        });
        let all = stream::iter(now.into_iter().map(Ok)).chain(later);
        let responses = all.map(|result| {
            result.map(|status| pb::WatchResponse { injection: Some(convert::status(status)) })
        });
        Ok(Response::new(Box::pin(responses)))
    }

    async fn halt(&self, request: Request<pb::HaltRequest>) -> Answer<pb::HaltResponse> {
        let pb::HaltRequest { reason, for_good } = request.into_inner();
        let is_text = !reason.trim().is_empty() && !reason.chars().any(char::is_control);
        if !is_text || reason.len() > REASON_BYTES_MAX {
            let text =
                format!("reason: expected one line of 1 to {REASON_BYTES_MAX} bytes that says why");
            return Err(Status::invalid_argument(text));
        }
        let statuses = self
            .supervisor
            .halt(reason, for_good)
            .await
            .map_err(error::queue)?
            .map_err(Status::data_loss)?;
        let injections = statuses.into_iter().map(convert::status).collect();
        Ok(Response::new(pb::HaltResponse { injections }))
    }

    async fn resume(&self, request: Request<pb::ResumeRequest>) -> Answer<pb::ResumeResponse> {
        let request = request.into_inner();
        let not_after = convert::not_after(request.not_after_boottime_ns);
        let acknowledged = convert::acknowledged(&request).map_err(|e| error::invalid(&e))?;
        let resumed =
            self.supervisor.resume(acknowledged, not_after).await.map_err(error::queue)?;
        resumed.map_err(|e| error::resume(&e))?;
        Ok(Response::new(pb::ResumeResponse {}))
    }

    async fn observe(&self, request: Request<pb::ObserveRequest>) -> Answer<Observations> {
        let request = convert::observe(request.into_inner()).map_err(|e| error::invalid(&e))?;
        let observing = self.observers.start(&self.info.resolver, request).await;
        let observing = observing.map_err(|e| error::observe(&e))?;
        let told = stream::unfold(observing, |mut observing| async move {
            let observation = observing.recv().await?;
            Some((Ok(convert::observation(observation)), observing))
        });
        Ok(Response::new(Box::pin(told)))
    }
}
