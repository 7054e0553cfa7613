//! Which peers a proof tries: those that the rules cut and that a packet can be sent to.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use faultline_proto::fault::{Cidr, PeerSet};

use super::{Inside, content::Content, direction::Direction};
use crate::kernel::{KernelError, link, packet::Sender};

/// How many peers are tried until one has a route.
const ROUTES_TRIED_MAX: usize = 256;
/// How many addresses of a range are looked at: the first may be exempt.
const ADDRESSES_OF_RANGE_MAX: u8 = 4;
/// Who stands for "everybody": addresses that nobody has (RFC 5737, RFC 3849).
const NOBODY: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)),
    IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1)),
];
/// Peers to try: at most one of each family, with a route where the direction takes one.
pub(super) fn candidates(
    direction: Direction,
    inside: &Inside,
    sender: &Sender,
    content: &Content,
) -> Result<Vec<IpAddr>, KernelError> {
    let usable = |peer: &IpAddr| !content.exempt.contains(peer) && is_usable(*peer);
    let routed = |peer: &IpAddr| match direction {
        Direction::Output => sender.own_address(*peer).is_some(),
        Direction::Input => true,
    };
    // One of each family, and each family gets its share of the tries.
    let first = |peers: &mut dyn Iterator<Item = IpAddr>| {
        peers.filter(usable).take(ROUTES_TRIED_MAX).find(routed)
    };
    let of_both = |peers: &dyn Fn(bool) -> Option<IpAddr>| {
        [true, false].into_iter().filter_map(peers).collect::<Vec<_>>()
    };
    match direction.peers(&content.partition) {
        None => Ok(Vec::new()),
        Some(PeerSet::Cidrs(cidrs)) => Ok(of_both(&|v4| {
            let cidrs = cidrs.iter().filter(|cidr| cidr.address().is_ipv4() == v4);
            first(&mut cidrs.flat_map(|cidr| addresses_of(*cidr)))
        })),
        Some(PeerSet::Everything) => {
            let found = of_both(&|v4| first(&mut NOBODY.into_iter().filter(|a| a.is_ipv4() == v4)));
            if !found.is_empty() {
                return Ok(found);
            }
            // Without a default route only neighbours can be reached.
            let own = link::addresses(&inside.net_ns)?;
            let is_own = |peer: &IpAddr| own.iter().any(|a| a.address == *peer);
            Ok(of_both(&|v4| {
                let networks = own.iter().filter(|a| a.address.is_ipv4() == v4);
                let networks = networks.filter_map(|a| network_of(a.address, a.prefix_len));
                first(&mut networks.flat_map(addresses_of).filter(|peer| !is_own(peer)))
            }))
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
}
