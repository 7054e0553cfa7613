//! `GET /metrics` and `GET /healthz` over plain HTTP.

use std::{convert::Infallible, sync::Arc, time::Duration};

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
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    time,
};

use super::Metrics;

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
/// An election that has not come round for so long hangs.
const TURN_MAX: Duration = Duration::from_secs(30);

/// Serves until it is dropped.
pub(super) async fn serve(listener: TcpListener, metrics: Arc<Metrics>) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        // Never closed, so that there always is a place to wait for.
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let metrics = Arc::clone(&metrics);
                tokio::spawn(async move {
                    // Whoever breaks off or is too slow has no answer; that is their affair.
                    drop(time::timeout(CONNECTION_MAX, one(stream, metrics)).await);
                    drop(place);
                });
            }
            Err(_) => time::sleep(ACCEPT_AGAIN).await,
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

fn answer(method: &Method, path: &str, metrics: &Metrics) -> Response<Full<Bytes>> {
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
        "/healthz" if metrics.since_turn() <= TURN_MAX => {
            response(StatusCode::OK, PLAIN, "ok\n".into())
        }
        "/healthz" => {
            let text =
                format!("the election has not come round for {:.1?}\n", metrics.since_turn());
            response(StatusCode::SERVICE_UNAVAILABLE, PLAIN, text)
        }
        _ => response(StatusCode::NOT_FOUND, PLAIN, "/metrics and /healthz are here\n".into()),
    }
}

fn response(status: StatusCode, form: &'static str, text: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(form));
    response
}
