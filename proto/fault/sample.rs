//! Random valid faults, for tests that must meet every kind there is: each kind draws its own, in its
//! own file, and the catalogue demands it.
//!
//! Chance comes from the caller, so that a test can repeat what it drew.

use std::{net::IpAddr, ops::Range};

use super::Fault;
use crate::pb;

/// A source of chance.
pub trait Draw {
    /// A number of a range that is not empty.
    fn within(&mut self, range: Range<u64>) -> u64;
}

impl dyn Draw + '_ {
    /// Whether something happens that does so in `percent` of all cases.
    pub fn chance(&mut self, percent: u64) -> bool {
        self.within(0..100) < percent
    }

    /// One of several, of which there is at least one.
    pub fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        let count = u64::try_from(from.len()).unwrap_or(u64::MAX);
        &from[usize::try_from(self.within(0..count)).unwrap_or(0)]
    }
}

/// What there is around a target that faults are drawn for.
#[derive(Debug, Clone, Copy)]
pub struct Around<'a> {
    /// Addresses that the target talks with. All of them are among the peers of what is cut, so that
    /// an effect can be seen.
    pub addresses: &'a [IpAddr],
    /// A port that is talked with there.
    pub port: u16,
    /// The name of a process of the target's.
    pub process: &'a str,
    /// Somebody else's processes are in the target's container: no signal may end or continue them.
    pub is_shared: bool,
}

/// What can be seen of a target, from outside and without a word of the agent, while a fault acts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Observable {
    /// Datagrams to or from the pod get lost.
    Traffic,
    /// Processes of the container are stopped.
    Processes,
    /// More memory is charged to the container's control group.
    Memory,
}

/// Who ends the effect of a fault when its lease is over and the agent is dead.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum EndedBy {
    /// The kernel, at the lease, whoever lives.
    Kernel,
    /// A process that holds the effect: at the lease, or as soon as its agent has ended.
    Holder,
}

/// An effect that lasts until something ends it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LastingEffect {
    /// How it is seen.
    pub seen_by: Observable,
    /// Who ends it.
    pub ended_by: EndedBy,
}

impl Fault {
    /// What can be seen for as long as it acts; `None`: nothing that lasts.
    pub fn lasting_effect(&self) -> Option<LastingEffect> {
        match self {
            Self::Partition(_) => {
                Some(LastingEffect { seen_by: Observable::Traffic, ended_by: EndedBy::Kernel })
            }
            Self::Kill(kill) => kill.signal.stops().then_some(LastingEffect {
                seen_by: Observable::Processes,
                ended_by: EndedBy::Holder,
            }),
            Self::MemoryPressure(_) => {
                Some(LastingEffect { seen_by: Observable::Memory, ended_by: EndedBy::Holder })
            }
        }
    }
}

/// How faults of a kind are drawn: [`super::KindInfo::sample`].
pub type Sample = fn(&mut dyn Draw, &Around<'_>) -> pb::fault::Kind;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fault::KINDS;

    /// Numbers in a row, spread by a prime.
    struct Counter(u64);

    impl Draw for Counter {
        fn within(&mut self, range: Range<u64>) -> u64 {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            range.start + (self.0 >> 33) % (range.end - range.start)
        }
    }

    #[test]
    fn every_kind_draws_valid_faults_of_its_own_kind_and_not_always_the_same() {
        let addresses = [IpAddr::from([10, 0, 0, 1]), IpAddr::from([0, 0, 0, 0, 0, 0, 0, 1])];
        for info in KINDS {
            let mut draw = Counter(1);
            let mut drawn = Vec::new();
            for is_shared in [false, true] {
                let around =
                    Around { addresses: &addresses, port: 9001, process: "echo", is_shared };
                drawn.extend((0..500).map(|_| {
                    let wire = (info.sample)(&mut draw, &around);
                    Fault::try_from(pb::Fault { kind: Some(wire) }).expect("a valid fault")
                }));
            }
            assert!(drawn.iter().all(|fault| fault.kind() == info.name), "{}", info.name);
            assert!(drawn.iter().any(|fault| *fault != drawn[0]), "{}", info.name);
        }
    }

    #[test]
    fn what_shares_a_container_is_neither_ended_nor_continued() {
        let around = Around { addresses: &[], port: 1, process: "x", is_shared: true };
        let mut draw = Counter(7);
        for info in KINDS {
            for _ in 0..500 {
                let wire = (info.sample)(&mut draw, &around);
                if let pb::fault::Kind::Kill(kill) = wire {
                    let number = kill.signal;
                    assert!(![9, 15, 18, 2, 1].contains(&number), "signal {number}");
                }
            }
        }
    }
}
