//! A look at pods: how many there are, how many are ready, how often each was restarted, and conditions. Who matches
//! is found anew at every attempt; it is no request to any of them, and says nothing of what they answer.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use faultline_probe::{Failure, FailureKind};
use faultline_proto::probe::Bound;

use crate::{
    experiment::{PodsProbe, Selector, Whose},
    place::{Place, PodState, Seen},
    plan::matches,
};

/// What is looked at, with all that it takes to look.
#[derive(Debug)]
pub struct PodsAttempt {
    place: Arc<Place>,
    selector: Selector,
    asked: PodsProbe,
    /// How often each pod had been restarted at the first attempt, by uid.
    first: Mutex<Option<BTreeMap<String, u32>>>,
}

impl PodsAttempt {
    /// Makes ready what a probe looks at. `targets` are those of its experiment.
    ///
    /// # Errors
    /// When it names none of them.
    pub fn new(
        asked: &PodsProbe,
        place: &Arc<Place>,
        targets: &BTreeMap<String, Selector>,
    ) -> Result<Self, String> {
        let selector = match &asked.whose {
            Whose::Matching(selector) => selector.as_ref(),
            Whose::Target(name) => targets
                .get(&name.value)
                .ok_or_else(|| format!("there is no target `{}`", name.value))?,
        };
        Ok(Self {
            place: Arc::clone(place),
            selector: selector.clone(),
            asked: asked.clone(),
            first: Mutex::default(),
        })
    }

    /// Looks once. The value is how many are ready.
    pub(super) fn look(&self) -> Result<Option<String>, Failure> {
        // Whatever was seen before: a cluster that tells nothing now is no cluster in which all is as it was.
        let told = self.place.look_at_states(&mut Seen::default());
        let told = told.map_err(|why| Failure::new(FailureKind::Other, why.to_string()))?;
        let mut pods = told.unwrap_or_default();
        let mut first = self.first.lock().unwrap_or_else(PoisonError::into_inner);
        let first = first.get_or_insert_with(|| {
            pods.iter().map(|state| (state.pod.uid.clone(), state.restarts)).collect()
        });
        for state in &mut pods {
            let before = first.get(&state.pod.uid).copied().unwrap_or(0);
            state.restarts = state.restarts.saturating_sub(before);
        }
        pods.retain(|state| matches(&self.selector, &state.pod));
        judge(&self.asked, &pods)
    }
}

/// Compares pods with what is asked of them; their restarts are those since the first attempt.
fn judge(asked: &PodsProbe, pods: &[PodState]) -> Result<Option<String>, Failure> {
    let (count, ready) = (pods.len(), pods.iter().filter(|state| state.ready).count());
    let mut wrong = Vec::new();
    if let Some(bound) = beyond(asked.ready, ready) {
        wrong.push(format!("ready {ready} of {count}, {bound} is asked"));
    }
    if let Some(bound) = beyond(asked.count, count) {
        wrong.push(format!("there are {count}, {bound} is asked"));
    }
    if let Some(bound) = asked.restarts {
        let within = |state: &&PodState| bound.contains(f64::from(state.restarts));
        let first = pods.iter().find(|state| !within(state));
        wrong.extend(first.map(|state| {
            let (pod, restarts) = (state.pod.target(), state.restarts);
            format!("restarts of {pod}: {restarts}, {bound} is asked")
        }));
        if pods.is_empty() {
            wrong.push("nobody is there whose restarts could be counted".into());
        }
    }
    if asked.conditions.types().next().is_some() {
        let first = pods.iter().find_map(|state| {
            let why = asked.conditions.first_wrong(&state.conditions)?;
            Some(format!("{}: {why}", state.pod.target()))
        });
        wrong.extend(first);
        if pods.is_empty() {
            wrong.push("nobody is there who could have a condition".into());
        }
    }
    if wrong.is_empty() {
        return Ok(Some(ready.to_string()));
    }
    Err(Failure::new(FailureKind::Mismatch, wrong.join("; ")))
}

/// The bound, if a number of pods is not within it.
fn beyond(bound: Option<Bound>, pods: usize) -> Option<Bound> {
    let pods = u32::try_from(pods).unwrap_or(u32::MAX);
    bound.filter(|bound| !bound.contains(f64::from(pods)))
}

#[cfg(test)]
mod tests {
    use faultline_proto::yaml::Span;

    use super::*;
    use crate::{
        experiment::{ConditionStatus, Conditions},
        place::Pod,
    };

    fn pods(states: &[(bool, u32)]) -> Vec<PodState> {
        let state = |(index, (ready, restarts)): (usize, &(bool, u32))| PodState {
            pod: Pod {
                namespace: "shop".into(),
                name: format!("api-{index}"),
                uid: index.to_string(),
                node: "node1".into(),
                ..Pod::default()
            },
            ready: *ready,
            restarts: *restarts,
            terminating: false,
            conditions: [("Ready".into(), if *ready { "True" } else { "False" }.into())].into(),
        };
        states.iter().enumerate().map(state).collect()
    }

    fn asked(ready: &str, restarts: &str, count: &str) -> PodsProbe {
        let bound = |text: &str| Bound::parse(text).ok();
        PodsProbe {
            whose: Whose::Matching(Box::default()),
            ready: bound(ready),
            restarts: bound(restarts),
            count: bound(count),
            conditions: Conditions::default(),
            span: Span::default(),
        }
    }

    #[test]
    fn every_bound_that_is_given_must_hold() {
        let three = pods(&[(true, 0), (false, 2), (true, 1)]);
        let look = |ready, restarts, count| judge(&asked(ready, restarts, count), &three);
        assert_eq!(look(">= 2", "<= 2", "== 3"), Ok(Some("2".into())));
        for (ready, restarts, count, said) in [
            (">= 3", "", "", "ready 2 of 3, >= 3 is asked"),
            ("", "<= 1", "", "restarts of shop/api-1: 2, <= 1 is asked"),
            ("", "", "< 3", "there are 3, < 3 is asked"),
            (">= 3", "", "< 3", "ready 2 of 3, >= 3 is asked; there are 3, < 3 is asked"),
        ] {
            let failure = look(ready, restarts, count).expect_err(said);
            assert_eq!((failure.kind, failure.text.as_str()), (FailureKind::Mismatch, said));
        }
    }

    #[test]
    fn a_condition_must_hold_of_every_pod_and_of_at_least_one() {
        let ready =
            |status| PodsProbe { conditions: Conditions::of("Ready", status), ..asked("", "", "") };
        let (all, some) = (pods(&[(true, 0), (true, 0)]), pods(&[(true, 0), (false, 0)]));
        assert_eq!(judge(&ready(ConditionStatus::True), &all), Ok(Some("2".into())));
        let failure = judge(&ready(ConditionStatus::True), &some).expect_err("one is not");
        assert_eq!(failure.text, "shop/api-1: Ready is False, True is asked");
        assert!(judge(&ready(ConditionStatus::False), &some).is_err());
        assert!(judge(&ready(ConditionStatus::True), &[]).is_err());
        let other = PodsProbe {
            conditions: Conditions::of("Initialized", ConditionStatus::True),
            ..asked("", "", "")
        };
        assert!(judge(&other, &all).is_err(), "what nobody tells is not so");
    }

    #[test]
    fn of_nobody_it_is_known_how_many_there_are_and_not_how_often_they_were_restarted() {
        assert_eq!(judge(&asked("", "", "== 0"), &[]), Ok(Some("0".into())));
        assert!(judge(&asked(">= 1", "", ""), &[]).is_err());
        assert!(judge(&asked("", "<= 1", ""), &[]).is_err());
    }
}
