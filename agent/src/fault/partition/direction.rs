//! The two directions of a cut, and what their chains and sets are called.

use faultline_proto::fault::{Partition, PeerSet};

use crate::kernel::nft::AddressOf;

/// A direction that can be cut, seen from the target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Direction {
    Output,
    Input,
}

/// Names that belong to one set of peers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SetNames {
    pub(super) hosts4: &'static str,
    pub(super) hosts6: &'static str,
    pub(super) nets4: &'static str,
    pub(super) nets6: &'static str,
}

pub(super) const SHARED: SetNames =
    SetNames { hosts4: "peers4", hosts6: "peers6", nets4: "nets4", nets6: "nets6" };
pub(super) const OUTPUT: SetNames = SetNames {
    hosts4: "output_peers4",
    hosts6: "output_peers6",
    nets4: "output_nets4",
    nets6: "output_nets6",
};
pub(super) const INPUT: SetNames = SetNames {
    hosts4: "input_peers4",
    hosts6: "input_peers6",
    nets4: "input_nets4",
    nets6: "input_nets6",
};
pub(super) const NODE: SetNames =
    SetNames { hosts4: "node4", hosts6: "node6", nets4: "", nets6: "" };

impl Direction {
    /// The base chain.
    pub(super) fn chain(self) -> &'static str {
        match self {
            Self::Output => "output",
            Self::Input => "input",
        }
    }

    /// The chain that looks for the other end in the sets.
    pub(super) fn peers_chain(self) -> &'static str {
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
    pub(super) fn peer(self) -> AddressOf {
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
