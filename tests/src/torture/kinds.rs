//! Random valid faults, by kind. A kind of the catalogue that is missing here fails the program.

use std::net::IpAddr;

use faultline_proto::{fault::Scope, pb};
use pb::fault::Kind;

use super::{draw::PLANTED, plant::ECHO_PORT, rng::Rng};

/// Peers that nobody has, among those of a partition: RFC 2544's addresses for tests.
const STRANGERS_MAX: u64 = 60;
/// Of the memory limit of a container: a level that is above what it uses and below what kills it.
const LIMIT_BASIS_POINTS: std::ops::Range<u64> = 3_000..8_500;
const STOP: u32 = 19;
/// Signals that stop, that end, and that do nothing to a process without a handler.
const STOPPING: &[u32] = &[STOP, STOP, STOP, 20, 21];
const ENDING: &[u32] = &[9, 9, 15, 2, 1];
const HARMLESS: &[u32] = &[18, 23, 28];

/// What a fault is drawn for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Around<'a> {
    /// The position of its pod.
    pub(super) pod: usize,
    /// The addresses of all pods of the node.
    pub(super) addresses: &'a [Vec<IpAddr>],
}

/// Draws a fault of one kind.
pub(super) type Generator = fn(&mut Rng, &Around<'_>) -> (Scope, Kind);

/// How faults of a kind are drawn; `None` for one that this program has not been taught.
pub(super) fn generator(kind: &str) -> Option<Generator> {
    Some(match kind {
        "partition" => partition,
        "kill" => kill,
        "memoryPressure" => memory_pressure,
        _ => return None,
    })
}

fn partition(rng: &mut Rng, around: &Around<'_>) -> (Scope, Kind) {
    let directions = rng.within(0..3);
    let egress = (directions != 0).then(|| peers(rng, around));
    let ingress = (directions != 1).then(|| peers(rng, around));
    let any = rng.chance(60);
    let protocols = [pb::Protocol::Tcp, pb::Protocol::Udp, pb::Protocol::Icmp];
    let protocol = if any { pb::Protocol::Any } else { *rng.pick(&protocols) };
    let has_ports = matches!(protocol, pb::Protocol::Tcp | pb::Protocol::Udp);
    let count = if has_ports { rng.within(0..4) } else { 0 };
    let ports = (0..count).map(|_| port_range(rng)).collect();
    let port_side = *rng.pick(&[pb::PortSide::Destination, pb::PortSide::Either]);
    let verdict = *rng.pick(&[pb::Verdict::Drop, pb::Verdict::Drop, pb::Verdict::Reject]);
    let wire = pb::Partition {
        egress,
        ingress,
        protocol: protocol.into(),
        ports,
        port_side: port_side.into(),
        verdict: verdict.into(),
        cut_kubelet: rng.chance(50),
    };
    (Scope::Pod, Kind::Partition(wire))
}

fn peers(rng: &mut Rng, around: &Around<'_>) -> pb::PeerSet {
    if rng.chance(50) {
        return pb::PeerSet { everything: true, cidrs: Vec::new() };
    }
    let mut cidrs: Vec<pb::Cidr> =
        around.addresses.iter().flatten().map(|address| host(*address)).collect();
    for _ in 0..rng.within(0..STRANGERS_MAX) {
        let low = u16::try_from(rng.within(1..0xffff)).unwrap_or(1).to_be_bytes();
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

fn port_range(rng: &mut Rng) -> pb::PortRange {
    if rng.chance(50) {
        return pb::PortRange { first: ECHO_PORT.into(), last: ECHO_PORT.into() };
    }
    let first = u32::try_from(rng.within(1..65_000)).unwrap_or(1);
    let last = first + u32::try_from(rng.within(0..500)).unwrap_or(0);
    pb::PortRange { first, last }
}

fn kill(rng: &mut Rng, around: &Around<'_>) -> (Scope, Kind) {
    use pb::process_selector::Which;
    let planted = around.pod == PLANTED;
    let signals = match rng.within(0..100) {
        0..60 => STOPPING,
        // Nor may SIGCONT reach the process that somebody else has stopped there.
        _ if planted => &HARMLESS[1..],
        60..80 => ENDING,
        _ => HARMLESS,
    };
    let signal = *rng.pick(signals);
    let named = if planted { "sleep" } else { "torture" };
    let which = match rng.within(0..3) {
        0 => Which::Main(true),
        1 => Which::All(true),
        _ => Which::Named(named.into()),
    };
    let every_ms = if rng.chance(30) { rng.within(10..300) } else { 0 };
    let processes = Some(pb::ProcessSelector { which: Some(which) });
    (Scope::Container, Kind::Kill(pb::Kill { signal, processes, every_ms }))
}

fn memory_pressure(rng: &mut Rng, _around: &Around<'_>) -> (Scope, Kind) {
    use pb::memory_pressure::Level;
    let points = u32::try_from(rng.within(LIMIT_BASIS_POINTS)).unwrap_or(5_000);
    let victim = *rng.pick(&[pb::OomVictim::Helper, pb::OomVictim::Kernel]);
    let wire = pb::MemoryPressure {
        level: Some(Level::LimitBasisPoints(points)),
        ramp_ms: if rng.chance(50) { 0 } else { rng.within(1..800) },
        oom_victim: victim.into(),
    };
    (Scope::Container, Kind::MemoryPressure(wire))
}
