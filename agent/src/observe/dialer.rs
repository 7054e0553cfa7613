//! Sockets and names of a pod, for the attempts that are made from it.

use std::{
    io,
    net::{IpAddr, SocketAddr},
};

use faultline_probe::{Dialer, Failure, FailureKind, Names};
use tokio::net::{TcpSocket, TcpStream, UdpSocket};

use crate::kernel::sockets::Sockets;

/// The point of the network where one pod is, for one attempt: names are read anew for each.
#[derive(Debug)]
pub(super) struct PodDialer {
    sockets: Sockets,
    names: Names,
}

impl PodDialer {
    /// Reads what the pod's files say of names.
    pub(super) async fn new(sockets: Sockets) -> Result<Self, Failure> {
        let files = sockets.name_files().await;
        let files =
            files.map_err(|e| Failure::new(FailureKind::Unobserved, e.kind().to_string()))?;
        Ok(Self { sockets, names: Names::read(files.hosts, &files.resolv_conf) })
    }
}

impl Dialer for PodDialer {
    async fn connect(&self, to: SocketAddr) -> io::Result<TcpStream> {
        let socket = self.sockets.stream(to.is_ipv6()).await?;
        TcpSocket::from_std_stream(socket).connect(to).await
    }

    async fn datagrams(&self, to: SocketAddr) -> io::Result<UdpSocket> {
        let socket = UdpSocket::from_std(self.sockets.datagrams(to.is_ipv6()).await?)?;
        socket.connect(to).await?;
        Ok(socket)
    }

    async fn resolve(&self, name: &str) -> Result<Vec<IpAddr>, Failure> {
        self.names.resolve(name, self).await
    }

    fn name_servers(&self) -> Vec<SocketAddr> {
        self.names.servers.clone()
    }
}
