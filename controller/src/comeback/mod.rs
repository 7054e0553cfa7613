//! Pods of targets that are lost and come back: when each was lost, when another one was there in its place, when that
//! had a node and when it was ready. Pure: it is shown the pods that there are, again and again, and whatever it tells
//! lies between two looks.
//!
//! A pod is lost when it is not ready, its container was started again, it is being deleted, or it has gone. Whoever
//! comes under its name takes its place, or else a new pod of the same owner.

#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{
    experiment::Selector,
    place::{Pod, PodState},
    plan::matches,
};

/// Losses of one run that are kept one by one.
const LOSSES_MAX: usize = 1_000;
/// The labels by which pods of one owner and different templates are told apart (`Deployment` and `ReplicaSet`; the
/// others).
const TEMPLATE_LABELS: [&str; 2] = ["pod-template-hash", "controller-revision-hash"];

/// When something was first seen to be so: at most `uncertainty` after it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// Since the run began.
    pub at: Duration,
    /// From the look before.
    pub uncertainty: Duration,
}

/// How a pod was lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Loss {
    /// It is there, and not ready.
    NotReady,
    /// One of its containers was started again.
    Restarted,
    /// It is being deleted.
    Deleted,
    /// It is not there any more.
    Gone,
}

/// One time that a pod was lost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Comeback {
    /// The targets of the experiment that it belongs to.
    pub targets: Vec<String>,
    /// Who is there now: the pod itself, or whoever took its place.
    pub pod: Pod,
    /// Whose place that took.
    pub instead_of: Option<Pod>,
    /// How it was lost: the worst of what was seen.
    pub loss: Loss,
    /// When.
    pub lost: Moment,
    /// When somebody was there in its place; `None` where that is itself, or nobody is.
    pub recreated: Option<Moment>,
    /// When that had a node.
    pub scheduled: Option<Moment>,
    /// When whoever is there was ready.
    pub ready: Option<Moment>,
    /// How often containers were started again since the first injection, of the one that was lost or the one that
    /// came, whichever is more.
    pub restarts: u32,
}

impl Comeback {
    /// Whether somebody has to take its place.
    pub fn needs_another(&self) -> bool {
        matches!(self.loss, Loss::Deleted | Loss::Gone)
    }

    fn is_vacant(&self) -> bool {
        self.needs_another() && self.recreated.is_none()
    }

    /// From the loss until then, and what the truth is within of it.
    pub fn after(&self, moment: Option<Moment>) -> Option<(Duration, Duration)> {
        let moment = moment?;
        let off = self.lost.uncertainty.max(moment.uncertainty);
        Some((moment.at.saturating_sub(self.lost.at), off))
    }
}

/// The pods of an experiment's targets, from look to look.
#[derive(Debug, Default)]
pub struct Comebacks {
    targets: BTreeMap<String, Selector>,
    /// When the last look was that saw them; `None`: there was none.
    looked: Option<Duration>,
    /// Losses count from here on.
    counts: bool,
    known: BTreeMap<String, Known>,
    all: Vec<Comeback>,
    /// Losses beyond those that are kept.
    unlisted: u64,
}

/// A pod that is there.
#[derive(Debug, Clone)]
struct Known {
    state: PodState,
    /// How often it had been restarted when losses began to count.
    restarts_before: u32,
    /// Its place among the losses, while it has not come back.
    open: Option<usize>,
    /// When it came, if it is new and has taken nobody's place.
    newcomer: Option<[Option<Moment>; 3]>,
}

impl Comebacks {
    /// Of the pods that these match, whatever their modes.
    pub fn new(targets: &BTreeMap<String, Selector>) -> Self {
        Self { targets: targets.clone(), ..Self::default() }
    }

    /// From now on losses count.
    pub fn begin(&mut self) {
        self.counts = true;
        for known in self.known.values_mut() {
            known.restarts_before = known.state.restarts;
            known.newcomer = None;
        }
    }

    /// Nothing has changed since the last look.
    pub fn unchanged(&mut self, at: Duration) {
        self.looked = Some(at);
    }

    /// Every loss, in order.
    pub fn all(&self) -> &[Comeback] {
        &self.all
    }

    /// Losses that are not in there, because there were too many.
    pub fn unlisted(&self) -> u64 {
        self.unlisted
    }

    /// Takes in the pods that there are now. Returns which losses there is something new of.
    pub fn look(&mut self, at: Duration, states: Vec<PodState>) -> Vec<usize> {
        let now = Moment { at, uncertainty: at.saturating_sub(self.looked.unwrap_or(at)) };
        let is_first = self.looked.replace(at).is_none();
        let meant = states.into_iter().filter(|state| !self.targets_of(&state.pod).is_empty());
        let mut states: BTreeMap<String, PodState> =
            meant.map(|state| (state.pod.uid.clone(), state)).collect();
        let mut changed = Vec::new();
        for uid in self.known.keys().cloned().collect::<Vec<_>>() {
            let state = states.remove(&uid);
            changed.extend(self.known_now(&uid, state, now));
        }
        let mut new: Vec<PodState> = states.into_values().collect();
        new.sort_by(|a, b| (&a.pod.namespace, &a.pod.name).cmp(&(&b.pod.namespace, &b.pod.name)));
        for state in new {
            changed.extend(self.came(state, now, is_first));
        }
        changed.sort_unstable();
        changed.dedup();
        changed
    }

    fn targets_of(&self, pod: &Pod) -> Vec<String> {
        let meant = self.targets.iter().filter(|(_, selector)| matches(selector, pod));
        meant.map(|(name, _)| name.clone()).collect()
    }

    /// A pod that was there, as it is now; `None`: it has gone.
    fn known_now(&mut self, uid: &str, state: Option<PodState>, now: Moment) -> Option<usize> {
        let Some(state) = state else {
            let known = self.known.remove(uid)?;
            return self.lose(known, Loss::Gone, now).1;
        };
        let mut known = self.known.get(uid)?.clone();
        let before = std::mem::replace(&mut known.state, state);
        let state = &known.state;
        let loss = if state.terminating && !before.terminating {
            Some(Loss::Deleted)
        } else if state.restarts > before.restarts {
            Some(Loss::Restarted)
        } else if !state.ready && before.ready {
            Some(Loss::NotReady)
        } else {
            None
        };
        if let Some([_, scheduled, ready]) = &mut known.newcomer {
            seen(state, scheduled, ready, now);
        }
        let (mut known, mut changed) = match loss {
            Some(loss) => self.lose(known, loss, now),
            None => (known, None),
        };
        if let Some(index) = known.open
            && let Some(open) = self.all.get_mut(index).filter(|open| open.pod.uid == uid)
        {
            let was = open.clone();
            open.restarts =
                open.restarts.max(known.state.restarts.saturating_sub(known.restarts_before));
            if !open.is_vacant() {
                let mut ignored = Some(now);
                let scheduled =
                    if open.recreated.is_some() { &mut open.scheduled } else { &mut ignored };
                seen(&known.state, scheduled, &mut open.ready, now);
                if open.ready.is_some() {
                    known.open = None;
                }
            }
            changed = changed.or((*open != was).then_some(index));
        }
        self.known.insert(uid.to_owned(), known);
        changed
    }

    /// A pod is lost, or lost for good that was lost already.
    fn lose(&mut self, mut known: Known, loss: Loss, now: Moment) -> (Known, Option<usize>) {
        if !self.counts {
            return (known, None);
        }
        let pod = known.state.pod.clone();
        let newcomer = known.newcomer.take();
        if let Some(open) = known.open.and_then(|index| self.all.get_mut(index)) {
            if open.pod.uid != pod.uid {
                // Somebody has taken its place already.
                return (known, None);
            }
            let is_worse = matches!(loss, Loss::Deleted | Loss::Gone);
            if is_worse && open.recreated.is_some() {
                // Whoever had taken the place is lost before it was ready: the place is vacant again.
                (open.recreated, open.scheduled) = (None, None);
                open.instead_of = None;
            }
            if is_worse && open.loss != Loss::Deleted || open.loss == Loss::NotReady {
                open.loss = loss;
            }
            let index = known.open;
            self.replace_by_newcomer(index);
            return (known, index);
        }
        if self.all.len() >= LOSSES_MAX {
            self.unlisted += 1;
            return (known, None);
        }
        // Somebody who was never ready and took nobody's place is nobody's loss.
        if newcomer.is_some_and(|[_, _, ready]| ready.is_none()) {
            return (known, None);
        }
        self.all.push(Comeback {
            targets: self.targets_of(&pod),
            pod,
            instead_of: None,
            loss,
            lost: now,
            recreated: None,
            scheduled: None,
            ready: None,
            restarts: known.state.restarts.saturating_sub(known.restarts_before),
        });
        known.open = Some(self.all.len() - 1);
        let open = known.open;
        self.replace_by_newcomer(open);
        (known, open)
    }

    /// In a rolling update the new pod is there before the old one is deleted.
    fn replace_by_newcomer(&mut self, index: Option<usize>) {
        let Some(index) = index else { return };
        let Some(open) = self.all.get_mut(index).filter(|open| open.is_vacant()) else { return };
        let of_other_template = |known: &&mut Known| {
            known.newcomer.is_some()
                && is_alike(&open.pod, &known.state.pod)
                && template(&open.pod) != template(&known.state.pod)
        };
        let Some(known) = self.known.values_mut().find(of_other_template) else { return };
        let Some([came, scheduled, ready]) = known.newcomer.take() else { return };
        open.instead_of = Some(std::mem::replace(&mut open.pod, known.state.pod.clone()));
        (open.recreated, open.scheduled, open.ready) = (came, scheduled, ready);
        if ready.is_none() {
            known.open = Some(index);
        }
    }

    /// A pod that was not there at the last look.
    fn came(&mut self, state: PodState, now: Moment, is_first: bool) -> Option<usize> {
        let uid = state.pod.uid.clone();
        let restarts_before = if self.counts { 0 } else { state.restarts };
        let mut known = Known { state, restarts_before, open: None, newcomer: None };
        let pod = &known.state.pod;
        let vacant = |same_name: bool| {
            self.all.iter().position(|open| {
                let fits = if same_name { has_name_of(&open.pod, pod) } else { true };
                open.is_vacant() && fits && is_alike(&open.pod, pod)
            })
        };
        let index = vacant(true).or_else(|| vacant(false)).filter(|_| self.counts);
        if let Some(index) = index {
            let open = &mut self.all[index];
            open.instead_of = Some(std::mem::replace(&mut open.pod, pod.clone()));
            open.recreated = Some(now);
            open.restarts = open.restarts.max(known.state.restarts);
            seen(&known.state, &mut open.scheduled, &mut open.ready, now);
            known.open = Some(index).filter(|_| open.ready.is_none());
        } else if !is_first {
            let mut moments = [Some(now), None, None];
            let [_, scheduled, ready] = &mut moments;
            seen(&known.state, scheduled, ready, now);
            known.newcomer = Some(moments);
        }
        self.known.insert(uid, known);
        index
    }
}

/// Notes when a pod first had a node and was ready.
fn seen(state: &PodState, scheduled: &mut Option<Moment>, ready: &mut Option<Moment>, now: Moment) {
    if scheduled.is_none() && !state.pod.node.is_empty() {
        *scheduled = Some(now);
    }
    if ready.is_none() && state.ready && !state.terminating {
        *ready = Some(now);
    }
}

fn has_name_of(old: &Pod, new: &Pod) -> bool {
    (&old.namespace, &old.name) == (&new.namespace, &new.name)
}

/// Whether one can stand for the other: of one owner, or, where nobody knows that, alike in their labels.
fn is_alike(old: &Pod, new: &Pod) -> bool {
    if old.namespace != new.namespace {
        return false;
    }
    match (&old.owner, &new.owner) {
        (None, None) => has_name_of(old, new) || old.labels == new.labels,
        (old, new) => old == new,
    }
}

fn template(pod: &Pod) -> Option<&String> {
    TEMPLATE_LABELS.iter().find_map(|label| pod.labels.get(*label))
}
