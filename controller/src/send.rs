//! One request to a server of somebody's, after a run: metrics to a gateway, a trace to a collector.

use std::{fmt, str::FromStr};

use bytes::Bytes;
use http_body_util::{BodyExt, Collected, Full, Limited};
use hyper::{Method, Request, Uri, client::conn::http1, header};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

/// Bytes of an answer that are looked at.
const ANSWER_BYTES_MAX: usize = 16 << 10;

/// Where something is sent to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    /// `host:port`.
    authority: String,
    /// What its paths begin with; empty, or without a slash at its end.
    prefix: String,
}

/// What is sent.
#[derive(Debug)]
pub(crate) struct Content {
    /// Its media type.
    pub(crate) kind: &'static str,
    /// The text.
    pub(crate) body: String,
}

impl FromStr for Server {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let expected = "expected http://HOST[:PORT][/PATH]";
        let uri: Uri = text.parse().map_err(|e| format!("{e}: {expected}"))?;
        match uri.scheme_str() {
            Some("http") => {}
            Some("https") => {
                return Err("it is sent over http only: put it behind a proxy of this host".into());
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

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http://{}{}", self.authority, self.prefix)
    }
}

impl Server {
    /// Sends something to a path, and returns the beginning of the answer.
    ///
    /// # Errors
    /// When it cannot be reached or does not take it: a sentence for a person.
    pub(crate) async fn send(
        &self,
        method: Method,
        path: &str,
        content: Content,
    ) -> Result<String, String> {
        let failed = |e: &dyn std::error::Error| format!("{self}: {}", crate::run::one_line(e));
        let stream = TcpStream::connect(&self.authority).await.map_err(|e| failed(&e))?;
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(|e| failed(&e))?;
        let request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.prefix))
            .header(header::HOST, &self.authority)
            .header(header::CONTENT_TYPE, content.kind)
            .header(header::CONNECTION, "close")
            .body(Full::new(Bytes::from(content.body)))
            .map_err(|e| failed(&e))?;
        let exchange = async {
            let response = sender.send_request(request).await.map_err(|e| failed(&e))?;
            let status = response.status();
            let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await;
            let body = body.map(Collected::to_bytes).unwrap_or_default();
            let said = String::from_utf8_lossy(&body).into_owned();
            if status.is_success() {
                return Ok(said);
            }
            Err(format!("{self} answered {status}: {}", said.lines().next().unwrap_or_default()))
        };
        let mut exchange = std::pin::pin!(exchange);
        tokio::select! {
            result = &mut exchange => result,
            // It drives the exchange, and may end before that has looked at the answer.
            ended = connection => match ended {
                Err(e) => Err(failed(&e)),
                Ok(()) => exchange.await,
            },
        }
    }
}
