//! The way to an agent through the API server: a port-forward to its pod, as `kubectl port-forward` makes one. What
//! goes through it is the same mutual TLS as without it: the API server sees none of it.

use std::{fmt, io, sync::Arc, time::Duration};

use futures::future::BoxFuture;
use k8s_openapi::api::core::v1;
use kube::{Api, api::Portforwarder, runtime::reflector::Store};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time,
};

use super::{Asked, ClusterError, agents, connect::Connection};
use crate::agents::{Dial, Io};

/// How long the API server may take to make one.
const FORWARD_MAX: Duration = Duration::from_secs(10);

/// Makes connections to whatever pod is the agent of a node at the time.
pub(super) struct Forward {
    pub(super) connection: Connection,
    pub(super) agents: Store<v1::Pod>,
    pub(super) installation: String,
    pub(super) node: String,
}

impl fmt::Debug for Forward {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Forward to the agent of {}", self.node)
    }
}

impl Dial for Forward {
    fn dial(self: Arc<Self>) -> BoxFuture<'static, io::Result<Box<dyn Io>>> {
        Box::pin(async move {
            let pods = self.agents.state();
            let Some((pod, port)) = agents::running_on(&pods, &self.installation, &self.node)
            else {
                let text = format!("no agent runs on {} now", self.node);
                return Err(io::Error::new(io::ErrorKind::NotFound, text));
            };
            let api: Api<v1::Pod> = Api::namespaced(self.connection.tunnel(), &self.installation);
            let ports = [port];
            let forwarding = time::timeout(FORWARD_MAX, api.portforward(&pod, &ports)).await;
            let mut forwarder = forwarding
                .map_err(|_late| {
                    io::Error::new(
                        io::ErrorKind::TimedOut,
                        format!("no port-forward to {pod} within {FORWARD_MAX:?}"),
                    )
                })?
                .map_err(|error| {
                    let asked = Asked::new("create", "pods/portforward");
                    let asked = asked.within(&self.installation).named(&pod);
                    io::Error::other(ClusterError::of(self.connection.server(), asked, error))
                })?;
            let stream = forwarder.take_stream(port);
            let stream =
                stream.ok_or_else(|| io::Error::other("the port-forward has no stream"))?;
            Ok(Box::new(Forwarded { stream, forwarder }) as Box<dyn Io>)
        })
    }
}

/// A connection, and what carries it.
struct Forwarded {
    stream: tokio::io::DuplexStream,
    forwarder: Portforwarder,
}

impl Drop for Forwarded {
    fn drop(&mut self) {
        self.forwarder.abort();
    }
}

impl AsyncRead for Forwarded {
    fn poll_read(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> std::task::Poll<io::Result<()>> {
        std::pin::Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Forwarded {
    fn poll_write(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
        buf: &[u8],
    ) -> std::task::Poll<io::Result<usize>> {
        std::pin::Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<io::Result<()>> {
        std::pin::Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<io::Result<()>> {
        std::pin::Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
