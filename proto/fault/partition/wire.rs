//! A partition as an agent is told it, checked again on the way in.

use super::{
    KubeletPath, Partition, PeerSet, PortRange, PortSide, Protocol, Verdict, has_ports,
    merge_ports, peer_set,
};
use crate::{
    InvalidWire,
    fault::Cidr,
    limits::{PEERS_MAX, PORT_RANGES_MAX},
    pb,
};

impl TryFrom<pb::Partition> for Partition {
    type Error = InvalidWire;

    fn try_from(wire: pb::Partition) -> Result<Self, InvalidWire> {
        let peers = |field: &'static str, set: Option<pb::PeerSet>| {
            set.map(PeerSet::try_from).transpose().map_err(|e| e.within(field))
        };
        let egress = peers("egress", wire.egress)?;
        let ingress = peers("ingress", wire.ingress)?;
        if egress.is_none() && ingress.is_none() {
            return Err(InvalidWire::new("egress", "no direction is cut"));
        }
        let protocol = Protocol::from_wire(wire.protocol)
            .ok_or_else(|| InvalidWire::new("protocol", "not a protocol this agent knows"))?;
        if wire.ports.len() > PORT_RANGES_MAX {
            let problem = format!("{} are more than {PORT_RANGES_MAX}", wire.ports.len());
            return Err(InvalidWire::new("ports", problem));
        }
        let ports: Vec<PortRange> = wire
            .ports
            .into_iter()
            .enumerate()
            .map(|(i, range)| {
                PortRange::try_from(range).map_err(|e| e.within(&format!("ports[{i}]")))
            })
            .collect::<Result<_, _>>()?;
        if !ports.is_empty() && !has_ports(protocol) {
            return Err(InvalidWire::new("ports", "only tcp and udp have ports"));
        }
        let port_side = PortSide::from_wire(wire.port_side)
            .ok_or_else(|| InvalidWire::new("port_side", "not a side this agent knows"))?;
        let verdict = Verdict::from_wire(wire.verdict)
            .ok_or_else(|| InvalidWire::new("verdict", "not a verdict this agent knows"))?;
        let kubelet = if wire.cut_kubelet { KubeletPath::Cut } else { KubeletPath::Exempt };
        Ok(Self {
            egress,
            ingress,
            protocol,
            ports: merge_ports(ports),
            port_side,
            verdict,
            kubelet,
        })
    }
}

impl From<Partition> for pb::Partition {
    fn from(partition: Partition) -> Self {
        Self {
            egress: partition.egress.map(Into::into),
            ingress: partition.ingress.map(Into::into),
            protocol: pb::Protocol::from(partition.protocol).into(),
            ports: partition
                .ports
                .iter()
                .map(|r| pb::PortRange { first: r.first.into(), last: r.last.into() })
                .collect(),
            port_side: pb::PortSide::from(partition.port_side).into(),
            verdict: pb::Verdict::from(partition.verdict).into(),
            cut_kubelet: partition.kubelet == KubeletPath::Cut,
        }
    }
}

impl TryFrom<pb::PeerSet> for PeerSet {
    type Error = InvalidWire;

    fn try_from(wire: pb::PeerSet) -> Result<Self, InvalidWire> {
        if wire.everything {
            return if wire.cidrs.is_empty() {
                Ok(Self::Everything)
            } else {
                Err(InvalidWire::new("cidrs", "must be empty when `everything` is set"))
            };
        }
        if wire.cidrs.len() > PEERS_MAX {
            let problem = format!("{} are more than {PEERS_MAX}", wire.cidrs.len());
            return Err(InvalidWire::new("cidrs", problem));
        }
        let cidrs: Vec<Cidr> = wire
            .cidrs
            .into_iter()
            .enumerate()
            .map(|(i, cidr)| Cidr::try_from(cidr).map_err(|e| e.within(&format!("cidrs[{i}]"))))
            .collect::<Result<_, _>>()?;
        peer_set(cidrs)
            .map_err(|problem| InvalidWire::new("cidrs", problem))?
            .ok_or_else(|| InvalidWire::new("cidrs", "no peers"))
    }
}

impl From<PeerSet> for pb::PeerSet {
    fn from(peers: PeerSet) -> Self {
        match peers {
            PeerSet::Everything => Self { everything: true, cidrs: Vec::new() },
            PeerSet::Cidrs(cidrs) => {
                Self { everything: false, cidrs: cidrs.into_iter().map(Into::into).collect() }
            }
        }
    }
}

impl TryFrom<pb::PortRange> for PortRange {
    type Error = InvalidWire;

    fn try_from(wire: pb::PortRange) -> Result<Self, InvalidWire> {
        let port = |field: &str, number: u32| match u16::try_from(number) {
            Ok(port) if port > 0 => Ok(port),
            _ => Err(InvalidWire::new(field, format!("expected 1 to 65535, got {number}"))),
        };
        let (first, last) = (port("first", wire.first)?, port("last", wire.last)?);
        if first > last {
            return Err(InvalidWire::new("last", format!("{last} is before {first}")));
        }
        Ok(Self { first, last })
    }
}
