//! How an attempt gets its sockets: from this process, or from wherever else they are to be opened.

use std::{
    collections::HashMap,
    fs, io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
};

use faultline_proto::probe::Address;
use futures::{
    FutureExt as _,
    future::{BoxFuture, Shared},
};
use tokio::net::{TcpStream, UdpSocket};

use crate::{Failure, FailureKind, dns};

/// Opens sockets and knows names, from one point of the network.
pub trait Dialer: Send + Sync {
    /// A connection.
    ///
    /// # Errors
    /// When none came about.
    fn connect(&self, to: SocketAddr) -> impl Future<Output = io::Result<TcpStream>> + Send;

    /// A socket for datagrams to and from one address only.
    ///
    /// # Errors
    /// When there is no way there.
    fn datagrams(&self, to: SocketAddr) -> impl Future<Output = io::Result<UdpSocket>> + Send;

    /// The addresses of a name, in the order in which they are to be tried.
    ///
    /// # Errors
    /// When there are none.
    fn resolve(&self, name: &str) -> impl Future<Output = Result<Vec<IpAddr>, Failure>> + Send;

    /// Who is asked for names here.
    fn name_servers(&self) -> Vec<SocketAddr>;
}

/// Connects to the first of a host's addresses that accepts.
pub(crate) async fn connect(dialer: &impl Dialer, to: &Address) -> Result<TcpStream, Failure> {
    let mut failure = None;
    for ip in addresses(dialer, to.host()).await? {
        match dialer.connect(SocketAddr::new(ip, to.port())).await {
            Ok(stream) => {
                stream.set_nodelay(true).map_err(|e| Failure::from(&e))?;
                return Ok(stream);
            }
            Err(error) => failure = Some(Failure::from(&error)),
        }
    }
    Err(failure.unwrap_or_else(|| no_address(to.host())))
}

/// The addresses of a host, which may be one itself.
pub(crate) async fn addresses(dialer: &impl Dialer, host: &str) -> Result<Vec<IpAddr>, Failure> {
    match host.parse() {
        Ok(address) => Ok(vec![address]),
        Err(_) => dialer.resolve(host).await,
    }
}

fn no_address(host: &str) -> Failure {
    Failure::new(FailureKind::Resolve, format!("{host} has no address"))
}

/// What several attempts wait for that need the same name at once.
type Lookup = Shared<BoxFuture<'static, Result<Vec<IpAddr>, Failure>>>;

/// Sockets of this process, and names as this machine resolves them.
#[derive(Debug, Clone, Default)]
pub struct HostDialer {
    /// Looking up a name takes a thread that nobody can take back: one per name, not per attempt.
    lookups: Arc<Mutex<HashMap<String, Lookup>>>,
}

impl Dialer for HostDialer {
    async fn connect(&self, to: SocketAddr) -> io::Result<TcpStream> {
        TcpStream::connect(to).await
    }

    async fn datagrams(&self, to: SocketAddr) -> io::Result<UdpSocket> {
        let any: IpAddr = match to {
            SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        let socket = UdpSocket::bind((any, 0)).await?;
        socket.connect(to).await?;
        Ok(socket)
    }

    async fn resolve(&self, name: &str) -> Result<Vec<IpAddr>, Failure> {
        let lookup = {
            let mut lookups = self.lookups.lock().unwrap_or_else(PoisonError::into_inner);
            // What has ended is old news: the next attempt asks anew.
            lookups.retain(|_, lookup| lookup.peek().is_none());
            let begin = || look_up(name.to_owned()).boxed().shared();
            lookups.entry(name.to_owned()).or_insert_with(begin).clone()
        };
        lookup.await
    }

    fn name_servers(&self) -> Vec<SocketAddr> {
        dns::name_servers(&fs::read_to_string("/etc/resolv.conf").unwrap_or_default())
    }
}

async fn look_up(name: String) -> Result<Vec<IpAddr>, Failure> {
    match tokio::net::lookup_host((name.as_str(), 0)).await {
        Ok(found) => {
            let addresses: Vec<IpAddr> = found.map(|address| address.ip()).collect();
            if addresses.is_empty() { Err(no_address(&name)) } else { Ok(addresses) }
        }
        Err(error) => Err(Failure::new(FailureKind::Resolve, error.to_string())),
    }
}
