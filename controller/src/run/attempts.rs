//! What was tried on targets that came and has not worked yet: how often, when it is tried again, and
//! whether it is given up. Pure, but for the clock.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use crate::plan::PlannedInjection;

/// How long after an attempt that failed the next one is made.
const RETRY_AFTER: Duration = Duration::from_millis(500);
/// Attempts at one thing.
const ATTEMPTS_MAX: u32 = 6;
/// What is under way for so long when its step ends counts as not done.
const LATE_AFTER: Duration = Duration::from_secs(1);

/// Attempts by what they are known by.
#[derive(Debug, Default)]
pub(super) struct Attempts(BTreeMap<String, Attempt>);

#[derive(Debug)]
struct Attempt {
    /// What it is to come to.
    planned: PlannedInjection,
    count: u32,
    began: Instant,
    state: State,
}

#[derive(Debug)]
enum State {
    UnderWay,
    /// It failed, for this reason.
    Retry {
        at: Instant,
        why: String,
    },
    /// It failed for good, which has been told.
    GivenUp,
}

impl Attempts {
    /// Whether it is time to try something. It then counts as being under way.
    pub(super) fn begin(&mut self, key: &str, planned: &PlannedInjection) -> bool {
        let now = Instant::now();
        let known = self.0.get(key);
        let count = match known.map(|known| &known.state) {
            Some(State::UnderWay) => return false,
            // Another thing than what failed is another attempt.
            _ if known.is_some_and(|known| known.planned != *planned) => 1,
            Some(State::Retry { at, .. }) if *at <= now => known.map_or(1, |known| known.count + 1),
            Some(State::Retry { .. } | State::GivenUp) => return false,
            None => 1,
        };
        let planned = planned.clone();
        let attempt = Attempt { planned, count, began: now, state: State::UnderWay };
        self.0.insert(key.into(), attempt);
        true
    }

    /// It worked.
    pub(super) fn succeeded(&mut self, key: &str) {
        self.0.remove(key);
    }

    /// It did not work. Returns what is to be told of it if it is not tried again: because it has been
    /// tried often enough, or it is said that it would be of no use.
    pub(super) fn failed(&mut self, key: &str, why: String, of_use: bool) -> Option<String> {
        let attempt = self.0.get_mut(key)?;
        if of_use && attempt.count < ATTEMPTS_MAX {
            attempt.state = State::Retry { at: Instant::now() + RETRY_AFTER, why };
            return None;
        }
        attempt.state = State::GivenUp;
        Some(sentence(attempt, &why))
    }

    /// Forgets what was tried on pods that are not there any more.
    pub(super) fn retain(&mut self, is_there: impl Fn(&str) -> bool) {
        let under_way = |attempt: &Attempt| matches!(attempt.state, State::UnderWay);
        self.0.retain(|_, attempt| under_way(attempt) || is_there(attempt.planned.target.uid()));
    }

    /// What is to be told at the end of a step.
    pub(super) fn into_failures(self) -> Vec<String> {
        let told = |attempt: &Attempt| match &attempt.state {
            State::Retry { why, .. } => Some(sentence(attempt, why)),
            State::UnderWay if attempt.began.elapsed() >= LATE_AFTER => {
                Some(sentence(attempt, "its agent had not answered when the step ended"))
            }
            State::UnderWay | State::GivenUp => None,
        };
        self.0.values().filter_map(told).collect()
    }
}

fn sentence(attempt: &Attempt, why: &str) -> String {
    let PlannedInjection { fault, target, node, .. } = &attempt.planned;
    format!("the {} of {target} on {node} did not follow its targets: {why}", fault.kind())
}

#[cfg(test)]
mod tests {
    use super::{super::tests::planned, *};

    #[test]
    fn what_failed_is_tried_again_but_not_at_once_and_not_for_ever() {
        let mut attempts = Attempts::default();
        let item = planned("1");
        assert!(attempts.begin("a", &item));
        assert!(!attempts.begin("a", &item), "it is under way");
        for count in 1..ATTEMPTS_MAX {
            assert_eq!(attempts.failed("a", "not yet".into(), true), None, "{count}");
            assert!(!attempts.begin("a", &item), "not at once");
            if let Some(attempt) = attempts.0.get_mut("a") {
                attempt.state = State::Retry { at: Instant::now(), why: "not yet".into() };
            }
            assert!(attempts.begin("a", &item));
        }
        let told = attempts.failed("a", "not yet".into(), true).expect("it is given up");
        assert!(told.ends_with("not yet") && told.contains("shop/api-1 on node1"), "{told}");
        assert!(!attempts.begin("a", &item));
        assert!(attempts.begin("a", &planned("2")), "another thing is another attempt");
        assert_eq!(attempts.into_failures(), Vec::<String>::new());
    }

    #[test]
    fn what_is_of_no_use_is_given_up_and_what_was_to_be_tried_again_is_told_in_the_end() {
        let mut attempts = Attempts::default();
        assert!(attempts.begin("a", &planned("1")) && attempts.begin("b", &planned("2")));
        assert!(attempts.failed("a", "never".into(), false).is_some());
        assert!(attempts.failed("b", "busy".into(), true).is_none());
        assert!(attempts.into_failures()[0].ends_with("busy"));
    }
}
