//! The built-in workload, so that a first experiment needs nothing else installed: it answers HTTP on
//! 8080, says on 9090 by gRPC's health protocol that it is serving, knows the sandbox's names as a
//! name server on UDP 5353, and sends back what it gets on TCP 7000 and UDP 7001.

mod health;
mod http;
mod names;

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::Arc,
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream, UdpSocket},
};

use super::error::{Step as _, StepError};

const HTTP_PORT: u16 = 8080;
const HEALTH_PORT: u16 = 9090;
const TCP_PORT: u16 = 7000;
const UDP_PORT: u16 = 7001;
const NAMES_PORT: u16 = 5353;

/// The workload, listening.
pub(super) struct Echo {
    service: Arc<http::Service>,
    http: TcpListener,
    health: TcpListener,
    tcp: TcpListener,
    udp: UdpSocket,
    names: UdpSocket,
}

impl Echo {
    /// Takes the ports, for both families: a socket of `::` is for IPv4 as well, since
    /// `net.ipv6.bindv6only` is 0 in a new network namespace.
    pub(super) async fn bind(pod: &str, ipv6: bool) -> Result<Self, StepError> {
        let any = if ipv6 {
            IpAddr::V6(Ipv6Addr::UNSPECIFIED)
        } else {
            IpAddr::V4(Ipv4Addr::UNSPECIFIED)
        };
        let listen = async |port| {
            TcpListener::bind((any, port)).await.step(|| format!("listen on TCP port {port}"))
        };
        let take = async |port| {
            UdpSocket::bind((any, port)).await.step(|| format!("listen on UDP port {port}"))
        };
        Ok(Self {
            service: Arc::new(http::Service::new(pod)),
            http: listen(HTTP_PORT).await?,
            health: listen(HEALTH_PORT).await?,
            tcp: listen(TCP_PORT).await?,
            udp: take(UDP_PORT).await?,
            names: take(NAMES_PORT).await?,
        })
    }

    /// Answers until the process ends.
    pub(super) async fn serve(self) -> Result<(), StepError> {
        tokio::try_join!(
            accept(self.http, |stream| Arc::clone(&self.service).serve(stream)),
            accept(self.health, health::serve),
            accept(self.tcp, tcp),
            datagrams(&self.udp),
            names::serve(&self.names),
        )?;
        Ok(())
    }
}

async fn accept<F: Future<Output = ()> + Send + 'static>(
    listener: TcpListener,
    serve: impl Fn(TcpStream) -> F,
) -> Result<(), StepError> {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                drop(stream.set_nodelay(true));
                tokio::spawn(serve(stream));
            }
            // Out of descriptors: what is open now will close.
            Err(_) => tokio::time::sleep(std::time::Duration::from_millis(10)).await,
        }
    }
}

async fn tcp(mut stream: TcpStream) {
    let mut buffer = vec![0; 16 << 10];
    while let Ok(len @ 1..) = stream.read(&mut buffer).await {
        if stream.write_all(&buffer[..len]).await.is_err() {
            return;
        }
    }
}

async fn datagrams(socket: &UdpSocket) -> Result<(), StepError> {
    let mut buffer = vec![0; 64 << 10];
    loop {
        // An error belongs to an earlier datagram that could not be delivered; the next may be.
        if let Ok((len, from)) = socket.recv_from(&mut buffer).await {
            drop(socket.send_to(&buffer[..len], from).await);
        }
    }
}
