//! `dns`.

use std::net::SocketAddr;

use faultline_probe::{FailureKind, dns};
use faultline_proto::probe::RecordType;
use proptest::prelude::*;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, UdpSocket},
};

use crate::support::{attempt, failure};

/// A record for an answer: its owner is the name asked for, unless `owner` says otherwise.
fn record(owner: &[u8], kind: u16, data: &[u8]) -> Vec<u8> {
    let len = u16::try_from(data.len()).expect("short").to_be_bytes();
    [owner, &kind.to_be_bytes(), &[0, 1, 0, 0, 0, 60], &len, data].concat()
}

/// A pointer to the name in the question.
const ASKED: &[u8] = &[0xc0, 12];

fn reply(query: &[u8], flags: [u8; 2], records: &[Vec<u8>]) -> Vec<u8> {
    let count = u16::try_from(records.len()).expect("few").to_be_bytes();
    let head = [&query[..2], &flags, &[0, 1], &count, &[0, 0, 0, 0]].concat();
    [&head, &query[12..], &records.concat()].concat()
}

/// A name server that answers alike: by datagram, and what `long` says over a connection.
async fn server(
    answer: impl Fn(&[u8]) -> Vec<u8> + Send + 'static,
    long: impl Fn(&[u8]) -> Vec<u8> + Send + 'static,
) -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").await.expect("a port");
    let address = socket.local_addr().expect("its address");
    let listener = TcpListener::bind(address).await;
    tokio::spawn(async move {
        let mut query = [0; 2048];
        while let Ok((len, from)) = socket.recv_from(&mut query).await {
            drop(socket.send_to(&answer(&query[..len]), from).await);
        }
    });
    tokio::spawn(async move {
        let Ok(listener) = listener else { return };
        while let Ok((mut stream, _)) = listener.accept().await {
            let Ok(len) = stream.read_u16().await else { continue };
            let mut query = vec![0; usize::from(len)];
            drop(stream.read_exact(&mut query).await);
            let answer = long(&query);
            let len = u16::try_from(answer.len()).expect("short").to_be_bytes();
            drop(stream.write_all(&[&len[..], &answer].concat()).await);
        }
    });
    address
}

async fn answers(flags: [u8; 2], records: Vec<Vec<u8>>) -> SocketAddr {
    server(move |query| reply(query, flags, &records), |_| Vec::new()).await
}

const OK: [u8; 2] = [0x81, 0x80];

#[tokio::test]
async fn records_are_found_sorted_and_compared() {
    let two = [record(ASKED, 1, &[10, 0, 0, 2]), record(ASKED, 1, &[10, 0, 0, 1])];
    let server = answers(OK, two.to_vec()).await;
    let asks = |expect: &str| format!("name: db.shop\nserver: {server}\n{expect}");
    let both = Ok(Some("10.0.0.1, 10.0.0.2".to_owned()));
    assert_eq!(attempt("dns", &asks("")).await, both);
    assert_eq!(attempt("dns", &asks("expect: [10.0.0.2, 10.0.0.1]")).await, both);
    let (kind, text) = failure("dns", &asks("expect: [10.0.0.1]")).await;
    assert_eq!((kind, text.as_str()), (FailureKind::Mismatch, "found `10.0.0.1, 10.0.0.2`"));
}

#[tokio::test]
async fn every_type_is_read_and_other_names_are_followed() {
    let host = b"\x04Host\x04shop\0";
    let srv = [&[0, 1, 0, 5, 0x1f, 0x90][..], host].concat();
    for (name, kind, data, text) in [
        ("AAAA", 28, [&[0xfd][..], &[0; 14], &[1]].concat(), "fd00::1"),
        ("CNAME", 5, host.to_vec(), "host.shop"),
        ("MX", 15, [&[0, 10][..], host].concat(), "10 host.shop"),
        ("NS", 2, host.to_vec(), "host.shop"),
        ("PTR", 12, host.to_vec(), "host.shop"),
        ("SRV", 33, srv, "1 5 8080 host.shop"),
        ("TXT", 16, b"\x03abc\x02de".to_vec(), "abcde"),
    ] {
        let server = answers(OK, vec![record(ASKED, kind, &data)]).await;
        let asks = format!("name: x.shop\ntype: {name}\nserver: {server}");
        assert_eq!(attempt("dns", &asks).await, Ok(Some(text.to_owned())), "{name}");
    }
    let alias = record(ASKED, 5, host);
    let behind = record(b"\x04hOST\x04shop\0", 1, &[10, 0, 0, 3]);
    let stranger = record(b"\x05other\x04shop\0", 1, &[10, 6, 6, 6]);
    let server = answers(OK, vec![alias, stranger, behind]).await;
    let asks = format!("name: db.shop\nserver: {server}");
    assert_eq!(attempt("dns", &asks).await, Ok(Some("10.0.0.3".into())));
}

#[tokio::test]
async fn an_answer_too_long_for_a_datagram_is_asked_for_again() {
    let long = |query: &[u8]| reply(query, OK, &[record(ASKED, 1, &[10, 0, 0, 9])]);
    let server = server(|query| reply(query, [0x83, 0x80], &[]), long).await;
    let asks = format!("name: db.shop\nserver: {server}");
    assert_eq!(attempt("dns", &asks).await, Ok(Some("10.0.0.9".into())));
}

#[tokio::test]
async fn no_answer_is_told_from_a_wrong_one() {
    let wrong_id = |query: &[u8]| {
        let mut reply = reply(query, OK, &[]);
        reply[0] ^= 0xff;
        reply
    };
    let cases: Vec<(SocketAddr, FailureKind, &str)> = vec![
        (answers([0x81, 0x83], vec![]).await, FailureKind::Resolve, "NXDOMAIN"),
        (answers([0x81, 0x82], vec![]).await, FailureKind::Resolve, "SERVFAIL"),
        (answers(OK, vec![]).await, FailureKind::Resolve, "no A record"),
        (answers([0x01, 0x00], vec![]).await, FailureKind::Protocol, "not one to"),
        (server(wrong_id, |_| vec![]).await, FailureKind::Protocol, "not one to"),
        (server(|_| b"hi".to_vec(), |_| vec![]).await, FailureKind::Protocol, "not one to"),
        (answers(OK, vec![record(ASKED, 1, &[10])]).await, FailureKind::Protocol, "not one to"),
        (crate::support::nobody().await, FailureKind::Refused, "refused"),
    ];
    for (server, kind, text) in cases {
        let found = failure("dns", &format!("name: db.shop\nserver: {server}")).await;
        assert!(found.0 == kind && found.1.contains(text), "{found:?} for {text}");
    }
}

proptest! {
    /// Whatever comes, it is read to its end or not at all; and a message that points to itself ends.
    #[test]
    fn no_message_makes_the_reader_panic(
        noise in proptest::collection::vec(any::<u8>(), 0..600),
        changes in proptest::collection::vec((0..200_usize, any::<u8>()), 0..6),
        kind in 0..8_usize,
    ) {
        let kinds = [1_u32, 2, 5, 12, 15, 16, 28, 33];
        let kind = RecordType::from_number(kinds[kind]).expect("a type");
        let query = dns::query(7, "db.shop", kind);
        let name = b"\x01a\xc0\x0c";
        let records = [record(ASKED, 5, name), record(name, kind.number(), &noise)];
        let mut message = reply(&query, OK, &records);
        for (at, byte) in changes {
            let at = at % message.len();
            message[at] = byte;
        }
        dns::read_reply(&message, 7, "db.shop", kind);
        let head = [&query[..2], &OK, &[0, 1, 0xff, 0xff, 0, 0, 0, 0][..], &query[12..]].concat();
        dns::read_reply(&[&head[..], &noise].concat(), 7, "db.shop", kind);
        dns::read_reply(&noise, 7, "db.shop", kind);
    }
}
