//! Random partitions: see [`crate::fault::Draw`].

use std::net::IpAddr;

use crate::{
    fault::{Around, Draw},
    pb::{self, fault::Kind},
};

/// Peers that nobody has, among those of a partition: RFC 2544's addresses for tests.
const STRANGERS_MAX: u64 = 60;

/// Draws one. All that is around is among its peers, in at least one direction.
pub(super) fn sample(draw: &mut dyn Draw, around: &Around<'_>) -> Kind {
    let directions = draw.within(0..3);
    let egress = (directions != 0).then(|| peers(draw, around));
    let ingress = (directions != 1).then(|| peers(draw, around));
    let any = draw.chance(60);
    let protocols = [pb::Protocol::Tcp, pb::Protocol::Udp, pb::Protocol::Icmp];
    let protocol = if any { pb::Protocol::Any } else { *draw.pick(&protocols) };
    let has_ports = matches!(protocol, pb::Protocol::Tcp | pb::Protocol::Udp);
    let count = if has_ports { draw.within(0..4) } else { 0 };
    let ports = (0..count).map(|_| port_range(draw, around)).collect();
    let port_side = *draw.pick(&[pb::PortSide::Destination, pb::PortSide::Either]);
    let verdict = *draw.pick(&[pb::Verdict::Drop, pb::Verdict::Drop, pb::Verdict::Reject]);
    Kind::Partition(pb::Partition {
        egress,
        ingress,
        protocol: protocol.into(),
        ports,
        port_side: port_side.into(),
        verdict: verdict.into(),
        cut_kubelet: draw.chance(50),
    })
}

fn peers(draw: &mut dyn Draw, around: &Around<'_>) -> pb::PeerSet {
    if around.addresses.is_empty() || draw.chance(50) {
        return pb::PeerSet { everything: true, cidrs: Vec::new() };
    }
    let mut cidrs: Vec<pb::Cidr> = around.addresses.iter().copied().map(host).collect();
    for _ in 0..draw.within(0..STRANGERS_MAX) {
        let low = u16::try_from(draw.within(1..0xffff)).unwrap_or(1).to_be_bytes();
        cidrs.push(host(IpAddr::from([198, 18, low[0], low[1]])));
    }
    pb::PeerSet { everything: false, cidrs }
}

fn host(address: IpAddr) -> pb::Cidr {
    match address {
        IpAddr::V4(v4) => pb::Cidr { address: v4.octets().to_vec(), prefix_len: 32 },
        IpAddr::V6(v6) => pb::Cidr { address: v6.octets().to_vec(), prefix_len: 128 },
    }
}

fn port_range(draw: &mut dyn Draw, around: &Around<'_>) -> pb::PortRange {
    if draw.chance(50) {
        return pb::PortRange { first: around.port.into(), last: around.port.into() };
    }
    let first = u32::try_from(draw.within(1..65_000)).unwrap_or(1);
    let last = first + u32::try_from(draw.within(0..500)).unwrap_or(0);
    pb::PortRange { first, last }
}
