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

use faultline_proto::fault::{Partition, Protocol as Proto, Verdict};

use super::{
    Inside, candidates::candidates, content::Content, direction::Direction, rules::PROBE_MARK,
};
use crate::{
    fault::Observation,
    kernel::{
        KernelError,
        nft::Nft,
        packet::{Attempt, Needs, Protocol, Sender},
    },
};

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
        content: &Content,
    ) -> Result<Observation, KernelError> {
        let mut nft = inside.nft();
        let before = Counts::read(&mut nft, table, content)?;
        let mut missing = Vec::new();
        for side in self.directions.iter_mut().filter(|side| side.proven.is_none()) {
            let counted = before.of(side.direction);
            // What moved between two looks counts as well: a packet that was sent in the last look
            // may have been worked on after it.
            let counted_before = side.counted.or(counted);
            if side.peers.is_none() {
                side.peers = Some(candidates(side.direction, inside, sender, content)?);
            }
            let peers = side.peers.as_deref().unwrap_or_default();
            let made = peers.iter().find_map(|peer| {
                attempt(sender, side.direction, self.protocol, *peer, self.port).ok()
            });
            let Some(made) = made else {
                missing.push(no_way(side.direction));
                continue;
            };
            let counted_after = Counts::read(&mut nft, table, content)?.of(side.direction);
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
    fn read(nft: &mut Nft, table: &str, content: &Content) -> Result<Self, KernelError> {
        let rules = nft.rules(table)?;
        let sum = |direction: Direction| {
            let chain = content.named(direction.cut_chain());
            let of_chain = rules.iter().filter(|rule| rule.chain == chain);
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
                Protocol::Tcp => format!("a TCP packet to port {port}"),
                Protocol::Udp => format!("a UDP packet to port {port}"),
                Protocol::Icmp => "an ICMP packet".into(),
            };
            (format!("{protocol} that came as if from {peer}"), attempt)
        }
    };
    Ok(Made { what, attempt })
}

#[cfg(test)]
mod tests {
    use super::*;

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
