//! One attempt of `grpc`: grpc.health.v1.Health/Check, on a connection of HTTP/2 that is driven here
//! instead of by a task, which would outlive an attempt that is given up.

use bytes::{BufMut as _, Bytes, BytesMut};
use faultline_proto::{probe::Grpc, yaml::quote};
use h2::{RecvStream, client};
use hyper::{HeaderMap, Request, StatusCode, header};
use prost::Message;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::{Dialer, Failure, FailureKind, dial, http::of_status, tls::Secure};

/// Bytes of an answer; the right one has nine.
const ANSWER_BYTES_MAX: usize = 4 << 10;
/// Bytes of the headers of an answer.
const HEADERS_BYTES_MAX: u32 = 16 << 10;
/// A flag and a length before every message of gRPC.
const PREFIX_BYTES: usize = 5;
/// `SERVING` of `ServingStatus`.
const SERVING: i32 = 1;

/// `HealthCheckRequest` of grpc.health.v1.
#[derive(Clone, PartialEq, Message)]
struct HealthRequest {
    #[prost(string, tag = "1")]
    service: String,
}

/// `HealthCheckResponse` of grpc.health.v1.
#[derive(Clone, PartialEq, Message)]
struct HealthResponse {
    #[prost(int32, tag = "1")]
    status: i32,
}

#[derive(Debug)]
pub(crate) struct GrpcAttempt {
    spec: Grpc,
    secure: Option<Secure>,
}

impl GrpcAttempt {
    pub(crate) fn new(spec: Grpc) -> Result<Self, String> {
        let host = spec.address.host();
        let secure = spec.tls.as_ref().map(|tls| Secure::new(tls, host, b"h2")).transpose()?;
        Ok(Self { spec, secure })
    }

    pub(crate) async fn run(&self, dialer: &impl Dialer) -> Result<Option<String>, Failure> {
        let stream = dial::connect(dialer, &self.spec.address).await?;
        match &self.secure {
            Some(secure) => self.check(secure.wrap(stream).await?).await,
            None => self.check(stream).await,
        }
    }

    async fn check(
        &self,
        stream: impl AsyncRead + AsyncWrite + Send + Unpin,
    ) -> Result<Option<String>, Failure> {
        let (sender, connection) = client::Builder::new()
            .max_header_list_size(HEADERS_BYTES_MAX)
            .enable_push(false)
            .handshake(stream)
            .await
            .map_err(|e| of_h2(&e))?;
        let exchange = self.exchange(sender);
        tokio::pin!(exchange, connection);
        tokio::select! {
            result = &mut exchange => result,
            ended = &mut connection => match ended {
                Ok(()) => exchange.await,
                Err(e) => Err(of_h2(&e)),
            },
        }
    }

    async fn exchange(
        &self,
        sender: client::SendRequest<Bytes>,
    ) -> Result<Option<String>, Failure> {
        let mut sender = sender.ready().await.map_err(|e| of_h2(&e))?;
        let (response, mut body) =
            sender.send_request(self.request()?, false).map_err(|e| of_h2(&e))?;
        body.send_data(framed(&self.spec.service), true).map_err(|e| of_h2(&e))?;
        let response = response.await.map_err(|e| of_h2(&e))?;
        if response.status() != StatusCode::OK {
            return Err(of_status(response.status()));
        }
        let content = response.headers().get(header::CONTENT_TYPE);
        if !content.is_some_and(|content| content.as_bytes().starts_with(b"application/grpc")) {
            return Err(protocol("the answer is not one of gRPC"));
        }
        let headers = response.headers().clone();
        let mut body = response.into_body();
        let answer = read(&mut body).await?;
        let trailers = body.trailers().await.map_err(|e| of_h2(&e))?;
        // An answer without a message says in its headers what others say behind the message.
        self.status(&trailers.unwrap_or(headers))?;
        let answer = answer.strip_prefix(&[0]).and_then(|rest| rest.get(PREFIX_BYTES - 1..));
        let answer = answer.and_then(|message| HealthResponse::decode(message).ok());
        match answer {
            Some(HealthResponse { status: SERVING }) => Ok(None),
            Some(HealthResponse { status }) => {
                let name = match status {
                    2 => "NOT_SERVING",
                    3 => "SERVICE_UNKNOWN",
                    _ => "UNKNOWN",
                };
                Err(Failure::new(FailureKind::Status, name))
            }
            None => Err(protocol("the answer is not one of grpc.health.v1")),
        }
    }

    fn request(&self) -> Result<Request<()>, Failure> {
        let scheme = if self.secure.is_some() { "https" } else { "http" };
        let uri = format!("{scheme}://{}/grpc.health.v1.Health/Check", self.spec.address);
        Request::post(uri)
            .header(header::CONTENT_TYPE, "application/grpc")
            .header(header::TE, "trailers")
            .body(())
            .map_err(|e| Failure::new(FailureKind::Other, e.to_string()))
    }

    /// What gRPC itself says of the call.
    fn status(&self, trailers: &HeaderMap) -> Result<(), Failure> {
        let code = trailers.get("grpc-status").and_then(|code| code.to_str().ok());
        let text = match code {
            Some("0") => return Ok(()),
            Some("5") => format!("service {} is not known", quote(&self.spec.service)),
            Some("12") => "the server has no grpc.health.v1".to_owned(),
            Some(code) => format!("gRPC status {code}"),
            None => return Err(protocol("the answer has no gRPC status")),
        };
        Err(Failure::new(FailureKind::Status, text))
    }
}

async fn read(body: &mut RecvStream) -> Result<Vec<u8>, Failure> {
    let mut answer = Vec::new();
    while let Some(data) = body.data().await {
        let data = data.map_err(|e| of_h2(&e))?;
        answer.extend_from_slice(&data);
        if answer.len() > ANSWER_BYTES_MAX {
            return Err(protocol("the answer is too long for grpc.health.v1"));
        }
        body.flow_control().release_capacity(data.len()).map_err(|e| of_h2(&e))?;
    }
    Ok(answer)
}

/// A message as gRPC has it: not compressed, its length, itself.
fn framed(service: &str) -> Bytes {
    let message = HealthRequest { service: service.to_owned() }.encode_to_vec();
    let mut framed = BytesMut::with_capacity(PREFIX_BYTES + message.len());
    framed.put_u8(0);
    framed.put_u32(u32::try_from(message.len()).unwrap_or(u32::MAX));
    framed.put_slice(&message);
    framed.freeze()
}

fn protocol(text: &str) -> Failure {
    Failure::new(FailureKind::Protocol, text)
}

fn of_h2(error: &h2::Error) -> Failure {
    let kind = match error.get_io() {
        // Other: h2's own word for a connection that ends within a frame.
        Some(io) => match Failure::from(io).kind {
            FailureKind::Other => FailureKind::Reset,
            kind => kind,
        },
        None if error.is_reset() || error.is_go_away() && error.is_remote() => FailureKind::Reset,
        None => FailureKind::Protocol,
    };
    Failure::new(kind, error.to_string())
}
