//! What a fault is counted as: what was done to the system, whatever the kind that did it. So that whoever
//! counts need not know the kinds.

use serde::{Deserialize, Serialize};

use super::{Fault, Partition, Processes};

/// What was done to a system.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Family {
    /// A container's life was ended.
    Kill,
    /// Traffic was cut.
    Partition,
    /// Something that there is only so much of was used up.
    Stress,
    /// Something that others depend on answered wrongly, late or not at all.
    Dependency,
}

impl Family {
    /// Its name, as it is written in reports: `partition`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Kill => "kill",
            Self::Partition => "partition",
            Self::Stress => "stress",
            Self::Dependency => "dependency",
        }
    }
}

/// A family, and what in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Counted {
    /// Which.
    pub family: Family,
    /// `two-way` of a partition, `memory` of stress: one word of a few.
    pub variety: String,
}

impl Fault {
    /// What it is counted as; `None` for what belongs to no family, such as a signal that only talks to
    /// a process.
    pub fn counted(&self) -> Option<Counted> {
        let (family, variety) = match self {
            Self::Partition(partition) => (Family::Partition, variety(partition)),
            Self::Kill(kill) => {
                let whole = matches!(kill.processes, Processes::Main | Processes::All);
                if !(whole && kill.signal.is_meant_to_end()) {
                    return None;
                }
                (Family::Kill, "container")
            }
            Self::MemoryPressure(_) => (Family::Stress, "memory"),
        };
        Some(Counted { family, variety: variety.into() })
    }
}

fn variety(partition: &Partition) -> &'static str {
    match (&partition.egress, &partition.ingress) {
        (Some(_), Some(_)) => "two-way",
        (Some(_), None) => "outbound",
        (None, _) => "inbound",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fault::{Kill, Signal};

    #[test]
    fn a_signal_counts_where_it_ends_a_container() {
        let kill = |signal, processes| Fault::Kill(Kill { signal, processes, every: None });
        let family = |fault: Fault| fault.counted().map(|counted| counted.family);
        assert_eq!(family(kill(Signal::KILL, Processes::Main)), Some(Family::Kill));
        assert_eq!(family(kill(Signal::TERM, Processes::All)), Some(Family::Kill));
        assert_eq!(family(kill(Signal::STOP, Processes::Main)), None, "stopped is not killed");
        assert_eq!(family(kill(Signal::KILL, Processes::Named("worker".into()))), None);
    }

    #[test]
    fn names_are_what_is_written_in_reports() {
        for family in [Family::Kill, Family::Partition, Family::Stress, Family::Dependency] {
            assert_eq!(serde_json::to_value(family).expect("JSON"), family.name());
        }
    }
}
