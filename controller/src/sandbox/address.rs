//! Who has which address: a routed, flat network as a real cluster has it.
//!
//! The hub is 10.250.0.1, node N 10.250.0.(10+N), its pods 10.244.N.0/24 with the node as their
//! gateway at .1; for IPv6 `fd00:250::/64` and `fd00:244:N::/64` in the same way.

use std::net::{Ipv4Addr, Ipv6Addr};

/// Where the agent of a node listens, on the node's IPv4 address.
pub const AGENT_PORT: u16 = 7700;

/// Nodes, at most.
pub(super) const NODES_MAX: u8 = 64;
/// Pods on one node, at most: every address of the /24 that is neither the node's nor special.
pub(super) const PODS_PER_NODE_MAX: u8 = 250;

/// An address of each family and how long its network's prefix is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Pair {
    pub(super) v4: Ipv4Addr,
    pub(super) v4_prefix: u8,
    pub(super) v6: Ipv6Addr,
    pub(super) v6_prefix: u8,
}

/// The hub's own address, on its bridge.
pub(super) fn hub() -> Pair {
    node_network(Ipv4Addr::new(10, 250, 0, 1), 1)
}

/// The address of node `index`, which counts from 1.
pub(super) fn node(index: u8) -> Pair {
    let host = 10 + index;
    node_network(Ipv4Addr::new(10, 250, 0, host), u16::from(host))
}

/// The network of the pods of a node.
pub(super) fn pods(node: u8) -> Pair {
    pod(node, 0)
}

/// The address of a node towards its pods.
pub(super) fn gateway(node: u8) -> Pair {
    pod(node, 1)
}

/// The address of a pod: `host` is from 2.
pub(super) fn pod(node: u8, host: u8) -> Pair {
    Pair {
        v4: Ipv4Addr::new(10, 244, node, host),
        v4_prefix: 24,
        // The digits are written as the decimal ones are read: node 12 is fd00:244:12::.
        v6: Ipv6Addr::new(0xfd00, 0x244, as_written(node), 0, 0, 0, 0, as_written(host)),
        v6_prefix: 64,
    }
}

fn node_network(v4: Ipv4Addr, host: u16) -> Pair {
    let host = as_written(u8::try_from(host).unwrap_or(u8::MAX));
    let v6 = Ipv6Addr::new(0xfd00, 0x250, 0, 0, 0, 0, 0, host);
    Pair { v4, v4_prefix: 16, v6, v6_prefix: 64 }
}

/// The group of an IPv6 address that reads like a decimal number: 12 as 0x12.
fn as_written(number: u8) -> u16 {
    let (hundreds, tens, ones) = (number / 100, number / 10 % 10, number % 10);
    u16::from(hundreds) << 8 | u16::from(tens) << 4 | u16::from(ones)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_families_read_alike() {
        let pod = pod(12, 103);
        assert_eq!(pod.v4.to_string(), "10.244.12.103");
        assert_eq!(pod.v6.to_string(), "fd00:244:12::103");
        assert_eq!(node(3).v4.to_string(), "10.250.0.13");
        assert_eq!(node(3).v6.to_string(), "fd00:250::13");
        assert_eq!(hub().v6.to_string(), "fd00:250::1");
    }

    #[test]
    fn no_two_pods_share_an_address() {
        let mut seen = std::collections::HashSet::new();
        for node in 1..=NODES_MAX {
            for host in 1..=PODS_PER_NODE_MAX + 1 {
                let pair = pod(node, host);
                assert!(seen.insert(pair.v4.to_string()) && seen.insert(pair.v6.to_string()));
            }
        }
    }
}
