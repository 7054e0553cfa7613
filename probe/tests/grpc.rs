//! `grpc`.

use bytes::Bytes;
use faultline_probe::FailureKind;
use hyper::{HeaderMap, Response};
use tokio::net::TcpStream;

use crate::support::{attempt, failure, says, serve};

/// What a server says to every call.
#[derive(Clone, Copy)]
struct Says {
    status: u16,
    content: &'static str,
    message: &'static [u8],
    grpc_status: Option<&'static str>,
}

const SERVING: Says = Says {
    status: 200,
    content: "application/grpc",
    message: &[0, 0, 0, 0, 2, 8, 1],
    grpc_status: Some("0"),
};

async fn answer(stream: TcpStream, says: Says) {
    let Ok(mut connection) = h2::server::handshake(stream).await else { return };
    while let Some(Ok((_request, mut respond))) = connection.accept().await {
        let response = Response::builder()
            .status(says.status)
            .header("content-type", says.content)
            .body(())
            .expect("a response");
        let Ok(mut body) = respond.send_response(response, false) else { return };
        drop(body.send_data(Bytes::from_static(says.message), says.grpc_status.is_none()));
        if let Some(status) = says.grpc_status {
            let mut trailers = HeaderMap::new();
            trailers.insert("grpc-status", status.parse().expect("a header"));
            drop(body.send_trailers(trailers));
        }
    }
}

#[tokio::test]
async fn a_server_says_whether_it_serves() {
    for (says, outcome) in [
        (SERVING, Ok(None)),
        (Says { message: &[0, 0, 0, 0, 2, 8, 2], ..SERVING }, Err(FailureKind::Status)),
        (Says { message: &[0, 0, 0, 0, 0], ..SERVING }, Err(FailureKind::Status)),
        (Says { message: &[], grpc_status: Some("5"), ..SERVING }, Err(FailureKind::Status)),
        (Says { grpc_status: Some("12"), ..SERVING }, Err(FailureKind::Status)),
        (Says { status: 503, ..SERVING }, Err(FailureKind::Status)),
        (Says { content: "text/html", ..SERVING }, Err(FailureKind::Protocol)),
        (Says { grpc_status: None, ..SERVING }, Err(FailureKind::Protocol)),
        (Says { message: &[1, 0, 0, 0, 2, 8, 1], ..SERVING }, Err(FailureKind::Protocol)),
        (Says { message: &[0, 0], ..SERVING }, Err(FailureKind::Protocol)),
        (Says { message: &[0, 0, 0, 0, 2, 0xff, 0xff], ..SERVING }, Err(FailureKind::Protocol)),
        (Says { message: &[0; 5000], ..SERVING }, Err(FailureKind::Protocol)),
    ] {
        let server = serve(move |stream| answer(stream, says)).await;
        let asks = format!("address: {server}\nservice: shop.Orders");
        let found = attempt("grpc", &asks).await.map_err(|failure| failure.kind);
        assert_eq!(found, outcome, "{:?} {:?}", says.message, says.grpc_status);
    }
}

#[tokio::test]
async fn a_server_without_http2_is_no_grpc_server() {
    let http1 = says("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
    let (kind, text) = failure("grpc", &format!("address: {http1}")).await;
    assert_eq!(kind, FailureKind::Protocol, "{text}");
    let closes = serve(|_stream| async {}).await;
    assert_eq!(failure("grpc", &format!("address: {closes}")).await.0, FailureKind::Reset);
}
