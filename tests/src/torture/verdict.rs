//! Whether effects ended in time: what was seen from outside against what the leases said.

use std::time::Duration;

use faultline_proto::{boottime::BootTime, fault::Fault};

use super::{
    action::Action,
    attack::Struck,
    draw::{PODS, Plan},
    order::Known,
};

/// How long after its lease an effect may last that the kernel ends.
const LATE_KERNEL_MAX: Duration = Duration::from_millis(100);
/// How long after its lease an effect may last that a holder ends.
const LATE_HOLDER_MAX: Duration = Duration::from_millis(500);

/// An effect that was seen.
#[derive(Debug)]
pub(super) struct Effect {
    /// Whether the kernel ends it; otherwise a holder does.
    by_kernel: bool,
    /// When it was seen last.
    last: BootTime,
    /// When it had to be over.
    limit: Option<BootTime>,
    /// The limit is what an answer said, of the one fault that acts there.
    exact: bool,
}

impl Effect {
    /// Puts together what was seen and what may have caused it.
    pub(super) fn of(
        plan: &Plan,
        known: &[Known],
        limits: &[Option<BootTime>],
        seen: &[(usize, BootTime)],
    ) -> Vec<Self> {
        let one = |(index, last): &(usize, BootTime)| {
            let fault = &plan.faults[*index];
            let by_kernel = matches!(fault.fault, Fault::Partition(_));
            let neighbour = (fault.pod + 1) % PODS;
            let causes: Vec<usize> = (0..plan.faults.len())
                .filter(|i| {
                    let other = &plan.faults[*i];
                    let same_pod = other.pod == fault.pod;
                    match &other.fault {
                        Fault::Partition(_) => by_kernel && (same_pod || other.pod == neighbour),
                        Fault::Kill(_) => !by_kernel && same_pod,
                        Fault::MemoryPressure(_) => false,
                    }
                })
                .filter(|i| limits[*i].is_some())
                .collect();
            let exact = match causes.as_slice() {
                [only] => {
                    let is_known = known[*only].open == 0 && known[*only].lease_end.is_some();
                    // What it was changed into may not be what is watched.
                    is_known && plan.faults[*only].amended.is_none()
                }
                _ => false,
            };
            let limit = causes.iter().filter_map(|i| limits[*i]).max();
            Self { by_kernel, last: *last, limit, exact }
        };
        seen.iter().map(one).collect()
    }
}

/// How late effects ended, and which of them too late.
pub(super) fn late(
    plan: &Plan,
    effects: &[Effect],
    struck: &Struck,
    back: BootTime,
) -> (Vec<(&'static str, i64)>, Vec<String>) {
    let (mut figures, mut problems) = (Vec::new(), Vec::new());
    for effect in effects {
        let Some(limit) = effect.limit else {
            problems.push("an effect was seen of a fault that was never committed".into());
            continue;
        };
        let late = signed_us(effect.last, limit);
        let (what, max) = if effect.by_kernel {
            ("partition", LATE_KERNEL_MAX)
        } else {
            ("stopped process", LATE_HOLDER_MAX)
        };
        // What only the agent could end, with its holder killed, ends when it is back.
        let orphaned = !effect.by_kernel
            && matches!(plan.action, Action::KillHelpers | Action::KillAgentAndHelpers);
        let limit = if orphaned { limit.max(back) } else { limit };
        if effect.last.since(limit) > max {
            problems.push(format!(
                "a {what} ended {} us after its lease",
                signed_us(effect.last, limit)
            ));
        }
        let before_restart = plan.action.ends_agent() && limit < struck.at;
        if effect.exact && (plan.action.leaves_it_to_the_lease() || before_restart) {
            figures.push((what, late));
        }
    }
    (figures, problems)
}

fn signed_us(a: BootTime, b: BootTime) -> i64 {
    let us = |time: BootTime| i64::try_from(time.as_nanos() / 1000).unwrap_or(i64::MAX);
    us(a) - us(b)
}
