//! `GET /metrics` and `GET /healthz` over plain HTTP, on a thread and a runtime of their own: whoever
//! scrapes, and however slowly, delays neither a revert nor the gRPC service.

use std::{
    convert::Infallible,
    io,
    net::{SocketAddr, TcpListener},
    sync::Arc,
    thread,
    time::Duration,
};

use bytes::Bytes;
use http_body_util::Full;
use hyper::{
    Method, Request, Response, StatusCode,
    body::Incoming,
    header::{self, HeaderValue},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use thiserror::Error;
use tokio::{net::TcpStream, runtime, sync::Semaphore};
use tracing::{info, warn};

use super::Metrics;
use crate::{errors::chain, kernel::clock};

/// Connections at once; one more waits to be accepted.
const CONNECTIONS_MAX: usize = 8;
/// How long a connection may take in all: it is for one question.
const CONNECTION_MAX: Duration = Duration::from_secs(10);
/// How long whoever connects may take to ask.
const QUESTION_MAX: Duration = Duration::from_secs(1);
/// Bytes of a request's head.
const HEAD_BYTES_MAX: usize = 8 << 10;
/// The pause after a connection could not be accepted, for want of a file descriptor say.
const ACCEPT_AGAIN: Duration = Duration::from_millis(200);
/// A supervisor that has not come round for so long hangs in a call.
const TURN_MAX: Duration = Duration::from_secs(30);

/// Metrics cannot be offered.
#[derive(Debug, Error)]
pub enum ServeError {
    /// Not on this address.
    #[error("cannot listen on {address} for metrics")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// No thread, or no runtime for it.
    #[error("cannot start the thread that serves metrics")]
    Thread(#[source] io::Error),
}

/// Serves until the process ends, on a thread of its own. Returns the address, whose port was chosen
/// if 0 was asked for.
///
/// # Errors
/// When the address cannot be bound, or there is no thread.
pub fn serve(address: SocketAddr, metrics: Arc<Metrics>) -> Result<SocketAddr, ServeError> {
    let listen = |source| ServeError::Listen { address, source };
    let listener = TcpListener::bind(address).map_err(listen)?;
    listener.set_nonblocking(true).map_err(listen)?;
    let bound = listener.local_addr().map_err(listen)?;
    let runtime =
        runtime::Builder::new_current_thread().enable_all().build().map_err(ServeError::Thread)?;
    thread::Builder::new()
        .name("metrics".into())
        .spawn(move || runtime.block_on(accept(listener, metrics)))
        .map_err(ServeError::Thread)?;
    info!(address = %bound, "serving metrics");
    Ok(bound)
}

async fn accept(listener: TcpListener, metrics: Arc<Metrics>) {
    let listener = match tokio::net::TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(e) => return warn!(error = %chain(&e), "metrics are not served"),
    };
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        // Never closed, so that there always is a place to wait for.
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let metrics = Arc::clone(&metrics);
                tokio::spawn(async move {
                    // Whoever breaks off or is too slow has no answer; that is their affair.
                    drop(tokio::time::timeout(CONNECTION_MAX, one(stream, metrics)).await);
                    drop(place);
                });
            }
            Err(_) => tokio::time::sleep(ACCEPT_AGAIN).await,
        }
    }
}

async fn one(stream: TcpStream, metrics: Arc<Metrics>) -> Result<(), hyper::Error> {
    let service = service_fn(|request: Request<Incoming>| {
        let response = answer(request.method(), request.uri().path(), &metrics);
        async { Ok::<_, Infallible>(response) }
    });
    http1::Builder::new()
        .keep_alive(false)
        .timer(TokioTimer::new())
        .header_read_timeout(QUESTION_MAX)
        .max_buf_size(HEAD_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), service)
        .await
}

fn answer(method: &Method, path: &str, metrics: &Arc<Metrics>) -> Response<Full<Bytes>> {
    const PLAIN: &str = "text/plain; charset=utf-8";
    if method != Method::GET && method != Method::HEAD {
        let mut refused = response(StatusCode::METHOD_NOT_ALLOWED, PLAIN, "GET only\n".into());
        refused.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
        return refused;
    }
    match path {
        "/metrics" => match metrics.text() {
            Ok(text) => {
                let form = "application/openmetrics-text; version=1.0.0; charset=utf-8";
                response(StatusCode::OK, form, text)
            }
            Err(e) => response(StatusCode::INTERNAL_SERVER_ERROR, PLAIN, format!("{e}\n")),
        },
        "/healthz" => match metrics.since_turn(clock::now()) {
            Some(since) if since <= TURN_MAX => response(StatusCode::OK, PLAIN, "ok\n".into()),
            Some(since) => {
                let text = format!("the supervisor has not come round for {since:.1?}\n");
                response(StatusCode::SERVICE_UNAVAILABLE, PLAIN, text)
            }
            None => {
                let text = "the supervisor has not come round yet\n";
                response(StatusCode::SERVICE_UNAVAILABLE, PLAIN, text.into())
            }
        },
        _ => response(StatusCode::NOT_FOUND, PLAIN, "/metrics and /healthz are here\n".into()),
    }
}

fn response(status: StatusCode, form: &'static str, text: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(form));
    response
}
