//! Metrics to a Pushgateway, for runs that are over before anybody could scrape them.
//!
//! A run takes the place of what the last run of its experiment pushed: the group is
//! `job="faultline"`, `instance="<experiment>"`. Of counters the gateway so has what one run counted.

use std::{fmt, str::FromStr, time::Duration};

use bytes::Bytes;
use http_body_util::{BodyExt, Collected, Full, Limited};
use hyper::{Request, Uri, client::conn::http1, header};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::{Metrics, exposition};

/// How long a push may take in all: nobody's exit waits longer for a gateway.
const PUSH_MAX: Duration = Duration::from_secs(5);
/// Bytes of an answer that are looked at.
const ANSWER_BYTES_MAX: usize = 16 << 10;

/// Where metrics are pushed to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gateway {
    /// `host:port`.
    authority: String,
    /// What the paths of the gateway begin with; empty, or without a slash at its end.
    prefix: String,
}

impl FromStr for Gateway {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let expected = "expected http://HOST[:PORT][/PATH]";
        let uri: Uri = text.parse().map_err(|e| format!("{e}: {expected}"))?;
        match uri.scheme_str() {
            Some("http") => {}
            Some("https") => {
                return Err(
                    "metrics are pushed over http only: put it behind a proxy of this host".into(),
                );
            }
            _ => return Err(expected.into()),
        }
        let authority = uri.authority().ok_or(expected)?;
        if authority.as_str().contains('@') {
            return Err("a password on the command line is seen by everybody on this host".into());
        }
        if uri.query().is_some() {
            return Err(format!("a query has no meaning here: {expected}"));
        }
        let port = authority.port_u16().unwrap_or(80);
        let authority = format!("{}:{port}", authority.host());
        Ok(Self { authority, prefix: uri.path().trim_end_matches('/').to_owned() })
    }
}

impl fmt::Display for Gateway {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http://{}{}", self.authority, self.prefix)
    }
}

impl Gateway {
    /// Pushes what the last run of an experiment came to.
    ///
    /// # Errors
    /// When the gateway cannot be reached, does not take it, or is too slow: a sentence for a person.
    pub async fn push(&self, experiment: &str, metrics: &Metrics) -> Result<(), String> {
        let text = metrics.openmetrics().map_err(|e| e.to_string())?;
        let body = exposition::classic(&text);
        let pushed = tokio::time::timeout(PUSH_MAX, self.put(experiment, body)).await;
        pushed.unwrap_or_else(|_late| Err(format!("{self} did not answer within {PUSH_MAX:?}")))
    }

    async fn put(&self, experiment: &str, body: String) -> Result<(), String> {
        let failed = |e: &dyn std::error::Error| format!("{self}: {}", crate::run::one_line(e));
        let stream = TcpStream::connect(&self.authority).await.map_err(|e| failed(&e))?;
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(|e| failed(&e))?;
        // Names of experiments are such as need no escaping.
        let path = format!("{}/metrics/job/faultline/instance/{experiment}", self.prefix);
        let request = Request::put(path)
            .header(header::HOST, &self.authority)
            .header(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")
            .header(header::CONNECTION, "close")
            .body(Full::new(Bytes::from(body)))
            .map_err(|e| failed(&e))?;
        let exchange = async {
            let response = sender.send_request(request).await.map_err(|e| failed(&e))?;
            let status = response.status();
            if status.is_success() {
                return Ok(());
            }
            let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await;
            let body = body.map(Collected::to_bytes).unwrap_or_default();
            let said = String::from_utf8_lossy(&body);
            Err(format!("{self} answered {status}: {}", said.lines().next().unwrap_or_default()))
        };
        tokio::select! {
            result = exchange => result,
            // It drives the exchange, and ends before it only when it fails.
            Err(e) = connection => Err(failed(&e)),
        }
    }
}
