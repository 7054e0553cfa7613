//! Servers of the tests, and probes as they are written in a file.

use std::{net::SocketAddr, time::Duration};

use faultline_probe::{Attempt, Failure, FailureKind, HostDialer};
use faultline_proto::{
    probe::Spec,
    yaml::{Problems, parse},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    time,
};

/// For what is to come at all. Generous: nothing is measured by it.
pub(crate) const SOON: Duration = Duration::from_secs(20);

/// What is written for a kind of probe.
pub(crate) fn spec(kind: &str, yaml: &str) -> Spec {
    let nodes = parse(yaml).expect("YAML");
    let mut problems = Problems::new();
    let spec = Spec::decode(kind, &nodes[0], &mut problems);
    assert!(problems.is_empty(), "{yaml}: {:?}", problems.into_sorted());
    spec.expect("decoded")
}

/// One attempt, which ends soon.
pub(crate) async fn attempt(kind: &str, yaml: &str) -> Result<Option<String>, Failure> {
    let attempt = Attempt::new(&spec(kind, yaml)).expect("made ready");
    let dialer = HostDialer::default();
    time::timeout(SOON, attempt.run(&dialer)).await.expect("it ends")
}

/// The kind of the failure of one attempt.
pub(crate) async fn failure(kind: &str, yaml: &str) -> (FailureKind, String) {
    let failure = attempt(kind, yaml).await.expect_err(yaml);
    (failure.kind, failure.text)
}

/// A server that treats every connection alike.
pub(crate) async fn serve<F>(serve: impl Fn(TcpStream) -> F + Send + 'static) -> SocketAddr
where
    F: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("its address");
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream));
        }
    });
    address
}

/// A server that reads a request's head, says `answer`, and closes.
pub(crate) async fn says(answer: impl Into<Vec<u8>>) -> SocketAddr {
    let answer: Vec<u8> = answer.into();
    serve(move |mut stream| {
        let answer = answer.clone();
        async move {
            read_head(&mut stream).await;
            drop(stream.write_all(&answer).await);
            drop(stream.shutdown().await);
            // Closing with something unread would be a reset.
            drop(tokio::io::copy(&mut stream, &mut tokio::io::sink()).await);
        }
    })
    .await
}

/// Reads to the empty line behind the headers of a request.
pub(crate) async fn read_head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let Ok(byte) = stream.read_u8().await else { break };
        head.push(byte);
    }
    String::from_utf8_lossy(&head).into_owned()
}

/// An address of this machine where nobody listens.
pub(crate) async fn nobody() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    listener.local_addr().expect("its address")
}
