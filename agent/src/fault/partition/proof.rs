//! Whether a partition is in effect, seen by two things at once: what becomes of a packet sent from
//! inside on purpose, and whether the counter of the rule that cuts it moved with it.
//!
//! Outgoing: a connection attempt or a datagram to a peer; it ends at the rule and never leaves.
//! Incoming: a packet that claims to come from a peer, sent to the target's own address. It stays on
//! the loopback interface, and carries the mark by which the rules tell it from what is exempt there.

use std::{
    fmt::Write,
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use faultline_proto::fault::{Cidr, Partition, PeerSet, Protocol as Proto, Verdict};

use super::{
    Inside,
    rules::{Direction, PROBE_MARK},
};
use crate::{
    fault::Observation,
    kernel::{
        KernelError, link,
        nft::Nft,
        packet::{Attempt, Needs, Protocol, Sender},
    },
};

/// How many peers are tried until one has a route.
const ROUTES_TRIED_MAX: usize = 256;
/// How many addresses of a range are looked at: the first may be exempt.
const ADDRESSES_OF_RANGE_MAX: u8 = 4;
/// Who stands for "everybody": addresses that nobody has (RFC 5737, RFC 3849).
const NOBODY: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)),
    IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1)),
];
/// The port of a protocol that nobody speaks any more (discard, RFC 863).
const PORT_DEFAULT: u16 = 9;

/// What of the proof is still missing, and what is there.
#[derive(Debug)]
pub(super) struct Proof {
    protocol: Protocol,
    port: u16,
    verdict: Verdict,
    directions: Vec<Side>,
}

/// One direction of the cut.
#[derive(Debug)]
struct Side {
    direction: Direction,
    /// Peers to try, the best first; `None` until they are looked for.
    peers: Option<Vec<IpAddr>>,
    /// The counter as it was before the latest attempt.
    counted: Option<u64>,
    /// The sentence that says how the cut was seen.
    proven: Option<String>,
}

/// An attempt that was made.
struct Made {
    /// "a TCP connection to 10.0.0.2:80"
    what: String,
    attempt: Attempt,
}

/// The sockets that a proof of this partition takes.
pub(super) fn needs(partition: &Partition) -> Needs {
    let outgoing = partition.egress.is_some();
    let raw = partition.ingress.is_some() || partition.protocol == Proto::Icmp;
    Needs {
        stream: outgoing && matches!(partition.protocol, Proto::Any | Proto::Tcp),
        raw: raw.then_some(PROBE_MARK),
    }
}

impl Proof {
    pub(super) fn new(partition: &Partition) -> Self {
        let directions = [Direction::Output, Direction::Input];
        let cut = directions.into_iter().filter(|d| d.peers(partition).is_some());
        Self {
            protocol: match partition.protocol {
                Proto::Any | Proto::Tcp => Protocol::Tcp,
                Proto::Udp => Protocol::Udp,
                Proto::Icmp => Protocol::Icmp,
            },
            port: partition.ports.first().map_or(PORT_DEFAULT, |range| range.first),
            verdict: partition.verdict,
            directions: cut
                .map(|direction| Side { direction, peers: None, counted: None, proven: None })
                .collect(),
        }
    }

    /// Tries what is not proven yet, once each.
    pub(super) fn look(
        &mut self,
        inside: &Inside,
        sender: &Sender,
        table: &str,
        partition: &Partition,
        exempt: &[IpAddr],
    ) -> Result<Observation, KernelError> {
        let mut nft = inside.nft();
        let before = Counts::read(&mut nft, table)?;
        let mut missing = Vec::new();
        for side in self.directions.iter_mut().filter(|side| side.proven.is_none()) {
            let counted = before.of(side.direction);
            // What moved between two looks counts as well: a packet that was sent in the last look
            // may have been worked on after it.
            let counted_before = side.counted.or(counted);
            if side.peers.is_none() {
                side.peers = Some(candidates(side.direction, inside, sender, partition, exempt)?);
            }
            let peers = side.peers.as_deref().unwrap_or_default();
            let made = peers.iter().find_map(|peer| {
                attempt(sender, side.direction, self.protocol, *peer, self.port).ok()
            });
            let Some(made) = made else {
                missing.push(no_way(side.direction));
                continue;
            };
            let counted_after = Counts::read(&mut nft, table)?.of(side.direction);
            side.counted = counted_after;
            match conclude(side.direction, self.verdict, &made, counted_before, counted_after) {
                Ok(evidence) => side.proven = Some(evidence),
                Err(problem) => missing.push(problem),
            }
        }
        if missing.is_empty() {
            let evidence = self.directions.iter().filter_map(|side| side.proven.clone());
            Ok(Observation::Proven(evidence.collect::<Vec<_>>().join("; ")))
        } else {
            Ok(Observation::NotYet(missing.join("; ")))
        }
    }
}

/// The counters of a table's rules, added up by direction. None where the rules are missing.
struct Counts {
    output: Option<u64>,
    input: Option<u64>,
}

impl Counts {
    fn read(nft: &mut Nft, table: &str) -> Result<Self, KernelError> {
        let rules = nft.rules(table)?;
        let sum = |direction: Direction| {
            let of_chain = rules.iter().filter(|rule| rule.chain == direction.cut_chain());
            of_chain.filter_map(|rule| rule.packets).reduce(u64::saturating_add)
        };
        Ok(Self { output: sum(Direction::Output), input: sum(Direction::Input) })
    }

    fn of(&self, direction: Direction) -> Option<u64> {
        match direction {
            Direction::Output => self.output,
            Direction::Input => self.input,
        }
    }
}

/// The evidence, or what speaks against it.
fn conclude(
    direction: Direction,
    verdict: Verdict,
    made: &Made,
    before: Option<u64>,
    after: Option<u64>,
) -> Result<String, String> {
    let (what, chain) = (&made.what, direction.chain());
    let (Some(before), Some(after)) = (before, after) else {
        return Err(format!("the rules for {chain} are not in the kernel"));
    };
    let moved = after.saturating_sub(before);
    if made.attempt == Attempt::Connected {
        return Err(format!("{what} was made"));
    }
    if moved == 0 {
        return Err(format!("{what} was not counted by the rule for {chain}"));
    }
    let mut evidence = match verdict {
        Verdict::Drop => format!("{what} was dropped"),
        Verdict::Reject => format!("{what} was rejected"),
    };
    if let Attempt::Answered(errno) = made.attempt {
        // Writing to a text cannot fail.
        let _ok = write!(evidence, " ({})", errno.desc());
    }
    Ok(format!("{evidence}, rule counter of {chain} +{moved}"))
}

fn no_way(direction: Direction) -> String {
    match direction {
        Direction::Output => "no peer can be reached from the target: there is no route".into(),
        Direction::Input => "no packet can be sent to the target's own addresses".into(),
    }
}

fn attempt(
    sender: &Sender,
    direction: Direction,
    protocol: Protocol,
    peer: IpAddr,
    port: u16,
) -> io::Result<Made> {
    let towards = SocketAddr::new(peer, port);
    let own = sender.own_address(peer);
    let (what, attempt) = match direction {
        Direction::Output => match protocol {
            Protocol::Tcp => (format!("a TCP connection to {towards}"), sender.connect(towards)?),
            Protocol::Udp => (format!("a UDP datagram to {towards}"), sender.send(towards)?),
            Protocol::Icmp => {
                let own = own.ok_or(io::ErrorKind::NetworkUnreachable)?;
                let attempt = sender.forge(protocol, own, peer, 0)?;
                (format!("an ICMP echo request to {peer}"), attempt)
            }
        },
        Direction::Input => {
            let loopback = if peer.is_ipv4() {
                IpAddr::V4(Ipv4Addr::LOCALHOST)
            } else {
                IpAddr::V6(Ipv6Addr::LOCALHOST)
            };
            let own = own.unwrap_or(loopback);
            let attempt = sender.forge(protocol, peer, own, port)?;
            let protocol = match protocol {
                Protocol::Tcp => format!("TCP packet to port {port}"),
                Protocol::Udp => format!("UDP packet to port {port}"),
                Protocol::Icmp => "ICMP packet".into(),
            };
            (format!("a {protocol} that came as if from {peer}"), attempt)
        }
    };
    Ok(Made { what, attempt })
}

/// Peers to try: at most one of each family, with a route where the direction takes one.
fn candidates(
    direction: Direction,
    inside: &Inside,
    sender: &Sender,
    partition: &Partition,
    exempt: &[IpAddr],
) -> Result<Vec<IpAddr>, KernelError> {
    let usable = |peer: &IpAddr| !exempt.contains(peer) && is_usable(*peer);
    let routed = |peer: &IpAddr| match direction {
        Direction::Output => sender.own_address(*peer).is_some(),
        Direction::Input => true,
    };
    let first_of_each = |peers: &mut dyn Iterator<Item = IpAddr>| {
        let mut found: Vec<IpAddr> = Vec::new();
        for peer in peers.filter(usable).take(ROUTES_TRIED_MAX).filter(routed) {
            if !found.iter().any(|other| other.is_ipv4() == peer.is_ipv4()) {
                found.push(peer);
            }
        }
        found
    };
    match direction.peers(partition) {
        None => Ok(Vec::new()),
        Some(PeerSet::Cidrs(cidrs)) => {
            // IPv4 is sorted before IPv6: each family gets its share of the tries.
            let of = |v4: bool| {
                let cidrs = cidrs.iter().filter(move |cidr| cidr.address().is_ipv4() == v4);
                cidrs.flat_map(|cidr| addresses_of(*cidr))
            };
            let mut found = first_of_each(&mut of(true));
            found.extend(first_of_each(&mut of(false)));
            Ok(found)
        }
        Some(PeerSet::Everything) => {
            let found = first_of_each(&mut NOBODY.into_iter());
            if !found.is_empty() {
                return Ok(found);
            }
            // Without a default route only neighbours can be reached.
            let own = link::addresses(&inside.net_ns)?;
            let is_own = |peer: &IpAddr| own.iter().any(|a| a.address == *peer);
            let networks = own.iter().filter_map(|a| network_of(a.address, a.prefix_len));
            let mut neighbours = networks.flat_map(addresses_of).filter(|peer| !is_own(peer));
            Ok(first_of_each(&mut neighbours))
        }
    }
}

/// The first addresses of a range that can be a host's.
fn addresses_of(cidr: Cidr) -> impl Iterator<Item = IpAddr> {
    let steps = if cidr.is_host() { 0..=0 } else { 1..=ADDRESSES_OF_RANGE_MAX };
    let nth = move |n: u8| match cidr.address() {
        IpAddr::V4(v4) => IpAddr::from(Ipv4Addr::from_bits(v4.to_bits().saturating_add(n.into()))),
        IpAddr::V6(v6) => IpAddr::from(Ipv6Addr::from_bits(v6.to_bits().saturating_add(n.into()))),
    };
    steps.map(nth).filter(move |address| cidr.contains(*address))
}

/// The range that an interface's address lies in; `None` where it has no other hosts.
fn network_of(address: IpAddr, prefix_len: u8) -> Option<Cidr> {
    let masked = match address {
        IpAddr::V4(v4) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(prefix_len.min(32))).unwrap_or(0);
            IpAddr::from(Ipv4Addr::from_bits(v4.to_bits() & mask))
        }
        IpAddr::V6(v6) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(prefix_len.min(128))).unwrap_or(0);
            IpAddr::from(Ipv6Addr::from_bits(v6.to_bits() & mask))
        }
    };
    Cidr::new(masked, prefix_len).ok().filter(|cidr| !cidr.is_host())
}

/// Whether one host can be reached by this address without saying by which interface.
fn is_usable(address: IpAddr) -> bool {
    !(address.is_unspecified() || address.is_loopback() || address.is_multicast())
        && match address {
            IpAddr::V4(v4) => !v4.is_broadcast(),
            IpAddr::V6(v6) => !v6.is_unicast_link_local(),
        }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cidr(text: &str) -> Cidr {
        text.parse().expect(text)
    }

    #[test]
    fn the_first_hosts_of_a_range_are_tried_and_none_outside() {
        let of = |text| addresses_of(cidr(text)).map(|a| a.to_string()).collect::<Vec<_>>();
        assert_eq!(of("10.0.0.7"), ["10.0.0.7"]);
        assert_eq!(of("10.0.0.6/31"), ["10.0.0.7"]);
        assert_eq!(of("fd00::/64"), ["fd00::1", "fd00::2", "fd00::3", "fd00::4"]);
    }

    #[test]
    fn evidence_takes_a_counter_that_moved_and_no_connection() {
        let made = |attempt| Made { what: "a packet".into(), attempt };
        let seen = |attempt, before, after| {
            conclude(Direction::Output, Verdict::Drop, &made(attempt), before, after)
        };
        assert!(seen(Attempt::Dropped, Some(1), Some(2)).is_ok());
        assert!(seen(Attempt::Dropped, Some(2), Some(2)).is_err());
        assert!(seen(Attempt::Connected, Some(1), Some(2)).is_err());
        assert!(seen(Attempt::Dropped, None, None).is_err());
        assert!(seen(Attempt::Dropped, Some(1), None).is_err());
    }
}
