//! What the echo service says over HTTP: by path, so that every kind of outcome can be had.

use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use faultline_proto::units;
use http_body_util::Full;
use hyper::{
    Request, Response, StatusCode, body::Bytes, header, server::conn::http1, service::service_fn,
};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::{net::TcpStream, time};

/// The longest that an answer is asked to take.
const DELAY_MAX: Duration = Duration::from_mins(1);

/// What all connections of a pod share.
#[derive(Debug)]
pub(super) struct Service {
    pod: String,
    requests: AtomicU64,
}

/// An answer, and how long it takes.
struct Answer {
    status: StatusCode,
    after: Duration,
    body: Value,
}

impl Service {
    pub(super) fn new(pod: &str) -> Self {
        Self { pod: pod.to_owned(), requests: AtomicU64::new(0) }
    }

    /// Answers on one connection.
    pub(super) async fn serve(self: Arc<Self>, stream: TcpStream) {
        let service = service_fn(move |request: Request<_>| {
            let answer = self.answer(request.uri().path());
            async move {
                time::sleep(answer.after).await;
                let body = Bytes::from(answer.body.to_string() + "\n");
                let mut response = Response::new(Full::new(body));
                *response.status_mut() = answer.status;
                let json = header::HeaderValue::from_static("application/json");
                response.headers_mut().insert(header::CONTENT_TYPE, json);
                Ok::<_, Infallible>(response)
            }
        });
        // A client that breaks off is not this server's error.
        drop(http1::Builder::new().serve_connection(TokioIo::new(stream), service).await);
    }

    fn answer(&self, path: &str) -> Answer {
        let count = self.requests.fetch_add(1, Ordering::Relaxed) + 1;
        let name = json!({ "pod": self.pod });
        let mut answer = Answer { status: StatusCode::OK, after: Duration::ZERO, body: name };
        if let Some(status) = path.strip_prefix("/status/") {
            match status.parse().ok().and_then(|code| StatusCode::from_u16(code).ok()) {
                Some(status) if !status.is_informational() => answer.status = status,
                _ => answer.status = StatusCode::BAD_REQUEST,
            }
        } else if let Some(after) = path.strip_prefix("/delay/") {
            match units::parse_duration(after) {
                Ok(after) if after <= DELAY_MAX => answer.after = after,
                _ => answer.status = StatusCode::BAD_REQUEST,
            }
        } else if path == "/count" {
            answer.body = json!({ "pod": self.pod, "count": count });
        } else if path == "/api/v1/query" {
            // As a Prometheus server says it, whatever the query.
            let point = json!({ "metric": {}, "value": [0, count.to_string()] });
            let data = json!({ "resultType": "vector", "result": [point] });
            answer.body = json!({ "status": "success", "data": data });
        }
        answer
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_say_what_is_answered() {
        let service = Service::new("echo-1");
        for (path, status, millis) in [
            ("/", 200, 0),
            ("/status/503", 503, 0),
            ("/status/1", 400, 0),
            ("/status/101", 400, 0),
            ("/delay/250ms", 200, 250),
            ("/delay/2h", 400, 0),
        ] {
            let answer = service.answer(path);
            let is = (answer.status.as_u16(), answer.after.as_millis());
            assert_eq!(is, (status, millis), "{path}");
            assert_eq!(answer.body["pod"], "echo-1");
        }
        assert_eq!(service.answer("/count").body["count"], 7);
    }
}
