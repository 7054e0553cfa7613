//! `tcp` and `udp`.

use std::time::Duration;

use faultline_probe::{Attempt, FailureKind, HostDialer};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::UdpSocket,
    sync::mpsc,
    time,
};

use crate::support::{SOON, attempt, failure, nobody, serve, spec};

#[tokio::test]
async fn a_connection_is_accepted_or_refused() {
    let open = serve(|_stream| async {}).await;
    assert_eq!(attempt("tcp", &format!("address: {open}")).await, Ok(None));
    let closed = nobody().await;
    assert_eq!(failure("tcp", &format!("address: {closed}")).await.0, FailureKind::Refused);
    let unknown = "address: no-such-host.invalid:80";
    assert_eq!(failure("tcp", unknown).await.0, FailureKind::Resolve);
}

#[tokio::test]
async fn what_comes_back_is_compared_also_in_pieces() {
    let pieces = serve(|mut stream| async move {
        let mut request = [0; 4];
        if stream.read_exact(&mut request).await.is_ok() && request == *b"PING" {
            for byte in b"+PONG 17\r\n" {
                drop(stream.write_all(&[*byte]).await);
                time::sleep(Duration::from_millis(1)).await;
            }
        }
    })
    .await;
    let asks = |send: &str, expect| format!("address: {pieces}\nsend: {send}\nexpect: {expect}");
    assert_eq!(attempt("tcp", &asks("PING", "PONG")).await, Ok(None));
    assert_eq!(attempt("tcp", &asks("{ hex: 50494e47 }", "PONG")).await, Ok(None));
    let value = attempt("tcp", &asks("PING", r"/PONG (\d+)\r/")).await;
    assert_eq!(value, Ok(Some("17".into())));
    assert_eq!(failure("tcp", &asks("PING", "NEVER")).await.0, FailureKind::Mismatch);
    assert_eq!(failure("tcp", &asks("GONE", "PONG")).await.0, FailureKind::Reset);
}

#[tokio::test]
async fn a_flood_in_which_it_never_comes_ends() {
    let flood =
        serve(|mut stream| async move { while stream.write_all(&[b'x'; 4096]).await.is_ok() {} })
            .await;
    let asks = format!("address: {flood}\nexpect: hello");
    assert_eq!(failure("tcp", &asks).await.0, FailureKind::Mismatch);
}

#[tokio::test]
async fn an_attempt_that_is_given_up_closes_its_connection() {
    let (closed, mut was_closed) = mpsc::unbounded_channel();
    let stalls = serve(move |mut stream| {
        let closed = closed.clone();
        async move {
            // What is sent before the answer is read, and then the end.
            drop(tokio::io::copy(&mut stream, &mut tokio::io::sink()).await);
            closed.send(()).ok();
        }
    })
    .await;
    for (kind, yaml) in [
        ("tcp", format!("address: {stalls}\nexpect: hello")),
        ("http", format!("url: http://{stalls}/")),
        ("http", format!("url: https://{stalls}/\ntls: {{ insecure: true }}")),
        ("grpc", format!("address: {stalls}")),
        ("grpc", format!("address: {stalls}\ntls: {{ insecure: true }}")),
        ("prometheus", format!("server: http://{stalls}/\nquery: up")),
    ] {
        let attempt = Attempt::new(&spec(kind, &yaml)).expect("made ready");
        let dialer = HostDialer::default();
        let given_up = time::timeout(Duration::from_millis(50), attempt.run(&dialer)).await;
        assert!(given_up.is_err(), "{yaml}: nothing ever answers");
        let closed = time::timeout(SOON, was_closed.recv()).await;
        assert_eq!(closed, Ok(Some(())), "{yaml}: its connection stayed open");
    }
}

#[tokio::test]
async fn a_datagram_is_answered_or_refused() {
    let server = UdpSocket::bind("127.0.0.1:0").await.expect("a port");
    let address = server.local_addr().expect("its address");
    tokio::spawn(async move {
        let mut datagram = [0; 2048];
        while let Ok((len, from)) = server.recv_from(&mut datagram).await {
            let answer = [b"re: ", &datagram[..len]].concat();
            drop(server.send_to(&answer, from).await);
        }
    });
    let asks = |expect: &str| format!("address: {address}\nsend: hello\n{expect}");
    assert_eq!(attempt("udp", &asks("")).await, Ok(None));
    assert_eq!(attempt("udp", &asks("expect: 're: hello'")).await, Ok(None));
    assert_eq!(attempt("udp", &asks("expect: '/^re: (.*)$/'")).await, Ok(Some("hello".into())));
    assert_eq!(failure("udp", &asks("expect: '/^hello/'")).await.0, FailureKind::Mismatch);
    let closed = nobody().await;
    let refused = format!("address: {closed}\nsend: hello");
    assert_eq!(failure("udp", &refused).await.0, FailureKind::Refused);
}
