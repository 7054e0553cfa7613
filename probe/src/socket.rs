//! One attempt of `tcp` and of `udp`.

use faultline_proto::probe::{Pattern, Tcp, Udp};
use std::net::SocketAddr;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::{Dialer, Failure, FailureKind, dial};

/// What is read of a connection until what is expected has come.
const GREETING_BYTES_MAX: usize = 64 << 10;
/// The largest datagram.
const DATAGRAM_BYTES_MAX: usize = 64 << 10;

#[derive(Debug)]
pub(crate) struct TcpAttempt(pub(crate) Tcp);

impl TcpAttempt {
    pub(crate) async fn run(&self, dialer: &impl Dialer) -> Result<Option<String>, Failure> {
        let mut stream = dial::connect(dialer, &self.0.address).await?;
        if let Some(send) = &self.0.send {
            stream.write_all(send.bytes()).await.map_err(|e| Failure::from(&e))?;
        }
        let Some(expect) = &self.0.expect else { return Ok(None) };
        let mut answer = Vec::new();
        loop {
            let mut chunk = [0; 4 << 10];
            let len = stream.read(&mut chunk).await.map_err(|e| Failure::from(&e))?;
            answer.extend_from_slice(&chunk[..len]);
            if let Some(found) = expect.find(&answer) {
                return Ok(found.value);
            }
            if len == 0 {
                let kind =
                    if answer.is_empty() { FailureKind::Reset } else { FailureKind::Mismatch };
                return Err(Failure::new(kind, "closed before what is expected came"));
            }
            if answer.len() > GREETING_BYTES_MAX {
                return Err(missing(expect));
            }
        }
    }
}

#[derive(Debug)]
pub(crate) struct UdpAttempt(pub(crate) Udp);

impl UdpAttempt {
    pub(crate) async fn run(&self, dialer: &impl Dialer) -> Result<Option<String>, Failure> {
        let Udp { address, send, expect } = &self.0;
        // Of a datagram nobody says that it was not taken: only the first address is tried.
        let ip = *dial::addresses(dialer, address.host()).await?.first().ok_or_else(|| {
            Failure::new(FailureKind::Resolve, format!("{} has no address", address.host()))
        })?;
        let of_io = |e: std::io::Error| Failure::from(&e);
        let to = SocketAddr::new(ip, address.port());
        let socket = dialer.datagrams(to).await.map_err(of_io)?;
        socket.send(send.bytes()).await.map_err(of_io)?;
        let mut answer = vec![0; DATAGRAM_BYTES_MAX];
        let len = socket.recv(&mut answer).await.map_err(of_io)?;
        match expect {
            None => Ok(None),
            Some(expect) => match expect.find(&answer[..len]) {
                Some(found) => Ok(found.value),
                None => Err(missing(expect)),
            },
        }
    }
}

/// That an answer does not contain what it must.
pub(crate) fn missing(expect: &Pattern) -> Failure {
    let short = faultline_proto::yaml::quote(expect.written());
    Failure::new(FailureKind::Mismatch, format!("the answer does not contain {short}"))
}
