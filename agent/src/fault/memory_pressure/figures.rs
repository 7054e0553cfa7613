//! The arithmetic of a memory pressure: what is asked, what there is, and why it may not be done.

use faultline_proto::{
    fault::{Level, OomVictim},
    units::{percent, size},
};

use crate::{fault::Refusal, kernel::memory::MachineMemory};

/// The usage may be so many parts of the level below it and count as reached: 2 %.
const TOLERANCE_PARTS: u64 = 50;
/// And at least so many bytes: v1 charges 64 pages per CPU ahead, so that no figure is finer.
const TOLERANCE_BYTES_MIN: u64 = 512 << 10;
/// So many parts of the limit are left to the container when the helper is not to run into it.
const LIMIT_SLACK_PARTS: u64 = 200;
/// And at least so many bytes.
const LIMIT_SLACK_BYTES_MIN: u64 = 256 << 10;
/// So many parts of the machine's memory are never taken: 5 %.
const MACHINE_RESERVE_PARTS: u64 = 20;
/// From here on, in percent of the limit, a group that dies together would die with the helper.
const DIES_TOGETHER_PERCENT: u64 = 95;

/// How far below the level counts as at the level.
pub(super) fn tolerance(level: u64) -> u64 {
    (level / TOLERANCE_PARTS).max(TOLERANCE_BYTES_MIN)
}

/// What a plan is decided by, all in bytes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Figures {
    pub(super) usage: u64,
    pub(super) limit: Option<u64>,
    pub(super) dies_together: bool,
    pub(super) machine: MachineMemory,
}

impl Figures {
    pub(super) fn level(&self, level: Level) -> Result<u64, Refusal> {
        match (level, self.limit) {
            (Level::Bytes(bytes), _) => Ok(bytes),
            (Level::LimitBasisPoints(points), Some(limit)) => {
                let bytes = u128::from(limit) * u128::from(points) / 10_000;
                Ok(u64::try_from(bytes).unwrap_or(u64::MAX))
            }
            (Level::LimitBasisPoints(points), None) => Err(Refusal::NotPossible(format!(
                "{} of what? the container has no memory limit: write a size",
                percent(points)
            ))),
        }
    }

    /// What the helper goes for.
    pub(super) fn aim(&self, level: u64, victim: OomVictim) -> u64 {
        match (victim, self.limit) {
            (OomVictim::Helper, Some(limit)) => {
                let slack = (limit / LIMIT_SLACK_PARTS).max(LIMIT_SLACK_BYTES_MIN);
                level.min(limit.saturating_sub(slack))
            }
            _ => level,
        }
    }

    pub(super) fn check(&self, level: u64, victim: OomVictim) -> Result<(), Refusal> {
        let refuse = |why: String| Err(Refusal::NotPossible(why));
        if self.usage >= level {
            return refuse(format!(
                "the container uses {} already, and {} is asked",
                size(self.usage),
                size(level)
            ));
        }
        if let (OomVictim::Helper, Some(limit)) = (victim, self.limit) {
            if level > limit {
                return refuse(format!(
                    "{} is more than the container's limit of {}, and the helper would be killed \
                     at that: write `oomVictim: kernel` to run out of memory on purpose",
                    size(level),
                    size(limit)
                ));
            }
            if self.dies_together && level > limit / 100 * DIES_TOGETHER_PERCENT {
                return refuse(format!(
                    "{} is more than {DIES_TOGETHER_PERCENT}% of the limit of {}, and the \
                     container's memory.oom.group is 1: when memory runs out, the kernel kills the \
                     whole container and not only the helper; ask for less, or write \
                     `oomVictim: kernel`",
                    size(level),
                    size(limit)
                ));
            }
        }
        // More than the limit is never charged, whatever the level.
        let taken = level.min(self.limit.unwrap_or(u64::MAX)).saturating_sub(self.usage);
        let reserve = self.machine.total / MACHINE_RESERVE_PARTS;
        let to_give = self.machine.available.saturating_sub(reserve);
        if taken > to_give {
            return refuse(format!(
                "{} more would be needed, and the node has {} available, of which {} are kept",
                size(taken),
                size(self.machine.available),
                size(reserve)
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn figures() -> Figures {
        let machine = MachineMemory { total: 4000 * MIB, available: 1000 * MIB };
        Figures { usage: 10 * MIB, limit: Some(256 * MIB), dies_together: false, machine }
    }

    fn refusal(figures: Figures, level: u64, victim: OomVictim) -> String {
        figures.check(level * MIB, victim).expect_err("refused").to_string()
    }

    #[test]
    fn a_percentage_is_of_the_limit() {
        let level = figures().level(Level::LimitBasisPoints(8_000)).unwrap();
        assert_eq!(level, 256 * MIB * 8 / 10);
        let unlimited = Figures { limit: None, ..figures() };
        let error = unlimited.level(Level::LimitBasisPoints(8_000)).expect_err("no limit");
        assert!(error.to_string().contains("write a size"), "{error}");
    }

    #[test]
    fn refusals_have_both_figures() {
        let text = refusal(figures(), 10, OomVictim::Helper);
        assert!(text.contains("uses 10MiB already"), "{text}");
        let text = refusal(figures(), 300, OomVictim::Helper);
        assert!(text.contains("300MiB") && text.contains("256MiB"), "{text}");
        figures().check(300 * MIB, OomVictim::Kernel).unwrap();
        let unlimited = Figures { limit: None, ..figures() };
        unlimited.check(800 * MIB, OomVictim::Helper).unwrap();
        let text = refusal(unlimited, 811, OomVictim::Kernel);
        assert!(text.contains("801MiB") && text.contains("200MiB"), "{text}");
    }

    #[test]
    fn a_group_that_dies_together_is_not_brought_near_its_limit() {
        let together = Figures { dies_together: true, ..figures() };
        together.check(243 * MIB, OomVictim::Helper).unwrap();
        let text = refusal(together, 250, OomVictim::Helper);
        assert!(text.contains("memory.oom.group"), "{text}");
        together.check(250 * MIB, OomVictim::Kernel).unwrap();
    }

    #[test]
    fn the_helper_stops_short_of_the_limit_within_the_tolerance() {
        let level = 256 * MIB;
        let aim = figures().aim(level, OomVictim::Helper);
        assert!(aim < level && aim + tolerance(level) > level);
        assert_eq!(figures().aim(300 * MIB, OomVictim::Kernel), 300 * MIB);
        assert_eq!(figures().aim(100 * MIB, OomVictim::Helper), 100 * MIB);
    }
}
