//! Whether effects ended in time: what was seen from outside against what the leases said.

use std::time::Duration;

use faultline_agent::failpoint::Step;
use faultline_proto::{
    boottime::BootTime,
    fault::{EndedBy, Fault, Observable},
};

use super::{
    attack::Struck,
    draw::{Drawn, PODS, Plan},
    measure::Seen,
    script::Known,
};

/// How long after its lease an effect may last that the kernel ends.
const LATE_KERNEL_MAX: Duration = Duration::from_millis(100);
/// How long after its lease an effect may last that a holder ends.
const LATE_HOLDER_MAX: Duration = Duration::from_millis(500);
/// How long before its lease an effect may end where nothing else ends it.
const EARLY_MAX: Duration = Duration::from_millis(100);

/// What a round is judged by.
pub(super) struct Case<'a> {
    /// What was drawn.
    pub(super) plan: &'a Plan,
    /// What the controller knew of each fault.
    pub(super) known: &'a [Known],
    /// When each fault had to be over; `None` if it was never committed.
    pub(super) limits: &'a [Option<BootTime>],
    /// What was done.
    pub(super) struck: &'a Struck,
    /// Somebody died at a step that was armed.
    pub(super) died: bool,
    /// When the agents answered again.
    pub(super) back: BootTime,
    /// How long the watch was held up: so long others may have been held up too.
    pub(super) held_up: Duration,
    /// What the agents say of the faults, for a person.
    pub(super) said: &'a [String],
}

/// How late an effect ended, in microseconds, by how it is seen and who ends it.
pub(super) type Figure = ((Observable, EndedBy), i64);

/// How late effects ended, and which of them too late or too early.
pub(super) fn judge(case: &Case<'_>, seen: &[Seen]) -> (Vec<Figure>, Vec<String>) {
    let (mut figures, mut problems) = (Vec::new(), Vec::new());
    for seen in seen {
        let causes = case.causes(seen);
        let limit = causes.iter().filter_map(|(index, _)| case.limits[*index]).max();
        let Some(limit) = limit else {
            let problem = "seen of a fault that was never committed";
            problems.push(case.tell(seen, problem));
            continue;
        };
        let by_holder = causes.iter().any(|(_, ended_by)| *ended_by == EndedBy::Holder);
        let (ended_by, max) = if by_holder {
            (EndedBy::Holder, LATE_HOLDER_MAX)
        } else {
            (EndedBy::Kernel, LATE_KERNEL_MAX)
        };
        // What only the agent could end, with its holder killed, ends when it is back.
        let holder_died = case.plan.action.kills_holders()
            || case.died && case.plan.step.is_some_and(Step::is_of_helper);
        let latest = if by_holder && holder_died { limit.max(case.back) } else { limit };
        if seen.last.since(latest) > max + case.held_up {
            let late = signed_us(seen.last, latest);
            problems.push(case.tell(seen, &format!("over {late} us after its lease")));
        }
        if !case.ends_by_itself(seen, causes[0].0, ended_by, limit) {
            continue;
        }
        figures.push(((seen.by, ended_by), signed_us(seen.last, limit)));
        if let Some(over) = seen.over.filter(|over| limit.since(*over) > EARLY_MAX + case.held_up) {
            let early = -signed_us(over, limit);
            problems.push(case.tell(seen, &format!("over {early} us before its lease")));
        }
    }
    (figures, problems)
}

impl Case<'_> {
    /// The faults that can be seen there so, and who ends each.
    fn causes(&self, seen: &Seen) -> Vec<(usize, EndedBy)> {
        let faults = self.plan.faults.iter().enumerate();
        let acts = |(index, drawn): (usize, &Drawn)| {
            // A fault that was changed may be of the one or of the other effect.
            let amended = drawn.amend.iter().map(|(_, fault)| fault);
            let effects = std::iter::once(&drawn.fault).chain(amended);
            let mut effects = effects.filter_map(Fault::lasting_effect);
            let effect = effects.find(|effect| effect.seen_by == seen.by)?;
            is_near(drawn, seen).then_some((index, effect.ended_by))
        };
        faults.filter_map(acts).filter(|(index, _)| self.limits[*index].is_some()).collect()
    }

    /// Whether exactly one fault was near that is on the same (the pod's network, or its container), all
    /// that was answered about it is known, and nothing but its lease or its deadline could end its effect.
    fn ends_by_itself(
        &self,
        seen: &Seen,
        cause: usize,
        ended_by: EndedBy,
        limit: BootTime,
    ) -> bool {
        let scope = self.plan.faults[cause].scope;
        let near = self.plan.faults.iter().zip(self.known);
        let near = near.filter(|(drawn, known)| known.committing && is_near(drawn, seen));
        let mut near = near.filter(|(drawn, _)| drawn.scope == scope);
        let (Some((_, known)), None) = (near.next(), near.next()) else { return false };
        let is_exact = known.open == 0 && known.lease_end.is_some() && !known.amended;
        let before_strike = limit < self.struck.began;
        is_exact
            && !self.died
            && (before_strike || self.plan.action.leaves_it_to_the_lease(ended_by))
    }

    fn tell(&self, seen: &Seen, what: &str) -> String {
        let Seen { spot, by, first, last, over, what: watched } = seen;
        let ms = |time: BootTime| format!("{:.1}", millis(signed_us(time, self.struck.began)));
        let over = over.map_or_else(|| "not".to_owned(), ms);
        let mut lines = vec![
            format!(
                "an effect on {by:?} of node {} pod {} was {what}; watched: {watched}",
                spot.node, spot.pod
            ),
            format!(
                "in ms from the strike: seen from {} to {}, over {over}, strike complete {}, agents \
                 back {}; held up {:?}",
                ms(*first),
                ms(*last),
                ms(self.struck.at),
                ms(self.back),
                self.held_up
            ),
        ];
        for ((drawn, known), limit) in self.plan.faults.iter().zip(self.known).zip(self.limits) {
            let limit = limit.map_or_else(|| "none".to_owned(), ms);
            lines.push(format!("{}: limit {limit}, {known:?}", drawn.id));
        }
        lines.extend(self.said.iter().map(|status| format!("said: {status}")));
        lines.join("\n    ")
    }
}

/// Whether a fault is on the pod that something was seen of, or on the other end of its traffic.
fn is_near(drawn: &Drawn, seen: &Seen) -> bool {
    let neighbour = (seen.spot.pod + 1) % PODS;
    let is_neighbour = seen.by == Observable::Traffic && drawn.spot.pod == neighbour;
    drawn.spot.node == seen.spot.node && (drawn.spot.pod == seen.spot.pod || is_neighbour)
}

fn signed_us(a: BootTime, b: BootTime) -> i64 {
    let us = |time: BootTime| i64::try_from(time.as_nanos() / 1000).unwrap_or(i64::MAX);
    us(a) - us(b)
}

/// For a person: microseconds as milliseconds.
pub(super) fn millis(micros: i64) -> f64 {
    // Hours of microseconds fit.
    f64::from(i32::try_from(micros).unwrap_or(i32::MAX)) / 1e3
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::torture::{action::Action, draw::Spot};

    /// In milliseconds: the lease ends, the effect is seen last, and it is seen to be over.
    fn problems(action: Action, [limit, last, over]: [u64; 3]) -> Vec<String> {
        let at = |ms: u64| BootTime::from_nanos(ms * 1_000_000);
        let addresses = vec![vec![Vec::new(); PODS]; 2];
        let plans = (0..).filter_map(|number| Plan::draw(1, number, &addresses).ok());
        let mut plans = plans.filter(|plan| plan.faults.len() == 1);
        let by_kernel = |plan: &Plan| {
            let effect = plan.faults[0].fault.lasting_effect();
            effect.is_some_and(|effect| effect.ended_by == EndedBy::Kernel)
        };
        let mut plan = plans.find(by_kernel).expect("a plan");
        plan.action = action;
        plan.faults[0].amend = None;
        let lease_end = Some(at(limit));
        let known = Known { committing: true, lease_end, ..Known::default() };
        let case = Case {
            plan: &plan,
            known: &[known],
            limits: &[lease_end],
            struck: &Struck::begin(at(0)),
            died: false,
            back: at(0),
            held_up: Duration::ZERO,
            said: &[],
        };
        let spot: Spot = plan.faults[0].spot;
        let (by, what) = (Observable::Traffic, String::new());
        let seen = Seen { spot, by, first: at(1), last: at(last), over: Some(at(over)), what };
        judge(&case, &[seen]).1
    }

    #[test]
    fn an_effect_may_end_neither_late_nor_early() {
        assert_eq!(problems(Action::KillController, [1000, 1050, 1054]), Vec::<String>::new());
        assert!(
            problems(Action::KillController, [1000, 1101, 1105])[0].contains("after its lease")
        );
        assert!(problems(Action::KillController, [1000, 890, 894])[0].contains("before its lease"));
        let reverted = problems(Action::Revert, [1000, 890, 894]);
        assert_eq!(reverted, Vec::<String>::new(), "it was asked for");
    }
}
