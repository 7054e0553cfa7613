//! One attempt of `http`: a request, and as much of its answer as is needed.

use std::{
    error::Error as _,
    io::{
        self,
        ErrorKind::{InvalidData, InvalidInput},
    },
};

use bytes::Bytes;
use faultline_proto::{
    limits::PROBE_ANSWER_BYTES_MAX,
    probe::{Http, JsonCheck, Tls, Url, value_of},
    units,
    yaml::quote,
};
use http_body_util::{BodyExt as _, Full};
use hyper::{Request, StatusCode, header};
use hyper::{body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::{Dialer, Failure, FailureKind, dial, socket, tls::Secure};

#[derive(Debug)]
pub(crate) struct HttpAttempt {
    spec: Http,
    request: Request<Full<Bytes>>,
    secure: Option<Secure>,
}

impl HttpAttempt {
    pub(crate) fn new(spec: Http) -> Result<Self, String> {
        let secure = secure(&spec.url, spec.tls.as_ref())?;
        let mut request = Request::builder().method(spec.method.name()).uri(spec.url.path());
        let has_host = spec.headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("host"));
        if !has_host {
            request = request.header(header::HOST, spec.url.authority());
        }
        for (name, value) in &spec.headers {
            request = request.header(name, value);
        }
        let body = spec.body.as_ref().map(|body| Bytes::copy_from_slice(body.bytes()));
        let request = request
            .header(header::CONNECTION, "close")
            .body(Full::new(body.unwrap_or_default()))
            .map_err(|e| e.to_string())?;
        Ok(Self { spec, request, secure })
    }

    pub(crate) async fn run(&self, dialer: &impl Dialer) -> Result<Option<String>, Failure> {
        let Http { url, status, matches, json, .. } = &self.spec;
        let answer = ask(dialer, url, self.secure.as_ref(), self.request.clone()).await?;
        if !status.contains(answer.status.as_u16()) {
            return Err(of_status(answer.status));
        }
        if (matches.is_some() || json.is_some()) && answer.is_cut {
            return Err(too_long());
        }
        let mut value = None;
        if let Some(pattern) = matches {
            value = pattern.find(&answer.body).ok_or_else(|| socket::missing(pattern))?.value;
        }
        match json {
            Some(check) => json_value(check, &answer.body).map(Some),
            None => Ok(value),
        }
    }
}

/// What is needed for a secure connection to a URL; nothing where it is not asked for.
pub(crate) fn secure(url: &Url, tls: Option<&Tls>) -> Result<Option<Secure>, String> {
    let tls = tls.cloned().unwrap_or_default();
    let secure = url.is_secure().then(|| Secure::new(&tls, url.address().host(), b"http/1.1"));
    secure.transpose()
}

/// An answer.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    /// Its first [`PROBE_ANSWER_BYTES_MAX`] bytes.
    pub(crate) body: Vec<u8>,
    /// There were more.
    pub(crate) is_cut: bool,
}

/// Sends a request on a connection of its own.
pub(crate) async fn ask(
    dialer: &impl Dialer,
    url: &Url,
    secure: Option<&Secure>,
    request: Request<Full<Bytes>>,
) -> Result<Answer, Failure> {
    let stream = dial::connect(dialer, url.address()).await?;
    match secure {
        Some(secure) => exchange(secure.wrap(stream).await?, request).await,
        None => exchange(stream, request).await,
    }
}

async fn exchange(
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    request: Request<Full<Bytes>>,
) -> Result<Answer, Failure> {
    let handshake = http1::handshake(TokioIo::new(stream)).await;
    let (mut sender, connection) = handshake.map_err(|e| of_hyper(&e))?;
    let answer = async {
        let response = sender.send_request(request).await.map_err(|e| of_hyper(&e))?;
        let status = response.status();
        // A status line whose body never comes is no answer.
        let (body, is_cut) = read(response.into_body()).await?;
        Ok(Answer { status, body, is_cut })
    };
    // Driven here instead of by a task, which would outlive an attempt that is given up.
    tokio::pin!(answer, connection);
    tokio::select! {
        result = &mut answer => result,
        ended = &mut connection => match ended {
            Ok(()) => answer.await,
            Err(e) => Err(of_hyper(&e)),
        },
    }
}

async fn read(mut body: Incoming) -> Result<(Vec<u8>, bool), Failure> {
    let mut read = Vec::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|e| of_hyper(&e))?;
        let Some(data) = frame.data_ref() else { continue };
        let room = PROBE_ANSWER_BYTES_MAX - read.len();
        read.extend_from_slice(&data[..data.len().min(room)]);
        if data.len() > room {
            return Ok((read, true));
        }
    }
    Ok((read, false))
}

/// What is at a place of a JSON document, as text; a text without its quotes.
fn json_value(check: &JsonCheck, body: &[u8]) -> Result<String, Failure> {
    let not_json = |e| Failure::new(FailureKind::Protocol, format!("the body is not JSON: {e}"));
    let document: serde_json::Value = serde_json::from_slice(body).map_err(not_json)?;
    let found = document.pointer(&check.pointer).ok_or_else(|| {
        let pointer = quote(&check.pointer);
        Failure::new(FailureKind::Mismatch, format!("nothing is at {pointer} of the body"))
    })?;
    let text = found.as_str().map_or_else(|| found.to_string(), str::to_owned);
    match &check.equals {
        Some(wanted) if !same(wanted, found) => {
            let text = format!("{} is {}", quote(&check.pointer), quote(&text));
            Err(Failure::new(FailureKind::Mismatch, text))
        }
        _ => Ok(value_of(text.as_bytes())),
    }
}

/// Numbers are compared as numbers: 1 and 1.0 are the same.
fn same(wanted: &serde_json::Value, found: &serde_json::Value) -> bool {
    match (wanted.as_f64(), found.as_f64()) {
        (Some(wanted), Some(found)) => wanted.to_bits() == found.to_bits(),
        _ => wanted == found,
    }
}

/// That an answer has another status than was asked for.
pub(crate) fn of_status(status: StatusCode) -> Failure {
    Failure::new(FailureKind::Status, format!("status {}", status.as_u16()))
}

/// That an answer is too long to be looked at.
pub(crate) fn too_long() -> Failure {
    let limit = units::size(PROBE_ANSWER_BYTES_MAX as u64);
    Failure::new(FailureKind::Protocol, format!("the answer is longer than {limit}"))
}

fn of_hyper(error: &hyper::Error) -> Failure {
    let kind = match error.source().and_then(|e| e.downcast_ref::<io::Error>()) {
        Some(io) if is_tls(io) => FailureKind::Tls,
        // What hyper itself says of chunks that are none.
        Some(io) if [InvalidData, InvalidInput].contains(&io.kind()) => FailureKind::Protocol,
        Some(io) => Failure::from(io).kind,
        None if error.is_parse() || error.is_user() => FailureKind::Protocol,
        None => FailureKind::Reset,
    };
    Failure::new(kind, error.to_string())
}

fn is_tls(error: &io::Error) -> bool {
    error.get_ref().and_then(|e| e.downcast_ref::<rustls::Error>()).is_some()
}
