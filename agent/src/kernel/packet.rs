//! Packets sent on purpose from inside a namespace, to see what becomes of them.
//!
//! A connection attempt, a datagram, and a packet that claims to come from somebody else. None of
//! them waits. What arrives after all does no harm: a connection is given up at once, and made up
//! packets are malformed, so that whoever gets them throws them away without an answer.

use std::{
    io,
    net::{IpAddr, SocketAddr, UdpSocket},
    os::fd::{AsRawFd, OwnedFd},
};

use nix::{
    errno::Errno,
    sys::socket::{
        AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrStorage, connect,
        getsockopt, sendto, setsockopt, socket, sockopt,
    },
};

use super::KernelError;

/// The protocol of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// ICMP, or `ICMPv6`.
    Icmp,
}

/// What became of an attempt, as far as its sender is told at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attempt {
    /// Nothing is known.
    Sent,
    /// This host's firewall dropped it.
    Dropped,
    /// It was answered with an error.
    Answered(Errno),
    /// A connection was made.
    Connected,
}

/// Sockets of one namespace, usable from any thread.
#[derive(Debug)]
pub struct Sender {
    v4: Option<Sockets>,
    v6: Option<Sockets>,
}

#[derive(Debug)]
struct Sockets {
    datagram: UdpSocket,
    stream: Option<OwnedFd>,
    raw: Option<OwnedFd>,
}

/// Which sockets are needed beside the one for datagrams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Needs {
    /// For [`Sender::connect`].
    pub stream: bool,
    /// For [`Sender::forge`]: its packets carry this mark (`SO_MARK`, `socket(7)`).
    pub raw: Option<u32>,
}

impl Sender {
    /// Opens the sockets in the calling thread's namespace. A family that the kernel does not have
    /// is left out.
    ///
    /// # Errors
    /// When there is neither family, or the capability `CAP_NET_RAW` is missing and needed.
    pub fn open(needs: Needs) -> Result<Self, KernelError> {
        let failed = |e: io::Error| KernelError::io("open", "sockets for a probe", e);
        let v4 = Sockets::open(AddressFamily::Inet, needs);
        match (v4, Sockets::open(AddressFamily::Inet6, needs)) {
            (Err(error), Err(_)) => Err(failed(error)),
            (v4, v6) => Ok(Self { v4: v4.ok(), v6: v6.ok() }),
        }
    }

    /// The own address of packets that go to `peer`; `None` if there is no route or `peer` is this
    /// namespace's own.
    pub fn own_address(&self, peer: IpAddr) -> Option<IpAddr> {
        let socket = &self.of(peer)?.datagram;
        // Nothing is sent: connecting a datagram socket looks up the route (`udp(7)`). The own address
        // of an earlier connection would be kept.
        disconnect(socket).ok()?;
        socket.connect(SocketAddr::new(peer, 9)).ok()?;
        let own = socket.local_addr().ok()?.ip();
        (own != peer && !own.is_unspecified()).then_some(own)
    }

    /// Begins a TCP connection, and gives it up before it returns.
    ///
    /// # Errors
    /// When there is no route, or no socket for it.
    pub fn connect(&self, peer: SocketAddr) -> io::Result<Attempt> {
        let stream = self.of(peer.ip()).and_then(|sockets| sockets.stream.as_ref());
        let stream = stream.ok_or(Errno::EAFNOSUPPORT)?;
        let attempt = match connect(stream.as_raw_fd(), &SockaddrStorage::from(peer)) {
            Ok(()) => Ok(Attempt::Connected),
            Err(Errno::EINPROGRESS) => {
                // What came back while the call was under way lies in the socket's error.
                let error = getsockopt(stream, sockopt::SocketError)?;
                Ok(if error == 0 {
                    Attempt::Sent
                } else {
                    Attempt::Answered(Errno::from_raw(error))
                })
            }
            Err(Errno::EPERM) => Ok(Attempt::Dropped),
            Err(e @ (Errno::ECONNREFUSED | Errno::ECONNRESET | Errno::EACCES)) => {
                Ok(Attempt::Answered(e))
            }
            Err(e) => Err(e.into()),
        };
        disconnect(stream)?;
        // A connection that was given up leaves an error behind, which the next must not find.
        getsockopt(stream, sockopt::SocketError)?;
        attempt
    }

    /// Sends an empty datagram.
    ///
    /// # Errors
    /// When there is no route.
    pub fn send(&self, peer: SocketAddr) -> io::Result<Attempt> {
        let socket = &self.of(peer.ip()).ok_or(Errno::EAFNOSUPPORT)?.datagram;
        disconnect(socket)?;
        socket.connect(peer)?;
        outcome(socket.send(&[]).map(|_len| ()))
    }

    /// Sends a malformed packet of `protocol` to `to`, which says that it comes from `from`. Where
    /// the protocol has ports, `port` is the destination's.
    ///
    /// # Errors
    /// When there is no route, no socket for it, or the addresses are of two families.
    pub fn forge(
        &self,
        protocol: Protocol,
        from: IpAddr,
        to: IpAddr,
        port: u16,
    ) -> io::Result<Attempt> {
        let raw = self.of(to).and_then(|sockets| sockets.raw.as_ref());
        let raw = raw.ok_or(Errno::EAFNOSUPPORT)?;
        let packet = forged(protocol, from, to, port).ok_or(Errno::EAFNOSUPPORT)?;
        // raw(7), ipv6(7): the port of the address must be 0.
        let to = SockaddrStorage::from(SocketAddr::new(to, 0));
        let sent = sendto(raw.as_raw_fd(), &packet, &to, MsgFlags::MSG_DONTWAIT);
        outcome(sent.map(|_len| ()).map_err(io::Error::from))
    }

    fn of(&self, address: IpAddr) -> Option<&Sockets> {
        if address.is_ipv4() { self.v4.as_ref() } else { self.v6.as_ref() }
    }
}

impl Sockets {
    fn open(family: AddressFamily, needs: Needs) -> io::Result<Self> {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        // Without a port until it is used: a plan touches nothing.
        let datagram = socket(family, SockType::Datagram, flags, SockProtocol::Udp)?.into();
        let stream = if needs.stream {
            Some(socket(family, SockType::Stream, flags, SockProtocol::Tcp)?)
        } else {
            None
        };
        let raw = match needs.raw {
            Some(mark) => {
                // IPPROTO_RAW: the packet brings its own header, and nothing is received (raw(7)).
                let raw = socket(family, SockType::Raw, flags, SockProtocol::Raw)?;
                setsockopt(&raw, sockopt::Mark, &mark)?;
                Some(raw)
            }
            None => None,
        };
        Ok(Self { datagram, stream, raw })
    }
}

/// A send that a firewall of this host dropped fails with `EPERM` (`send(2)`, `nf_hook_slow`).
fn outcome(sent: io::Result<()>) -> io::Result<Attempt> {
    match sent {
        Ok(()) => Ok(Attempt::Sent),
        Err(e) => match e.raw_os_error() {
            Some(libc::EPERM) => Ok(Attempt::Dropped),
            // The answer to an earlier datagram is told to the next (`udp(7)`).
            Some(errno @ (libc::ECONNREFUSED | libc::EHOSTUNREACH | libc::EACCES)) => {
                Ok(Attempt::Answered(Errno::from_raw(errno)))
            }
            _ => Err(e),
        },
    }
}

/// Gives up the connection that a socket has or is making; it can be connected again.
#[allow(unsafe_code, reason = "no safe wrapper takes an address of the family AF_UNSPEC")]
fn disconnect(socket: &impl AsRawFd) -> io::Result<()> {
    let nobody = libc::sockaddr { sa_family: 0, sa_data: [0; 14] }; // AF_UNSPEC
    let len = libc::socklen_t::try_from(size_of::<libc::sockaddr>())
        .expect("a socket address has 16 bytes");
    // SAFETY: connect(2) wants a file descriptor, which `socket` holds open, and an address with its
    // length: `nobody` is valid for reads of `len` bytes for the whole call, which keeps no pointer.
    let result = unsafe { libc::connect(socket.as_raw_fd(), &raw const nobody, len) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// An IP packet that no host takes: TCP whose header is shorter than a header, UDP that is longer
/// than its packet, ICMP with a wrong checksum. TCP carries RST, which is never answered (RFC 9293).
/// `None` where the addresses are of two families.
fn forged(protocol: Protocol, from: IpAddr, to: IpAddr, port: u16) -> Option<Vec<u8>> {
    const WRONG_CHECKSUM: [u8; 2] = [0xde, 0xad];
    const DISCARD: [u8; 2] = 9_u16.to_be_bytes();
    let port = port.to_be_bytes();
    let (number, payload) = match protocol {
        Protocol::Tcp => {
            let mut header = [0; 20];
            header[..2].copy_from_slice(&DISCARD);
            header[2..4].copy_from_slice(&port);
            header[13] = 0x04; // RST; the length before it stays 0
            header[16..18].copy_from_slice(&WRONG_CHECKSUM);
            (libc::IPPROTO_TCP, header.to_vec())
        }
        Protocol::Udp => {
            let parts = [DISCARD, port, [0xff, 0xff], WRONG_CHECKSUM];
            (libc::IPPROTO_UDP, parts.concat())
        }
        Protocol::Icmp => {
            let kind = if to.is_ipv4() { 8 } else { 128 }; // echo request
            let number = if to.is_ipv4() { libc::IPPROTO_ICMP } else { libc::IPPROTO_ICMPV6 };
            (number, [[kind, 0], WRONG_CHECKSUM, [0; 2], [0; 2]].concat())
        }
    };
    let number = u8::try_from(number).ok()?;
    let payload_len = u16::try_from(payload.len()).ok()?;
    let mut packet = match (from, to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            // RFC 791; the kernel fills in identification and checksum (raw(7)).
            let mut header = vec![0x45, 0];
            header.extend_from_slice(&(payload_len + 20).to_be_bytes());
            header.extend_from_slice(&[0, 0, 0, 0, 64, number, 0, 0]);
            header.extend_from_slice(&from.octets());
            header.extend_from_slice(&to.octets());
            header
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            // RFC 8200.
            let mut header = vec![0x60, 0, 0, 0];
            header.extend_from_slice(&payload_len.to_be_bytes());
            header.extend_from_slice(&[number, 64]);
            header.extend_from_slice(&from.octets());
            header.extend_from_slice(&to.octets());
            header
        }
        _ => return None,
    };
    packet.extend_from_slice(&payload);
    Some(packet)
}
