//! Who the targets are while a run is under way, as each one's `follow:` says. Pure: it is shown the pods
//! that there are, and tells what has changed and what a step comes to now. Nothing is injected here.
//!
//! Everybody who is meant has a seat. One who has gone keeps it until a new pod takes it: the seat's
//! addresses stay cut, so that who comes back under the same address is cut from the first packet on, but
//! not when somebody else has them.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use faultline_proto::fault::{Groups, Member};

use super::{
    Blast, Change, Guard, Plan, PlanError, PlannedFault, PlannedInjection, check_blast_radius,
    check_protected, expand, fewest_healthy, select,
};
use crate::{
    experiment::{Experiment, Follow, Inject, Leaf, Selector, Step},
    place::Pod,
};

/// The pods that the targets of an experiment are, followed over time.
#[derive(Debug)]
pub struct Follower<'a> {
    experiment: &'a Experiment,
    /// All pods, as they were seen last.
    pods: Vec<Pod>,
    /// Those that were there at the start, by uid: none of them is new.
    first: BTreeSet<String>,
    /// Their names: a new pod of such a name takes only that one's place.
    first_names: BTreeSet<(String, String)>,
    seats: BTreeMap<String, Vec<Seat>>,
    /// Whose place a pod took, by uid.
    predecessors: BTreeMap<String, String>,
    /// Pods that do not count as healthy, by uid.
    away: BTreeSet<String>,
    /// Whom no fault may be on.
    guard: Guard,
    /// The first step that is under way or to come. Those before it are over for good.
    step: usize,
    /// Those whom a limit keeps out, by target and uid.
    kept_out: BTreeSet<(String, String)>,
}

#[derive(Debug, Clone)]
struct Seat {
    pod: Pod,
    gone: bool,
}

impl<'a> Follower<'a> {
    /// Begins with the pods that `plan` has chosen of `pods`.
    pub fn new(experiment: &'a Experiment, plan: &Plan, pods: &[Pod]) -> Self {
        let seat = |index: &usize| Seat { pod: pods[*index].clone(), gone: false };
        let seats = plan
            .targets
            .iter()
            .map(|(name, selection)| (name.clone(), selection.chosen.iter().map(seat).collect()));
        Self {
            experiment,
            pods: pods.to_vec(),
            first: pods.iter().map(|pod| pod.uid.clone()).collect(),
            first_names: pods.iter().map(names).collect(),
            seats: seats.collect(),
            predecessors: BTreeMap::new(),
            away: BTreeSet::new(),
            guard: plan.guard.clone(),
            step: 0,
            kept_out: BTreeSet::new(),
        }
    }

    /// The same, where these pods do not count as healthy, by uid.
    #[must_use]
    pub fn with_away(self, away: BTreeSet<String>) -> Self {
        Self { away, ..self }
    }

    /// Notes that the step with this place in the method has begun; with the number of steps, that all are over. What is
    /// repeated is to come again, as long as nothing behind it has begun.
    pub fn reach(&mut self, step: usize) {
        let mut first = 0;
        for part in &self.experiment.method {
            let len = part.leaves().count();
            if matches!(part, Step::Repeat(_)) && (first..first + len).contains(&step) {
                self.step = first;
                return;
            }
            first += len;
        }
        self.step = step;
    }

    /// Whether a pod is there because a target that `inject` names is followed.
    pub fn is_followed(&self, inject: &Inject, uid: &str) -> bool {
        self.followed_targets(inject)
            .any(|name| self.seats.get(name).is_some_and(|s| s.iter().any(|s| s.pod.uid == uid)))
    }

    /// Whether any target that `inject` names is followed.
    pub fn follows(&self, inject: &Inject) -> bool {
        self.followed_targets(inject).next().is_some()
    }

    fn followed_targets<'b>(&'b self, inject: &'b Inject) -> impl Iterator<Item = &'b String> {
        let names = inject.spec.targets().into_iter().map(|name| &name.value);
        names.filter(|name| {
            self.experiment.targets.get(*name).is_some_and(|s| s.follow != Follow::Keep)
        })
    }

    /// All pods, as they were seen last.
    pub fn pods(&self) -> &[Pod] {
        &self.pods
    }

    /// A pod as it is now; `None` if it has gone.
    pub fn pod(&self, uid: &str) -> Option<&Pod> {
        self.pods.iter().find(|pod| pod.uid == uid)
    }

    /// The first pod of a target that is there now.
    pub fn first(&self, target: &str) -> Option<&Pod> {
        self.seats.get(target)?.iter().find(|seat| !seat.gone).map(|seat| &seat.pod)
    }

    /// Whose place a pod took, by its uid.
    pub fn predecessor(&self, uid: &str) -> Option<&String> {
        self.predecessors.get(uid)
    }

    /// Takes in the pods that there are now.
    pub fn look(&mut self, pods: Vec<Pod>) -> Vec<Change> {
        self.pods = pods;
        let mut changes = Vec::new();
        let experiment = self.experiment;
        for (name, selector) in &experiment.targets {
            self.refresh(name, selector, &mut changes);
            let coming = match selector.follow {
                Follow::Keep => continue,
                Follow::Recreated => self.successors(name, selector),
                Follow::AllMatching => self.joining(name, selector),
            };
            self.admit(name, coming, &mut changes);
            self.vacate(name, selector);
        }
        changes
    }

    /// Brings what is known of the seated up to date.
    fn refresh(&mut self, name: &str, selector: &Selector, changes: &mut Vec<Change>) {
        let Some(seats) = self.seats.get_mut(name) else { return };
        let follow = selector.follow;
        seats.retain_mut(|seat| {
            let target = name.to_owned();
            match self.pods.iter().find(|pod| pod.uid == seat.pod.uid) {
                Some(now) if follow == Follow::AllMatching && !select::belongs(selector, now) => {
                    changes.push(Change::Left { target, pod: now.clone() });
                    return false;
                }
                Some(now) => *seat = Seat { pod: now.clone(), gone: false },
                // One that is kept stays who it is: that it has gone is found out by its faults.
                None if seat.gone || follow == Follow::Keep => {}
                None => {
                    seat.gone = true;
                    changes.push(Change::Gone { target, pod: seat.pod.clone() });
                }
            }
            true
        });
    }

    /// New pods for the seats of those who have gone: the seat and the pod.
    fn successors(&self, name: &str, selector: &Selector) -> Vec<(Option<usize>, Pod)> {
        let seats = self.seats.get(name).map_or(&[][..], Vec::as_slice);
        let mut vacant: Vec<usize> = (0..seats.len()).filter(|i| seats[*i].gone).collect();
        let mut new: Vec<&Pod> =
            self.matching(selector).into_iter().filter(|p| self.is_new(p)).collect();
        new.retain(|pod| !seats.iter().any(|seat| seat.pod.uid == pod.uid));
        let mut taken = Vec::new();
        // First whoever has the name of one who has gone; then whoever has a name that nobody had.
        for same_name in [true, false] {
            new.retain(|pod| {
                let fits = |seat: &usize| {
                    let old = names(&seats[*seat].pod);
                    if same_name {
                        old == names(pod)
                    } else {
                        !self.first_names.contains(&names(pod))
                    }
                };
                let Some(at) = vacant.iter().position(fits) else { return true };
                taken.push((Some(vacant.remove(at)), (*pod).clone()));
                false
            });
        }
        taken
    }

    /// Everybody who matches and has no seat.
    fn joining(&self, name: &str, selector: &Selector) -> Vec<(Option<usize>, Pod)> {
        let seats = self.seats.get(name).map_or(&[][..], Vec::as_slice);
        let coming = self.matching(selector).into_iter();
        let coming = coming.filter(|pod| !seats.iter().any(|seat| seat.pod.uid == pod.uid));
        let vacant = |pod: &Pod| seats.iter().position(|s| s.gone && names(&s.pod) == names(pod));
        coming.map(|pod| (vacant(pod), pod.clone())).collect()
    }

    /// Gives seats to those who come, as far as the blast radius allows.
    fn admit(&mut self, name: &str, coming: Vec<(Option<usize>, Pod)>, changes: &mut Vec<Change>) {
        if coming.is_empty() {
            return;
        }
        let before = self.seats.get(name).cloned().unwrap_or_default();
        let seat = |seats: &mut Vec<Seat>, place: Option<usize>, pod: &Pod| {
            let seat = Seat { pod: pod.clone(), gone: false };
            match place {
                Some(place) => seats[place] = seat,
                None => seats.push(seat),
            }
        };
        let mut all = before.clone();
        for (place, pod) in &coming {
            seat(&mut all, *place, pod);
        }
        self.seats.insert(name.into(), all);
        // One by one only if not all of them can be let in: the plan is made anew for each.
        let one_by_one = self.check_blast_radius().is_err();
        if one_by_one {
            self.seats.insert(name.into(), before.clone());
        }
        for (place, pod) in coming {
            let instead_of = place.map(|place| before[place].pod.target().to_string());
            if one_by_one {
                let known = self.seats.get(name).cloned().unwrap_or_default();
                let mut with = known.clone();
                seat(&mut with, place, &pod);
                self.seats.insert(name.into(), with);
                if let Err(why) = self.check_blast_radius() {
                    self.seats.insert(name.into(), known);
                    if self.kept_out.insert((name.into(), pod.uid.clone())) {
                        changes.push(Change::KeptOut { target: name.into(), pod, why });
                    }
                    continue;
                }
            }
            if let Some(old) = &instead_of {
                self.predecessors.insert(pod.uid.clone(), old.clone());
            }
            changes.push(Change::Came { target: name.into(), pod, instead_of });
        }
    }

    /// Where everybody is meant who matches, a place is kept for those who have gone only as long as
    /// there is nobody else.
    fn vacate(&mut self, name: &str, selector: &Selector) {
        let Some(seats) = self.seats.get_mut(name) else { return };
        if selector.follow == Follow::AllMatching && seats.iter().any(|seat| !seat.gone) {
            seats.retain(|seat| !seat.gone);
        }
    }

    /// Who matches, can be reached and is there to stay, in the order of their names. One that is being deleted
    /// keeps a seat that it has, until it has gone, but is given none.
    fn matching(&self, selector: &Selector) -> Vec<&Pod> {
        let pods = select::candidates(selector, &self.pods).into_iter().map(|i| &self.pods[i]);
        pods.filter(|pod| !pod.addresses.is_empty()).collect()
    }

    fn is_new(&self, pod: &Pod) -> bool {
        !self.first.contains(&pod.uid)
    }

    fn check_blast_radius(&self) -> Result<(), PlanError> {
        let steps = 0..self.experiment.leaves().count();
        let steps: Vec<Vec<PlannedFault>> = steps
            .map(|step| self.step(step).into_iter().filter_map(Result::ok).collect())
            .collect();
        let injections = || steps.iter().flatten().flat_map(|fault| &fault.injections);
        self.guard.check(injections(), &self.pods)?;
        check_protected(self.experiment, injections(), &self.pods)?;
        check_blast_radius(self.experiment, self.blast(injections()))?;
        if self.experiment.blast_radius.min_healthy.is_some() {
            // Each for itself: who was hit by one that is over is seen as it is now, and that one hits nobody any more.
            for faults in steps.iter().skip(self.step) {
                fewest_healthy(self.experiment, [faults.as_slice()], &self.pods, &self.away)?;
            }
        }
        Ok(())
    }

    /// Whether nobody is hit by these faults who must not be, and not too many at once, as pods are now. A fault on a
    /// node or a workload is on whoever is there when it begins, followed or not.
    ///
    /// # Errors
    /// The first rule that would be broken.
    pub fn check(&self, faults: &[PlannedFault]) -> Result<(), PlanError> {
        let injections = || faults.iter().flat_map(|fault| &fault.injections);
        self.guard.check(injections(), &self.pods)?;
        check_protected(self.experiment, injections(), &self.pods)?;
        check_blast_radius(self.experiment, self.blast(injections()))
    }

    /// How many of those that are there would be hit, of how many.
    fn blast<'p>(&self, injections: impl Iterator<Item = &'p PlannedInjection>) -> Blast {
        let hit: BTreeSet<&str> = injections.flat_map(|i| &i.hits).map(String::as_str).collect();
        let hit: BTreeSet<&str> = hit.into_iter().filter(|uid| self.pod(uid).is_some()).collect();
        // Who is hit may be in another state than was asked for, by that.
        let matched = self.pods.iter().filter(|pod| {
            let mut selectors = self.experiment.targets.values();
            hit.contains(pod.uid.as_str()) || selectors.any(|one| select::matches(one, pod))
        });
        Blast { pods_hit: hit.len(), pods_matched: matched.count() }
    }

    /// What the faults of a step come to now, in their order.
    pub fn step(&self, index: usize) -> Vec<Result<PlannedFault, PlanError>> {
        let injects = match self.experiment.leaves().nth(index) {
            Some(Leaf::Inject(injects)) => injects,
            Some(Leaf::Rest) | None => &[],
        };
        let (pods, groups) = self.cast();
        injects.iter().map(|inject| self.fault(inject, &pods, &groups)).collect()
    }

    fn fault(
        &self,
        inject: &Inject,
        pods: &[Pod],
        groups: &Groups,
    ) -> Result<PlannedFault, PlanError> {
        let gone = |uid: &str| {
            let mut seats = self.seats.values().flatten();
            seats.any(|seat| seat.gone && seat.pod.uid == uid)
        };
        let mut injections = Vec::new();
        let nobody =
            inject.spec.targets().iter().any(|name| groups.members(&name.value).is_empty());
        if nobody && inject.spec.is_on_nodes() {
            return Ok(PlannedFault { inject: inject.clone(), injections });
        }
        for (uid, planned) in expand(inject, groups, pods, &self.pods)? {
            if gone(&uid) {
                continue;
            }
            match planned {
                Ok(injection) => injections.push(injection),
                // It has no container yet, and is looked at again.
                Err(_) if self.is_followed(inject, &uid) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(PlannedFault { inject: inject.clone(), injections })
    }

    /// Everybody who has a seat or had it last, and the groups they make.
    fn cast(&self) -> (Vec<Pod>, Groups) {
        let mut pods: Vec<Pod> = Vec::new();
        let mut groups = BTreeMap::new();
        for (name, seats) in &self.seats {
            let members = seats.iter().filter_map(|seat| {
                let addresses = self.addresses(seat);
                let known = pods.iter().position(|pod| pod.uid == seat.pod.uid);
                let pod = known.unwrap_or_else(|| {
                    pods.push(seat.pod.clone());
                    pods.len() - 1
                });
                (!seat.gone || !addresses.is_empty()).then_some(Member { pod, addresses })
            });
            groups.insert(name.clone(), members.collect());
        }
        (pods, Groups(groups))
    }

    /// The addresses of a seat: of one who has gone, those that nobody else has now.
    fn addresses(&self, seat: &Seat) -> Vec<IpAddr> {
        let mut addresses = seat.pod.addresses.clone();
        if seat.gone {
            addresses
                .retain(|address| !self.pods.iter().any(|pod| pod.addresses.contains(address)));
        }
        addresses
    }
}

fn names(pod: &Pod) -> (String, String) {
    (pod.namespace.clone(), pod.name.clone())
}
