//! From which pods probes are made while a run is under way. Pure: it is shown the pods that there are. Whatever a
//! target's `follow:` says of its faults, who observes is no target: one that has gone is always replaced.
//!
//! Each pod that is observed from has a seat. Whoever comes under its name takes it, or else another new pod of its
//! owner, and nobody has two seats: where two were seen from, they never become one.

use std::collections::BTreeSet;

use super::select;
use crate::{experiment::Selector, place::Pod};

/// The pods that probes are made from.
#[derive(Debug, Default)]
pub struct Observers {
    /// Namespace and name of the pods that were there at the start: none of them has come in another's place.
    first: BTreeSet<(String, String)>,
    seats: Vec<Seat>,
}

#[derive(Debug)]
struct Seat {
    pod: Pod,
    /// The targets that it was chosen for.
    meant_by: Vec<Selector>,
}

impl Observers {
    /// Nobody yet, of these pods.
    pub fn new(pods: &[Pod]) -> Self {
        Self { first: pods.iter().map(names).collect(), seats: Vec::new() }
    }

    /// The seat of a pod that was chosen for a target: one, however many probes are made from it.
    pub fn seat(&mut self, pod: &Pod, target: &Selector) -> usize {
        let known = self.seats.iter().position(|seat| seat.pod.uid == pod.uid);
        let at = known.unwrap_or(self.seats.len());
        if known.is_none() {
            self.seats.push(Seat { pod: pod.clone(), meant_by: Vec::new() });
        }
        self.seats[at].meant_by.push(target.clone());
        at
    }

    /// Who has a seat now, of the pods that there are; `None`: nobody is there.
    pub fn pod_now(&mut self, seat: usize, pods: &[Pod]) -> Option<Pod> {
        let old = names(&self.seats.get(seat)?.pod);
        let of_its_name = pods.iter().find(|pod| names(pod) == old);
        let stays = of_its_name.filter(|pod| !pod.terminating);
        // One that is being deleted will do as long as there is nobody else.
        let now = stays.or_else(|| self.successor(seat, pods)).or(of_its_name)?.clone();
        self.seats.get_mut(seat)?.pod = now.clone();
        Some(now)
    }

    /// Who has been made in the place of one who has gone. Of several the one that is most like it.
    fn successor<'p>(&self, seat: usize, pods: &'p [Pod]) -> Option<&'p Pod> {
        let old = self.seats.get(seat)?;
        let is_there = |pod: &&Pod| !pod.terminating && !pod.addresses.is_empty();
        let has_seat = |pod: &Pod| self.seats.iter().any(|other| names(&other.pod) == names(pod));
        let is_new = |pod: &&Pod| !self.first.contains(&names(pod)) && !has_seat(pod);
        let new = pods.iter().filter(is_there).filter(is_new).filter(|pod| old.is_replaced_by(pod));
        new.min_by_key(|pod| {
            (pod.labels != old.pod.labels, pod.node != old.pod.node, &pod.name, &pod.uid)
        })
    }
}

impl Seat {
    /// Whether a pod of another name is one that is made where this has gone.
    fn is_replaced_by(&self, new: &Pod) -> bool {
        let old = &self.pod;
        let Some(owner) = &old.owner else {
            let is_meant = || self.meant_by.iter().any(|target| select::belongs(target, new));
            // Where nobody tells who made it, whoever is alike, or is meant by the target.
            let is_alike = new.labels == old.labels || is_meant();
            return new.owner.is_none() && new.namespace == old.namespace && is_alike;
        };
        let kind = owner.split_once('/').map_or("", |(kind, _)| kind);
        let can_be = match kind {
            // Its pods come back under their names: another one is another replica.
            "statefulset" => false,
            "daemonset" => new.node == old.node,
            _ => true,
        };
        can_be && new.namespace == old.namespace && new.owner.as_ref() == Some(owner)
    }
}

fn names(pod: &Pod) -> (String, String) {
    (pod.namespace.clone(), pod.name.clone())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use faultline_proto::yaml::Source;

    use super::*;
    use crate::experiment::load_source;

    /// A pod that this made.
    fn made(name: &str, owner: &str) -> Pod {
        Pod {
            namespace: "shop".into(),
            name: name.into(),
            uid: format!("uid-{name}"),
            node: "node1".into(),
            owner: Some(owner.into()),
            labels: BTreeMap::from([("app".into(), "api".into())]),
            addresses: vec![[10, 0, 0, 1].into()],
            ..Pod::default()
        }
    }

    fn terminating(pod: &Pod) -> Pod {
        Pod { terminating: true, ..pod.clone() }
    }

    fn target(written: &str) -> Selector {
        let text = format!(
            "apiVersion: faultline.dev/v1alpha1
kind: Experiment
metadata: {{ name: test }}
spec:
  targets:
    near: {{ {written} }}
  method:
    - kill: {{ target: near }}
"
        );
        let loaded = load_source(Source { name: "test.yaml".into(), text });
        let mut experiment = loaded.expect("no mistakes").remove(0).experiment;
        experiment.targets.remove("near").expect("a target")
    }

    /// Those of `pods` with these names have seats, in this order.
    fn observers(pods: &[Pod], seated: &[&str]) -> Observers {
        let mut observers = Observers::new(pods);
        for (i, name) in seated.iter().enumerate() {
            let pod = pods.iter().find(|pod| pod.name == *name).expect("a pod");
            assert_eq!(observers.seat(pod, &target("labels: { app: api }")), i);
        }
        observers
    }

    #[track_caller]
    fn check(observers: &mut Observers, seat: usize, pods: &[Pod], name: Option<&str>) {
        let now = observers.pod_now(seat, pods);
        assert_eq!(now.as_ref().map(|pod| pod.name.as_str()), name);
    }

    #[test]
    fn a_pod_that_has_gone_is_replaced_by_a_new_one_of_its_owner_and_by_nobody_else() {
        let deployment = "deployment/api";
        let mut there = vec![made("api-a", deployment), made("api-b", deployment)];
        let mut observers = observers(&there, &["api-a"]);
        check(&mut observers, 0, &there, Some("api-a"));
        there.remove(0);
        check(&mut observers, 0, &there, None);
        there.push(made("api-c", "deployment/other"));
        there.push(Pod { namespace: "bank".into(), ..made("api-d", deployment) });
        there.push(Pod { addresses: Vec::new(), ..made("api-e", deployment) });
        there.push(terminating(&made("api-f", deployment)));
        check(&mut observers, 0, &there, None);
        there.push(made("api-g", deployment));
        check(&mut observers, 0, &there, Some("api-g"));
        // It stays there, whoever else comes, until that has gone as well.
        there.insert(0, made("api-0", deployment));
        check(&mut observers, 0, &there, Some("api-g"));
        there.retain(|pod| pod.name != "api-g");
        check(&mut observers, 0, &there, Some("api-0"));
    }

    #[test]
    fn two_are_never_observed_from_in_one_pod() {
        let deployment = "deployment/api";
        let there = [made("api-a", deployment), made("api-b", deployment)];
        let mut observers = observers(&there, &["api-a", "api-b"]);
        assert_eq!(observers.seat(&there[1], &target("names: [api-b]")), 1, "it has one already");
        let one = [made("api-c", deployment)];
        check(&mut observers, 1, &one, Some("api-c"));
        check(&mut observers, 0, &one, None);
        let two = [made("api-c", deployment), made("api-d", deployment)];
        check(&mut observers, 0, &two, Some("api-d"));
        check(&mut observers, 1, &two, Some("api-c"));
    }

    #[test]
    fn whoever_has_its_name_takes_its_place_and_a_replica_of_another_name_does_not() {
        let set = "statefulset/db";
        let mut observers = observers(&[made("db-0", set), made("db-1", set)], &["db-0"]);
        check(&mut observers, 0, &[made("db-1", set), made("db-2", set)], None);
        let again = Pod { uid: "uid-2".into(), ..made("db-0", set) };
        let now = observers.pod_now(0, &[made("db-2", set), again]).expect("it is back");
        assert_eq!(now.uid, "uid-2");
        let mut of_node = self::observers(&[made("log-a", "daemonset/log")], &["log-a"]);
        let elsewhere = Pod { node: "node2".into(), ..made("log-b", "daemonset/log") };
        check(&mut of_node, 0, std::slice::from_ref(&elsewhere), None);
        check(&mut of_node, 0, &[elsewhere, made("log-c", "daemonset/log")], Some("log-c"));
    }

    #[test]
    fn one_that_is_being_deleted_is_left_for_its_successor_and_will_do_until_then() {
        let deployment = "deployment/api";
        let mut there = vec![made("api-a", deployment)];
        let mut observers = observers(&there, &["api-a"]);
        // In a rollout the new pod comes first.
        there.push(made("api-b", deployment));
        check(&mut observers, 0, &there, Some("api-a"));
        there[0] = terminating(&there[0]);
        check(&mut observers, 0, &there[..1], Some("api-a"));
        check(&mut observers, 0, &there, Some("api-b"));
    }

    #[test]
    fn where_nobody_tells_owners_labels_decide_or_the_target() {
        let unowned = |name: &str, app: &str| Pod {
            owner: None,
            labels: BTreeMap::from([("app".into(), app.into())]),
            ..made(name, "")
        };
        let mut by_labels = observers(&[unowned("api-a", "api")], &["api-a"]);
        check(&mut by_labels, 0, &[unowned("db-b", "db"), made("api-b", "deployment/api")], None);
        let new = [unowned("a-db", "db"), unowned("api-c", "api")];
        check(&mut by_labels, 0, &new, Some("api-c"));
        let first = unowned("api-a", "api");
        let mut by_target = Observers::new(std::slice::from_ref(&first));
        by_target.seat(&first, &target("namespace: shop"));
        // Both are meant: the one that is like it comes first.
        check(&mut by_target, 0, &new, Some("api-c"));
        let mut by_target = Observers::new(std::slice::from_ref(&first));
        by_target.seat(&first, &target("namespace: shop"));
        check(&mut by_target, 0, &new[..1], Some("a-db"));
    }
}
