//! `grpc.health.v1.Health/Check` of the echo service: it is serving, as a whole; of services it has none.

use bytes::Bytes;
use hyper::{HeaderMap, Response, StatusCode, header::HeaderValue};
use tokio::net::TcpStream;

/// Connections and calls are small: this is all that one may send.
const FRAME_BYTES_MAX: u32 = 16 << 10;
const CALLS_MAX: u32 = 16;
/// A message of gRPC: not compressed, two bytes, and field 1 is 1 (`SERVING`).
const SERVING: &[u8] = &[0, 0, 0, 0, 2, 8, 1];
/// A message of gRPC without any field: the server as a whole is asked for.
const WHOLE: &[u8] = &[0, 0, 0, 0, 0];
const OK: &str = "0";
const NOT_FOUND: &str = "5";
const UNIMPLEMENTED: &str = "12";

/// Answers on one connection.
pub(super) async fn serve(stream: TcpStream) {
    let mut server = h2::server::Builder::new();
    server.initial_window_size(FRAME_BYTES_MAX).max_concurrent_streams(CALLS_MAX);
    let Ok(mut connection) = server.handshake::<_, Bytes>(stream).await else { return };
    while let Some(Ok((mut request, respond))) = connection.accept().await {
        // A task of its own: the connection must be driven while the message is read.
        tokio::spawn(async move {
            let is_check = request.uri().path() == "/grpc.health.v1.Health/Check";
            let message = request.body_mut().data().await.and_then(Result::ok).unwrap_or_default();
            let status = match (is_check, &message[..] == WHOLE) {
                (true, true) => OK,
                (true, false) => NOT_FOUND,
                (false, _) => UNIMPLEMENTED,
            };
            // A client that breaks off is not this server's error.
            drop(answer(respond, status));
        });
    }
}

fn answer(
    mut respond: h2::server::SendResponse<Bytes>,
    status: &'static str,
) -> Result<(), h2::Error> {
    let mut response = Response::new(());
    *response.status_mut() = StatusCode::OK;
    response.headers_mut().insert("content-type", HeaderValue::from_static("application/grpc"));
    let mut body = respond.send_response(response, false)?;
    if status == OK {
        body.send_data(Bytes::from_static(SERVING), false)?;
    }
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static(status));
    body.send_trailers(trailers)
}
