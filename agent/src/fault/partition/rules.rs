//! What a partition is in the kernel: the chains, sets and rules of one nftables table.
//!
//! ```text
//! output (hook)  lease gone: accept ── exemptions: accept ── protocol and ports ─► output_peers
//! output_peers   receiver in a set of peers ─► output_cut
//! output_cut     count, drop or reject
//! ```
//! and the same for input with the sender. Peers are in sets, never in rules of their own.
//!
//! All but the base chains and the set of the lease bear the number of the change that made them
//! (`output_cut_1`): the next change makes its own beside them.

use std::net::IpAddr;

use faultline_proto::fault::{Cidr, PeerSet, PortSide, Protocol as Proto, Verdict as What};

use super::{
    content::Content,
    direction::{Direction, INPUT, NODE, OUTPUT, SHARED, SetNames},
};
use crate::kernel::nft::{
    AddressOf, Batch, Compare, Element, Expr, Family, Hook, KeyType, PortOf, SetKind, interval,
    interval::Range, is_loopback, load_address, load_port, of_family, of_protocol,
};

/// The priority of the base chains: behind the defragmentation of connection tracking (-400), before
/// everything else there is (raw tables have -300, tracking itself -200, translation -100). So a
/// packet is judged by the addresses the application used, whatever a service mesh in the pod makes
/// of them afterwards; connections that are established are cut as well, because nothing has looked
/// at their state yet; and what is dropped leaves no trace in the connection table. An `accept` here
/// ends these chains only: others still see the packet.
const PRIORITY: i32 = -350;

/// What packets carry that are sent to prove a cut of incoming traffic: they come in by the loopback
/// interface, where everything else is exempt. The low half is left to those who use bits of marks
/// (kube-proxy, CNI plugins, service meshes). `FL` in ASCII.
pub(super) const PROBE_MARK: u32 = 0x464c_0000;

pub(super) const LEASE: &str = "lease";
/// Its number in a batch.
pub(super) const LEASE_ID: u32 = 1;
const PORTS: &str = "ports";

/// What a table is made of beside its set of the lease.
#[derive(Debug, Default)]
pub(super) struct Parts {
    pub(super) base_chains: Vec<String>,
    /// The chains that those go to.
    pub(super) chains: Vec<String>,
    pub(super) sets: Vec<String>,
    pub(super) base_rules: u32,
    /// In the other chains.
    pub(super) rules: u32,
}

/// Which parts of a table a batch is to make.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Make {
    /// None: it is only counted what there would be.
    Nothing,
    /// Sets, and the chains that the base chains go to: without those, they have no effect.
    Inner,
    /// The base chains and their rules.
    Base,
    /// Both.
    All,
}

/// The table of a partition, complete.
#[derive(Debug)]
pub(super) struct Ruleset<'a> {
    table: &'a str,
    content: &'a Content,
    make: Make,
    /// Base chains that are there already, without rules.
    pub(super) kept: &'a [String],
    pub(super) batch: Batch,
    parts: Parts,
}

/// What the table of this partition is made of.
pub(super) fn parts(content: &Content) -> Parts {
    let mut ruleset = Ruleset::new("", content, Make::Nothing);
    ruleset.fill_in();
    ruleset.parts
}

impl<'a> Ruleset<'a> {
    pub(super) fn new(table: &'a str, content: &'a Content, make: Make) -> Self {
        let (batch, parts) = (Batch::default(), Parts::default());
        Self { table, content, make, kept: &[], batch, parts }
    }

    fn makes(&self, part: Make) -> bool {
        self.make == part || self.make == Make::All
    }

    /// Adds chains, sets and rules to the batch.
    pub(super) fn fill_in(&mut self) {
        let partition = &self.content.partition;
        let ports = partition.ports.iter();
        let ports: Vec<Range> = ports
            .map(|range| Range { first: range.first.into(), last: range.last.into() })
            .collect();
        if !ports.is_empty() {
            self.ranges(self.content.named(PORTS), KeyType::Port, ports);
        }
        let node: Vec<Cidr> = self.content.exempt.iter().copied().map(Cidr::host).collect();
        let node = self.address_sets(NODE, &node);
        let shared = partition.egress == partition.ingress;
        let mut of_peers = None;
        for direction in [Direction::Output, Direction::Input] {
            let Some(peers) = direction.peers(partition) else { continue };
            let names = match direction {
                _ if shared => SHARED,
                Direction::Output => OUTPUT,
                Direction::Input => INPUT,
            };
            let sets = match (peers, of_peers.take().filter(|_| shared)) {
                (PeerSet::Everything, _) => Vec::new(),
                (PeerSet::Cidrs(_), Some(sets)) => sets,
                (PeerSet::Cidrs(cidrs), None) => self.address_sets(names, cidrs),
            };
            self.direction(direction, &node, &sets);
            of_peers = Some(sets);
        }
    }

    /// The chains of a direction, and their rules.
    fn direction(
        &mut self,
        direction: Direction,
        node: &[(Family, String)],
        peers: &[(Family, String)],
    ) {
        let everything = direction.peers(&self.content.partition) == Some(&PeerSet::Everything);
        let cut_chain = self.content.named(direction.cut_chain());
        let peers_chain = self.content.named(direction.peers_chain());
        self.chain(&cut_chain);
        if !everything {
            self.chain(&peers_chain);
        }
        self.base_chain(direction);
        self.exemptions(direction, node);
        let next = if everything { &cut_chain } else { &peers_chain };
        for mut selected in self.selected() {
            selected.push(Expr::Goto(next.clone()));
            self.base_rule(direction, &selected);
        }
        for (family, set) in peers {
            let mut found = in_set(*family, direction.peer(), set);
            found.push(Expr::Goto(cut_chain.clone()));
            self.rule(&peers_chain, &found);
        }
        self.verdict(&cut_chain);
    }

    /// What passes whatever is cut.
    fn exemptions(&mut self, direction: Direction, node: &[(Family, String)]) {
        let lease = Expr::NotIn(LEASE.into());
        self.base_rule(direction, &[Expr::LoadFamily, lease, Expr::Accept]);
        // A pod that is cut off from everything still talks to itself, by any of its addresses.
        let mut own = match direction {
            Direction::Output => vec![Expr::LoadOutputInterface, is_loopback()],
            Direction::Input => vec![Expr::LoadInputInterface, is_loopback()],
        };
        if direction == Direction::Input {
            let mark = PROBE_MARK.to_ne_bytes().to_vec();
            own.extend([Expr::LoadMark, Expr::Is(Compare::Unequal, mark)]);
        }
        own.push(Expr::Accept);
        self.base_rule(direction, &own);
        for (family, set) in node {
            let mut from_node = in_set(*family, direction.peer(), set);
            from_node.push(Expr::Accept);
            self.base_rule(direction, &from_node);
        }
        if matches!(self.content.partition.protocol, Proto::Any | Proto::Icmp) {
            self.neighbour_discovery(direction);
        }
        if direction == Direction::Output && self.content.partition.verdict == What::Reject {
            self.answers(direction);
        }
    }

    /// Neighbour discovery (`ICMPv6` 133 to 137, RFC 4861) passes, also where everything is cut: it
    /// is to IPv6 what ARP is to IPv4, which no rule of this table sees. Were it cut, the neighbours'
    /// entries would go stale and fail, and after the revert traffic would stay away until they are
    /// asked for again: the effect would outlive the fault.
    fn neighbour_discovery(&mut self, direction: Direction) {
        let mut rule = of_family(Family::V6).to_vec();
        rule.extend(of_protocol(ICMPV6));
        rule.extend([
            Expr::LoadTransport { offset: 0, len: 1 },
            Expr::Is(Compare::AtLeast, vec![133]),
            Expr::Is(Compare::AtMost, vec![137]),
            Expr::Accept,
        ]);
        self.base_rule(direction, &rule);
    }

    /// The answers with which a reject of incoming packets tells their senders: they leave by the
    /// output chain, which would cut them again.
    fn answers(&mut self, direction: Direction) {
        // The flags of TCP are its byte 13, RST is 4 (RFC 9293).
        let mut reset = of_protocol(TCP).to_vec();
        reset.extend([
            Expr::LoadTransport { offset: 13, len: 1 },
            Expr::Mask(vec![4]),
            Expr::Is(Compare::Unequal, vec![0]),
            Expr::Accept,
        ]);
        self.base_rule(direction, &reset);
        // "Communication administratively prohibited": RFC 1812, 5.2.7.1 and RFC 4443, 3.1.
        for (protocol, kind_and_code) in [(ICMP, [3, 13]), (ICMPV6, [1, 1])] {
            let mut prohibited = of_protocol(protocol).to_vec();
            prohibited.extend([
                Expr::LoadTransport { offset: 0, len: 2 },
                Expr::Is(Compare::Equal, kind_and_code.to_vec()),
                Expr::Accept,
            ]);
            self.base_rule(direction, &prohibited);
        }
    }

    /// The protocols and ports that are cut: a packet is if one of these lists matches.
    fn selected(&self) -> Vec<Vec<Expr>> {
        let protocols: &[u8] = match self.content.partition.protocol {
            Proto::Any => return vec![Vec::new()],
            Proto::Tcp => &[TCP],
            Proto::Udp => &[UDP],
            Proto::Icmp => &[ICMP, ICMPV6],
        };
        let ports: &[PortOf] = match self.content.partition.port_side {
            PortSide::Destination => &[PortOf::Destination],
            PortSide::Either => &[PortOf::Destination, PortOf::Source],
        };
        let mut selected = Vec::new();
        for protocol in protocols {
            let protocol = of_protocol(*protocol).to_vec();
            if self.content.partition.ports.is_empty() {
                selected.push(protocol);
                continue;
            }
            for port in ports {
                let port = [load_port(*port), Expr::In(self.content.named(PORTS))];
                selected.push([&protocol[..], &port].concat());
            }
        }
        selected
    }

    fn verdict(&mut self, chain: &str) {
        match self.content.partition.verdict {
            What::Drop => self.rule(chain, &[Expr::Count, Expr::Drop]),
            What::Reject => {
                let mut reset = of_protocol(TCP).to_vec();
                reset.extend([Expr::Count, Expr::RejectWithReset]);
                self.rule(chain, &reset);
                self.rule(chain, &[Expr::Count, Expr::RejectAsProhibited]);
            }
        }
    }

    /// Sets of these ranges, those that are not empty: single addresses are found by hash, ranges in
    /// a tree.
    fn address_sets(&mut self, names: SetNames, cidrs: &[Cidr]) -> Vec<(Family, String)> {
        let mut sets = Vec::new();
        for (family, key, hosts_name, nets_name) in [
            (Family::V4, KeyType::AddressV4, names.hosts4, names.nets4),
            (Family::V6, KeyType::AddressV6, names.hosts6, names.nets6),
        ] {
            let of_family = |cidr: &&Cidr| cidr.address().is_ipv4() == (family == Family::V4);
            let of_family = || cidrs.iter().filter(of_family);
            let hosts = of_family().filter(|cidr| cidr.is_host());
            let hosts: Vec<Element> = hosts.map(|cidr| Element::address(cidr.address())).collect();
            if !hosts.is_empty() {
                let name = self.content.named(hosts_name);
                self.set(name.clone(), key, SetKind::Keys(hosts.len()), || hosts);
                sets.push((family, name));
            }
            let nets: Vec<Range> = of_family().filter(|cidr| !cidr.is_host()).map(range).collect();
            if !nets.is_empty() {
                let name = self.content.named(nets_name);
                self.ranges(name.clone(), key, nets);
                sets.push((family, name));
            }
        }
        sets
    }

    fn ranges(&mut self, name: String, key: KeyType, ranges: Vec<Range>) {
        self.set(name, key, SetKind::Intervals, || interval::elements(ranges, key.key_len()));
    }

    fn set(
        &mut self,
        name: String,
        key: KeyType,
        kind: SetKind,
        elements: impl FnOnce() -> Vec<Element>,
    ) {
        if self.makes(Make::Inner) {
            let before = u32::try_from(self.parts.sets.len()).unwrap_or(u32::MAX);
            self.batch.new_set(self.table, &name, LEASE_ID + 1 + before, key, kind);
            self.batch.add_elements(self.table, &name, &elements());
        }
        self.parts.sets.push(name);
    }

    fn base_chain(&mut self, direction: Direction) {
        let hook = match direction {
            Direction::Output => Hook::Output,
            Direction::Input => Hook::Input,
        };
        let name = direction.chain();
        if self.makes(Make::Base) && !self.kept.iter().any(|kept| kept == name) {
            self.batch.new_base_chain(self.table, name, hook, PRIORITY);
        }
        self.parts.base_chains.push(name.to_owned());
    }

    fn base_rule(&mut self, direction: Direction, expressions: &[Expr]) {
        if self.makes(Make::Base) {
            self.batch.add_rule(self.table, direction.chain(), expressions);
        }
        self.parts.base_rules += 1;
    }

    fn chain(&mut self, name: &str) {
        if self.makes(Make::Inner) {
            self.batch.new_chain(self.table, name);
        }
        self.parts.chains.push(name.to_owned());
    }

    fn rule(&mut self, chain: &str, expressions: &[Expr]) {
        if self.makes(Make::Inner) {
            self.batch.add_rule(self.table, chain, expressions);
        }
        self.parts.rules += 1;
    }
}

const ICMP: u8 = 1;
const TCP: u8 = 6;
const UDP: u8 = 17;
const ICMPV6: u8 = 58;

fn in_set(family: Family, which: AddressOf, set: &str) -> Vec<Expr> {
    let mut found = of_family(family).to_vec();
    found.extend([load_address(family, which), Expr::In(set.to_owned())]);
    found
}

fn range(cidr: &Cidr) -> Range {
    let (first, bits) = match cidr.address() {
        IpAddr::V4(v4) => (u128::from(v4.to_bits()), 32),
        IpAddr::V6(v6) => (v6.to_bits(), 128),
    };
    let host_bits = bits - u32::from(cidr.prefix_len());
    let host_mask = 1_u128.checked_shl(host_bits).map_or(u128::MAX, |size| size - 1);
    Range { first, last: first | host_mask }
}
