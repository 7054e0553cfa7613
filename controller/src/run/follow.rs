//! Targets that come and go while a step is in effect: what the plan has become is compared with what is
//! injected, and what is missing is injected, what has changed is amended, and what has gone is let go.
//!
//! Who a target is now is the plan's business ([`Follower`]). Agents are asked in tasks, so that one that
//! is slow holds up neither the end of a fault nor the others.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Duration, Instant},
};

use faultline_proto::{fault::Hold, id::FaultId, pb};
use tokio::task::JoinSet;

use super::{
    Ended, Run,
    attempts::Attempts,
    ended::{has_lost_target, is_let_go},
    inject::wire_one,
    one_line,
    renew::Renewer,
    said_at,
    tasks::{self, Done},
    tracked::{Came, Shared, Tracked, lock},
};
use crate::{
    place::{Place, Seen},
    plan::{Change, Follower, PlannedFault, PlannedInjection, What, fewest_healthy},
    report::journal::Event,
};

/// Between two looks at the pods that there are.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// A fault that is over so soon is not begun on a new target.
const REMAINING_MIN: Duration = Duration::from_millis(250);
/// How long a pod may be listed that has gone, as its agent says.
const LOST_MAX: Duration = Duration::from_secs(1);

/// What is needed to follow the targets of a run.
pub(super) struct Following<'a> {
    pub(super) follower: Follower<'a>,
    place: Arc<Place>,
    seen: Seen,
    looked: Option<Instant>,
    /// The look after which what is injected was last compared with it.
    aligned: Option<Instant>,
    /// When new pods were first seen, by uid.
    appeared: BTreeMap<String, Instant>,
    pub(super) attempts: Attempts,
    pub(super) tasks: JoinSet<Done>,
    /// What cannot be read or planned, and has been said.
    told: BTreeSet<String>,
}

/// The step that is under way.
pub(super) struct UnderWay<'s> {
    /// Its place in the method.
    pub(super) index: usize,
    pub(super) tracked: &'s Shared,
    pub(super) committed: Instant,
    pub(super) renewer: &'s mut Renewer,
}

/// A fault of the step as it is planned now.
struct Now<'p> {
    /// Its place in the step.
    number: usize,
    fault: &'p PlannedFault,
    /// How long it still lasts.
    left: Duration,
}

impl<'a> Following<'a> {
    pub(super) fn new(follower: Follower<'a>, place: &Arc<Place>) -> Self {
        Self {
            follower,
            place: Arc::clone(place),
            seen: Seen::default(),
            looked: None,
            aligned: None,
            appeared: BTreeMap::new(),
            attempts: Attempts::default(),
            tasks: JoinSet::new(),
            told: BTreeSet::new(),
        }
    }

    /// When the last of the faults that follow their targets is over; `None`: there are none.
    pub(super) fn end(&self, faults: &[PlannedFault], committed: Instant) -> Option<Instant> {
        let ends = faults.iter().filter(|fault| self.is_on(fault));
        ends.map(|fault| committed + fault.inject.duration).max()
    }

    /// Whether a fault follows its targets.
    fn is_on(&self, fault: &PlannedFault) -> bool {
        let spec = &fault.inject.spec;
        spec.hold() == Hold::Lasts && spec.is_on_nodes() && self.follower.follows(&fault.inject)
    }

    /// What of `planned` is to be injected, and what is to be amended to it, by id.
    fn missing_and_changed<'p>(
        &mut self,
        now: &Now<'p>,
        tracked: &Shared,
    ) -> (Vec<&'p PlannedInjection>, Vec<(Tracked, &'p PlannedInjection)>) {
        let (mut missing, mut changed) = (Vec::new(), Vec::new());
        let items = lock(tracked);
        for planned in &now.fault.injections {
            let of_pod =
                |t: &&Tracked| t.number == now.number && t.on.uid() == planned.target.uid();
            // The latest, where a container of the pod was started again.
            let item = items.values().filter(of_pod).max_by_key(|t| t.ordered);
            match item {
                None => missing.push(planned),
                Some(item) if has_lost_target(item) && item.on != planned.target => {
                    if item.followed {
                        missing.push(planned);
                    }
                }
                Some(item) if item.revert_asked.is_some() || item.status.is_none() => {}
                Some(item) if item.fault != planned.fault => changed.push((item.clone(), planned)),
                Some(_) => {}
            }
        }
        drop(items);
        missing.retain(|planned| self.attempts.begin(&key(now.number, planned), planned));
        changed.retain(|(item, planned)| self.attempts.begin(&item.id, planned));
        (missing, changed)
    }

    /// The ids of what is injected and no longer planned, and why.
    fn unplanned(&self, now: &Now<'_>, tracked: &Shared) -> Vec<(String, &'static str)> {
        let is_planned =
            |t: &Tracked| now.fault.injections.iter().any(|i| i.target.uid() == t.on.uid());
        let why = |t: &Tracked| match self.follower.pod(t.on.uid()) {
            None => Some("its pod has gone"),
            // Between two containers; which of them it will be is not known yet.
            Some(pod) if t.on.container_id().is_some() && pod.containers.is_empty() => None,
            Some(_) => Some("it is no longer meant"),
        };
        let items = lock(tracked);
        let live = items.values().filter(|t| t.number == now.number && t.revert_asked.is_none());
        let unplanned = live.filter(|t| !is_planned(t));
        unplanned.filter_map(|t| Some((t.id.clone(), why(t)?))).collect()
    }

    /// An injection on a target that has come.
    fn coming(&self, now: &Now<'_>, id: &str, planned: &PlannedInjection) -> Tracked {
        let uid = planned.target.uid();
        let came = Came {
            // A container that was started again is as new as it is first seen.
            appeared: self.appeared.get(uid).copied().unwrap_or_else(Instant::now),
            instead_of: self.follower.predecessor(uid).cloned(),
        };
        let followed = self.follower.is_followed(&now.fault.inject, uid);
        let item = Tracked::new(id, now.number, now.fault, planned);
        Tracked { followed, came: Some(came), ..item }
    }
}

/// What attempts at a new injection are known by.
fn key(number: usize, planned: &PlannedInjection) -> String {
    let container = planned.target.container_id().unwrap_or_default();
    format!("{number} {} {container}", planned.target.uid())
}

impl Run<'_> {
    /// What a step comes to with the targets as they are now.
    pub(super) fn step_now(&mut self, index: usize) -> Result<Vec<PlannedFault>, String> {
        self.look();
        let Some(following) = &self.following else { return Ok(Vec::new()) };
        let planned = following.follower.step(index).into_iter();
        let planned = planned.map(|fault| {
            let fault = fault.map_err(|e| one_line(&e))?;
            if fault.is_on_nobody() {
                let kind = fault.inject.spec.kind();
                return Err(format!("a {kind} would be on nobody: none of its target is there"));
            }
            Ok(fault)
        });
        planned.collect()
    }

    /// Notes that this step of the method has begun: what is before it limits nobody who comes.
    pub(super) fn reach(&mut self, step: usize) {
        if let Some(following) = &mut self.following {
            following.follower.reach(step);
        }
    }

    /// Refuses a step that would hit whoever must not be hit, or too many, or leave fewer healthy pods than are wanted,
    /// as they are now.
    pub(super) fn still_allowed(&self, faults: &[PlannedFault]) -> Result<(), Ended> {
        let Some(following) = &self.following else { return Ok(()) };
        let pods = following.follower.pods();
        let allowed = following.follower.check(faults);
        let healthy = || fewest_healthy(self.experiment, [faults], pods, &self.away);
        match allowed.and_then(|()| healthy()) {
            Ok(_) => Ok(()),
            Err(error) => Err(Ended::Refused(vec![said_at(self.experiment, &error)])),
        }
    }

    /// Notes whose targets are followed.
    pub(super) fn mark_followed(&self, tracked: &Shared, faults: &[PlannedFault]) {
        let Some(following) = &self.following else { return };
        for item in lock(tracked).values_mut() {
            item.followed = faults
                .get(item.number)
                .is_some_and(|fault| following.follower.is_followed(&fault.inject, item.on.uid()));
        }
    }

    /// Takes in the pods that there are now, and says what has become of targets.
    pub(super) fn look(&mut self) {
        let Some(following) = &mut self.following else { return };
        let now = Instant::now();
        following.looked = Some(now);
        let pods = match following.place.look(&mut following.seen) {
            Ok(Some(pods)) => pods,
            Ok(None) => return,
            Err(error) => {
                let text = one_line(&error);
                // Without anybody to follow, what was known at the start will do.
                let follows = self.experiment.follows();
                if follows && following.told.insert(text.clone()) {
                    self.console.warn("follow", &text);
                }
                return;
            }
        };
        let apps = pods.iter().filter_map(|pod| Some((pod.uid.clone(), pod.app()?.to_owned())));
        self.apps.extend(apps);
        for change in following.follower.look(pods) {
            self.console.say("follow", &change.to_string());
            match change {
                Change::KeptOut { .. } => self.not_followed.push(change.to_string()),
                Change::Came { pod, .. } => drop(following.appeared.insert(pod.uid, now)),
                Change::Gone { .. } | Change::Left { .. } => {}
            }
        }
        for (target, current) in &self.exec_pods {
            // While nobody is there, commands fail, as they should.
            if let Some(pod) = following.follower.first(target) {
                current.set(pod.clone());
            }
        }
    }

    /// Takes in the pods that there are now, from time to time, if anybody is followed.
    pub(super) fn look_around(&mut self) {
        let looked = self.following.as_ref().and_then(|following| following.looked);
        let is_time = looked.is_none_or(|looked| looked.elapsed() >= LOOK_EVERY);
        if self.experiment.follows() && is_time {
            self.look();
        }
    }

    /// Makes what is injected what the step comes to now. Waits for nobody.
    pub(super) fn follow(&mut self, step: &mut UnderWay<'_>) {
        self.take_done(step.tracked);
        self.look_around();
        let Some(mut following) = self.following.take_if(|f| f.aligned != f.looked) else { return };
        following.aligned = following.looked;
        for (number, planned) in following.follower.step(step.index).into_iter().enumerate() {
            match planned {
                Ok(fault) if following.is_on(&fault) => {
                    let end = step.committed + fault.inject.duration;
                    let left = end.saturating_duration_since(Instant::now());
                    if left >= REMAINING_MIN {
                        let now = Now { number, fault: &fault, left };
                        self.align(&mut following, step, &now);
                    }
                }
                Ok(_) => {}
                Err(error) => {
                    let text = format!("targets are not followed: {}", one_line(&error));
                    if following.told.insert(text.clone()) {
                        self.deviate("follow", text);
                    }
                }
            }
        }
        let there = |uid: &str| following.follower.pod(uid).is_some();
        following.attempts.retain(there);
        self.following = Some(following);
    }

    /// Makes what is injected of one fault what is planned of it now.
    fn align(&self, following: &mut Following<'_>, step: &mut UnderWay<'_>, now: &Now<'_>) {
        for (id, why) in following.unplanned(now, step.tracked) {
            let Some(item) = let_go(step.tracked, &id, why) else { continue };
            let (fleet, tracked) = (Arc::clone(&self.fleet), Arc::clone(step.tracked));
            following.tasks.spawn(tasks::revert(fleet, tracked, item));
        }
        let (missing, changed) = following.missing_and_changed(now, step.tracked);
        for planned in missing {
            let Ok(id) = FaultId::random() else { continue };
            let wire = wire_one(&self.fleet, self.experiment.lease, id, now.left, planned);
            let Some(wire) = wire else { continue };
            let item = following.coming(now, &wire.fault_id, planned);
            lock(step.tracked).insert(item.id.clone(), item.clone());
            self.record_coming(&item, &wire);
            step.renewer.cover(&item.node);
            let asked = tasks::Asked {
                fleet: Arc::clone(&self.fleet),
                run_id: self.id,
                tracked: Arc::clone(step.tracked),
                key: key(now.number, planned),
            };
            following.tasks.spawn(tasks::inject(asked, item.node, wire));
        }
        for (item, planned) in changed {
            let What::Node(fault) = &planned.fault else { continue };
            if let Some(item) = lock(step.tracked).get_mut(&item.id) {
                item.amending = true;
            }
            let amendment =
                pb::Amendment { fault_id: item.id.clone(), fault: Some(fault.clone().into()) };
            let (fleet, tracked) = (Arc::clone(&self.fleet), Arc::clone(step.tracked));
            let fault = planned.fault.clone();
            following.tasks.spawn(tasks::amend(fleet, tracked, item.node, amendment, fault));
        }
    }

    /// Ends what is still under way, and tells what could not be followed.
    pub(super) fn end_following(&mut self, index: usize, tracked: &Shared) {
        self.take_done(tracked);
        for text in self.lost_and_there(index, tracked) {
            self.deviate("follow", text);
        }
        let Some(following) = &mut self.following else { return };
        // What an agent was asked and has not answered is reverted with everything else.
        following.tasks.abort_all();
        following.tasks = JoinSet::new();
        for text in std::mem::take(&mut following.attempts).into_failures() {
            self.deviate("follow", text);
        }
    }

    /// Followed targets that have gone as their agents say, and that are there all the same: nobody took
    /// their places, and nobody will.
    fn lost_and_there(&mut self, index: usize, tracked: &Shared) -> Vec<String> {
        if self.experiment.follows() {
            self.look();
        }
        let Some(following) = &self.following else { return Vec::new() };
        let planned = following.follower.step(index);
        let is_there = |item: &Tracked| {
            let fault = planned.get(item.number).and_then(|fault| fault.as_ref().ok());
            fault.is_some_and(|fault| fault.injections.iter().any(|i| i.target == item.on))
        };
        let for_long =
            |item: &Tracked| item.revert_asked.is_some_and(|asked| asked.elapsed() >= LOST_MAX);
        let items = lock(tracked);
        let lost = items.values().filter(|item| item.followed && has_lost_target(item));
        let lost = lost.filter(|item| for_long(item) && is_there(item));
        lost.map(|item| {
            let (kind, target) = (item.kind, &item.target);
            format!("the {kind} of {target} ended as its target had gone, which is still there")
        })
        .collect()
    }

    /// Something that went otherwise than planned, and does not end the run.
    pub(super) fn deviate(&mut self, phase: &str, text: String) {
        self.console.warn(phase, &text);
        let (phase, said) = (phase.to_owned(), text.clone());
        self.recorder.tell(Event::Deviation { phase, text: said });
        self.deviations.push(text);
    }
}

/// Notes that an injection is let go; `None` if it has been asked to revert already.
fn let_go(tracked: &Shared, id: &str, why: &'static str) -> Option<Tracked> {
    let mut items = lock(tracked);
    let item = items.get_mut(id).filter(|item| item.revert_asked.is_none())?;
    is_let_go(item, why);
    Some(item.clone())
}
