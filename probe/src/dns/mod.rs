//! One attempt of `dns`, and the pieces of it that resolvers need.

mod message;

use std::{net::SocketAddr, time::Duration};

use faultline_proto::{
    probe::{Dns, RecordType, value_of},
    yaml::quote,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    time,
};

pub use message::{Reply, query, read_reply};

use crate::{Dialer, Failure, FailureKind, dial};

/// How long one of several name servers is waited for before the next is asked.
const SERVER_PATIENCE: Duration = Duration::from_secs(1);
/// Name servers that are asked; resolv.conf(5) has as many.
const SERVERS_MAX: usize = 3;
/// The largest datagram.
const DATAGRAM_BYTES_MAX: usize = 64 << 10;

#[derive(Debug)]
pub(crate) struct DnsAttempt(pub(crate) Dns);

impl DnsAttempt {
    pub(crate) async fn run(&self, dialer: &impl Dialer) -> Result<Option<String>, Failure> {
        let Dns { name, record, server, expect } = &self.0;
        let mut found = match server {
            Some(server) => {
                let ip =
                    *dial::addresses(dialer, server.host()).await?.first().ok_or_else(|| {
                        Failure::new(FailureKind::Resolve, "the name server has no address")
                    })?;
                ask(dialer, SocketAddr::new(ip, server.port()), name, *record).await?
            }
            None => ask_any(dialer, name, *record).await?,
        };
        found.sort();
        found.dedup();
        let text = found.join(", ");
        match expect {
            Some(expect) if *expect != found => {
                Err(Failure::new(FailureKind::Mismatch, format!("found {}", quote(&text))))
            }
            _ => Ok(Some(value_of(text.as_bytes()))),
        }
    }
}

/// Asks the name servers of a dialer, one after the other, as a resolver does.
///
/// # Errors
/// When no server has an answer, or the name none of these records.
pub async fn ask_any(
    dialer: &impl Dialer,
    name: &str,
    record: RecordType,
) -> Result<Vec<String>, Failure> {
    let servers = dialer.name_servers();
    let mut failure = Failure::new(FailureKind::Resolve, "no name server is known here");
    for server in servers.into_iter().take(SERVERS_MAX) {
        let answer = time::timeout(SERVER_PATIENCE, ask(dialer, server, name, record)).await;
        failure = match answer {
            Ok(Err(failure)) if failure.kind != FailureKind::Resolve => failure,
            Ok(answer) => return answer,
            Err(_late) => {
                let text = format!("the name server {server} does not answer");
                Failure::new(FailureKind::Timeout, text)
            }
        };
    }
    Err(failure)
}

/// Asks one name server, with a datagram, and over a connection where the answer is too long for one.
///
/// # Errors
/// When it has no answer, or the name none of these records.
pub async fn ask(
    dialer: &impl Dialer,
    server: SocketAddr,
    name: &str,
    record: RecordType,
) -> Result<Vec<String>, Failure> {
    let id = random_id()?;
    let query = query(id, name, record);
    let of_io = |e: std::io::Error| Failure::from(&e);
    let socket = dialer.datagrams(server).await.map_err(of_io)?;
    socket.send(&query).await.map_err(of_io)?;
    let mut buffer = vec![0; DATAGRAM_BYTES_MAX];
    let len = socket.recv(&mut buffer).await.map_err(of_io)?;
    let mut reply = read(&buffer[..len], id, name, record)?;
    if reply.is_truncated {
        let mut stream = dialer.connect(server).await.map_err(of_io)?;
        let len = u16::try_from(query.len()).unwrap_or(u16::MAX).to_be_bytes();
        stream.write_all(&[&len[..], &query].concat()).await.map_err(of_io)?;
        let len = usize::from(stream.read_u16().await.map_err(of_io)?);
        stream.read_exact(&mut buffer[..len]).await.map_err(of_io)?;
        reply = read(&buffer[..len], id, name, record)?;
    }
    let failure = |text: String| Err(Failure::new(FailureKind::Resolve, text));
    match reply.code {
        0 if reply.found.is_empty() => {
            failure(format!("{} has no {} record", quote(name), record.name()))
        }
        0 => Ok(reply.found),
        1 => failure("the name server does not take this query (FORMERR)".into()),
        2 => failure("the name server failed (SERVFAIL)".into()),
        3 => failure(format!("there is no {} (NXDOMAIN)", quote(name))),
        5 => failure("the name server refuses to say (REFUSED)".into()),
        code => failure(format!("the name server says {code}")),
    }
}

fn read(message: &[u8], id: u16, name: &str, record: RecordType) -> Result<Reply, Failure> {
    read_reply(message, id, name, record).ok_or_else(|| {
        Failure::new(FailureKind::Protocol, "the answer is not one to this question")
    })
}

fn random_id() -> Result<u16, Failure> {
    let mut id = [0; 2];
    getrandom::fill(&mut id).map_err(|e| Failure::new(FailureKind::Other, e.to_string()))?;
    Ok(u16::from_be_bytes(id))
}

/// The name servers that a resolv.conf(5) names.
pub fn name_servers(resolv_conf: &str) -> Vec<SocketAddr> {
    let server = |line: &str| {
        let mut words = line.split_whitespace();
        (words.next() == Some("nameserver")).then_some(())?;
        // A scope (`fe80::1%eth0`) is of no use to somebody else's socket.
        let address = words.next()?.split('%').next()?.parse().ok()?;
        Some(SocketAddr::new(address, 53))
    };
    resolv_conf.lines().filter_map(server).take(SERVERS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_servers_are_read() {
        let text =
            "# one\nsearch a\nnameserver 10.0.0.10\nnameserver fe80::1%eth0 \nnameserver x\n";
        let servers: Vec<String> = name_servers(text).iter().map(ToString::to_string).collect();
        assert_eq!(servers, ["10.0.0.10:53", "[fe80::1]:53"]);
    }
}
