//! Servers that say anything at all: every attempt ends with a failure, and none panics.

use faultline_probe::FailureKind;
use tokio::io::AsyncWriteExt as _;

use crate::support::{attempt, serve};

/// A small generator of noise: the same for the same seed.
fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    };
    std::iter::repeat_with(next).take(len).collect()
}

/// Beginnings that lead a reader some way in before the noise.
const BEGINNINGS: [&[u8]; 7] = [
    b"",
    b"HTTP/1.1 200 OK\r\n",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nff\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n",
    // SETTINGS of HTTP/2, then headers of stream 1.
    b"\0\0\0\x04\0\0\0\0\0\0\0\x20\x01\x04\0\0\0\x01",
    // A handshake record of TLS.
    b"\x16\x03\x03\x00\x40\x02\x00\x00\x3c",
    b"\x15\x03\x03\x00\x02",
];

#[tokio::test]
async fn noise_is_a_failure_and_nothing_worse() {
    for seed in 0..70_usize {
        let beginning = BEGINNINGS[seed % BEGINNINGS.len()];
        let said = [beginning, &noise(seed as u64 + 1, seed * 7)].concat();
        let server = serve(move |mut stream| {
            let said = said.clone();
            async move {
                drop(stream.write_all(&said).await);
                drop(stream.shutdown().await);
                drop(tokio::io::copy(&mut stream, &mut tokio::io::sink()).await);
            }
        })
        .await;
        for (kind, yaml) in [
            ("tcp", format!("address: {server}\nexpect: /never this$/")),
            ("http", format!("url: http://{server}/\njson: {{ pointer: /a }}")),
            ("http", format!("url: https://{server}/\ntls: {{ insecure: true }}")),
            ("grpc", format!("address: {server}")),
            ("grpc", format!("address: {server}\ntls: {{ insecure: true }}")),
            ("prometheus", format!("server: http://{server}/\nquery: up")),
        ] {
            let failure = attempt(kind, &yaml).await.expect_err(&yaml);
            let expected = [
                FailureKind::Protocol,
                FailureKind::Reset,
                FailureKind::Tls,
                FailureKind::Mismatch,
                FailureKind::Status,
            ];
            assert!(expected.contains(&failure.kind), "seed {seed}, {yaml}: {failure:?}");
        }
    }
}
