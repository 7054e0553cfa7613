//! What a partition is in the kernel: one nftables table, built as one batch. It sends nothing.
//!
//! ```text
//! output (hook)  lease gone: accept ── exemptions: accept ── protocol and ports ─► output_peers
//! output_peers   receiver in a set of peers ─► output_cut
//! output_cut     count, drop or reject
//! ```
//! and the same for input with the sender. Peers are in sets, never in rules of their own.

use std::{net::IpAddr, time::Duration};

use faultline_proto::fault::{
    Cidr, Partition, PeerSet, PortSide, Protocol as Proto, Verdict as What,
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

/// The shortest timeout of an element: one tick of the slowest kernel (`CONFIG_HZ=100`). A kernel
/// before 6.10 rounds less down to none, which means "never" (`nf_msecs_to_jiffies64`).
const TIMEOUT_MS_MIN: u64 = 10;

pub(super) const LEASE: &str = "lease";
const PORTS: &str = "ports";

/// A direction that can be cut, seen from the target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Direction {
    Output,
    Input,
}

/// Names that belong to one set of peers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct SetNames {
    hosts4: &'static str,
    hosts6: &'static str,
    nets4: &'static str,
    nets6: &'static str,
}

const SHARED: SetNames =
    SetNames { hosts4: "peers4", hosts6: "peers6", nets4: "nets4", nets6: "nets6" };
const OUTPUT: SetNames = SetNames {
    hosts4: "output_peers4",
    hosts6: "output_peers6",
    nets4: "output_nets4",
    nets6: "output_nets6",
};
const INPUT: SetNames = SetNames {
    hosts4: "input_peers4",
    hosts6: "input_peers6",
    nets4: "input_nets4",
    nets6: "input_nets6",
};
const NODE: SetNames = SetNames { hosts4: "node4", hosts6: "node6", nets4: "", nets6: "" };

impl Direction {
    /// The base chain.
    pub(super) fn chain(self) -> &'static str {
        match self {
            Self::Output => "output",
            Self::Input => "input",
        }
    }

    /// The chain that looks for the other end in the sets.
    fn peers_chain(self) -> &'static str {
        match self {
            Self::Output => "output_peers",
            Self::Input => "input_peers",
        }
    }

    /// The chain of packets that are cut: its rules count.
    pub(super) fn cut_chain(self) -> &'static str {
        match self {
            Self::Output => "output_cut",
            Self::Input => "input_cut",
        }
    }

    /// Which address is the other end's.
    fn peer(self) -> AddressOf {
        match self {
            Self::Output => AddressOf::Destination,
            Self::Input => AddressOf::Source,
        }
    }

    /// Who is cut in this direction.
    pub(super) fn peers(self, partition: &Partition) -> Option<&PeerSet> {
        match self {
            Self::Output => partition.egress.as_ref(),
            Self::Input => partition.ingress.as_ref(),
        }
    }
}

/// How many things a table holds, by which it is seen whether somebody else put more into it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Shape {
    pub(super) objects: u32,
    pub(super) rules: u32,
}

/// The table of a partition, complete.
#[derive(Debug)]
pub(super) struct Ruleset<'a> {
    table: &'a str,
    partition: &'a Partition,
    exempt: &'a [IpAddr],
    /// Whether sets get their elements; without, it is quick to see what the shape is.
    fill: bool,
    batch: Batch,
    shape: Shape,
}

/// What the table will hold.
pub(super) fn shape(partition: &Partition, exempt: &[IpAddr]) -> Shape {
    let mut ruleset = Ruleset::new("", partition, exempt, false);
    ruleset.fill_in();
    ruleset.shape
}

/// All that it takes to bring the partition into effect, for so long.
pub(super) fn injection(
    table: &str,
    owner: &str,
    partition: &Partition,
    exempt: &[IpAddr],
    lease: Duration,
) -> Batch {
    let mut ruleset = Ruleset::new(table, partition, exempt, true);
    ruleset.batch.new_table(table, owner);
    ruleset.batch.new_set(table, LEASE, 1, KeyType::Family, SetKind::Timeouts);
    ruleset.batch.add_elements(table, LEASE, &lease_elements(lease));
    ruleset.fill_in();
    ruleset.batch
}

/// Ends the lease and begins it anew. The kernel refuses all of it if the lease has ended: an element
/// whose time is over cannot be deleted.
pub(super) fn renewal(table: &str, lease: Duration) -> Batch {
    let mut batch = Batch::default();
    let elements = lease_elements(lease);
    // Re-adding a live element does not change its timeout, and updating one in place needs 6.12.
    batch.delete_elements(table, LEASE, &elements);
    batch.add_elements(table, LEASE, &elements);
    batch
}

fn lease_elements(lease: Duration) -> [Element; 2] {
    let timeout_ms = u64::try_from(lease.as_millis()).unwrap_or(u64::MAX).max(TIMEOUT_MS_MIN);
    let element =
        |family: i32| Element::key(&[u8::try_from(family).unwrap_or(0)]).expiring_after(timeout_ms);
    [element(libc::NFPROTO_IPV4), element(libc::NFPROTO_IPV6)]
}

impl<'a> Ruleset<'a> {
    fn new(table: &'a str, partition: &'a Partition, exempt: &'a [IpAddr], fill: bool) -> Self {
        // The set of the lease is counted here: it has a batch of its own for renewals.
        let shape = Shape { objects: 1, rules: 0 };
        Self { table, partition, exempt, fill, batch: Batch::default(), shape }
    }

    fn fill_in(&mut self) {
        let partition = self.partition;
        let ports = partition.ports.iter();
        let ports: Vec<Range> = ports
            .map(|range| Range { first: range.first.into(), last: range.last.into() })
            .collect();
        if !ports.is_empty() {
            self.ranges(PORTS, KeyType::Port, ports);
        }
        let node: Vec<Cidr> = self.exempt.iter().copied().map(Cidr::host).collect();
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
        node: &[(Family, &'static str)],
        peers: &[(Family, &'static str)],
    ) {
        let everything = direction.peers(self.partition) == Some(&PeerSet::Everything);
        self.chain(direction.cut_chain());
        if !everything {
            self.chain(direction.peers_chain());
        }
        let hook = match direction {
            Direction::Output => Hook::Output,
            Direction::Input => Hook::Input,
        };
        self.batch.new_base_chain(self.table, direction.chain(), hook, PRIORITY);
        self.shape.objects += 1;

        self.exemptions(direction, node);
        let next = if everything { direction.cut_chain() } else { direction.peers_chain() };
        for mut selected in self.selected() {
            selected.push(Expr::Goto(next));
            self.rule(direction.chain(), &selected);
        }
        for (family, set) in peers {
            let mut found = in_set(*family, direction.peer(), set);
            found.push(Expr::Goto(direction.cut_chain()));
            self.rule(direction.peers_chain(), &found);
        }
        self.verdict(direction.cut_chain());
    }

    /// What passes whatever is cut.
    fn exemptions(&mut self, direction: Direction, node: &[(Family, &'static str)]) {
        let chain = direction.chain();
        self.rule(chain, &[Expr::LoadFamily, Expr::NotIn(LEASE), Expr::Accept]);
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
        self.rule(chain, &own);
        for (family, set) in node {
            let mut from_node = in_set(*family, direction.peer(), set);
            from_node.push(Expr::Accept);
            self.rule(chain, &from_node);
        }
        if matches!(self.partition.protocol, Proto::Any | Proto::Icmp) {
            self.neighbour_discovery(chain);
        }
        if direction == Direction::Output && self.partition.verdict == What::Reject {
            self.answers(chain);
        }
    }

    /// Neighbour discovery (`ICMPv6` 133 to 137, RFC 4861) passes, also where everything is cut: it
    /// is to IPv6 what ARP is to IPv4, which no rule of this table sees. Were it cut, the neighbours'
    /// entries would go stale and fail, and after the revert traffic would stay away until they are
    /// asked for again: the effect would outlive the fault.
    fn neighbour_discovery(&mut self, chain: &'static str) {
        let mut rule = of_family(Family::V6).to_vec();
        rule.extend(of_protocol(ICMPV6));
        rule.extend([
            Expr::LoadTransport { offset: 0, len: 1 },
            Expr::Is(Compare::AtLeast, vec![133]),
            Expr::Is(Compare::AtMost, vec![137]),
            Expr::Accept,
        ]);
        self.rule(chain, &rule);
    }

    /// The answers with which a reject of incoming packets tells their senders: they leave by the
    /// output chain, which would cut them again.
    fn answers(&mut self, chain: &'static str) {
        // The flags of TCP are its byte 13, RST is 4 (RFC 9293).
        let mut reset = of_protocol(TCP).to_vec();
        reset.extend([
            Expr::LoadTransport { offset: 13, len: 1 },
            Expr::Mask(vec![4]),
            Expr::Is(Compare::Unequal, vec![0]),
            Expr::Accept,
        ]);
        self.rule(chain, &reset);
        // "Communication administratively prohibited": RFC 1812, 5.2.7.1 and RFC 4443, 3.1.
        for (protocol, kind_and_code) in [(ICMP, [3, 13]), (ICMPV6, [1, 1])] {
            let mut prohibited = of_protocol(protocol).to_vec();
            prohibited.extend([
                Expr::LoadTransport { offset: 0, len: 2 },
                Expr::Is(Compare::Equal, kind_and_code.to_vec()),
                Expr::Accept,
            ]);
            self.rule(chain, &prohibited);
        }
    }

    /// The protocols and ports that are cut: a packet is if one of these lists matches.
    fn selected(&self) -> Vec<Vec<Expr>> {
        let protocols: &[u8] = match self.partition.protocol {
            Proto::Any => return vec![Vec::new()],
            Proto::Tcp => &[TCP],
            Proto::Udp => &[UDP],
            Proto::Icmp => &[ICMP, ICMPV6],
        };
        let ports: &[PortOf] = match self.partition.port_side {
            PortSide::Destination => &[PortOf::Destination],
            PortSide::Either => &[PortOf::Destination, PortOf::Source],
        };
        let mut selected = Vec::new();
        for protocol in protocols {
            let protocol = of_protocol(*protocol).to_vec();
            if self.partition.ports.is_empty() {
                selected.push(protocol);
                continue;
            }
            for port in ports {
                let port = [load_port(*port), Expr::In(PORTS)];
                selected.push([&protocol[..], &port].concat());
            }
        }
        selected
    }

    fn verdict(&mut self, chain: &'static str) {
        match self.partition.verdict {
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
    fn address_sets(&mut self, names: SetNames, cidrs: &[Cidr]) -> Vec<(Family, &'static str)> {
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
                self.set(hosts_name, key, SetKind::Keys(hosts.len()), || hosts);
                sets.push((family, hosts_name));
            }
            let nets: Vec<Range> = of_family().filter(|cidr| !cidr.is_host()).map(range).collect();
            if !nets.is_empty() {
                self.ranges(nets_name, key, nets);
                sets.push((family, nets_name));
            }
        }
        sets
    }

    fn ranges(&mut self, name: &'static str, key: KeyType, ranges: Vec<Range>) {
        self.set(name, key, SetKind::Intervals, || interval::elements(ranges, key.key_len()));
    }

    fn set(
        &mut self,
        name: &'static str,
        key: KeyType,
        kind: SetKind,
        elements: impl FnOnce() -> Vec<Element>,
    ) {
        self.shape.objects += 1;
        if self.fill {
            self.batch.new_set(self.table, name, self.shape.objects, key, kind);
            self.batch.add_elements(self.table, name, &elements());
        }
    }

    fn chain(&mut self, name: &'static str) {
        self.batch.new_chain(self.table, name);
        self.shape.objects += 1;
    }

    fn rule(&mut self, chain: &'static str, expressions: &[Expr]) {
        self.batch.add_rule(self.table, chain, expressions);
        self.shape.rules += 1;
    }
}

const ICMP: u8 = 1;
const TCP: u8 = 6;
const UDP: u8 = 17;
const ICMPV6: u8 = 58;

fn in_set(family: Family, which: AddressOf, set: &'static str) -> Vec<Expr> {
    let mut found = of_family(family).to_vec();
    found.extend([load_address(family, which), Expr::In(set)]);
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
