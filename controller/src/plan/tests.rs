//! Selection and blast radius, on made-up pods.

use std::collections::BTreeMap;

use faultline_proto::yaml::Source;

use super::*;
use crate::experiment::{Leader, Mode, Selector, load_source};

fn pod(name: &str, app: &str, node: &str) -> Pod {
    Pod {
        namespace: "shop".into(),
        name: name.into(),
        uid: format!("uid-{name}"),
        node: node.into(),
        labels: BTreeMap::from([("app".into(), app.into())]),
        addresses: vec![[10, 0, 0, 1].into()],
        ..Pod::default()
    }
}

fn pods() -> Vec<Pod> {
    (1..=5).map(|i| pod(&format!("api-{i}"), "api", &format!("node{}", i % 3 + 1))).collect()
}

fn selector(mode: Mode) -> Selector {
    Selector { labels: BTreeMap::from([("app".into(), "api".into())]), mode, ..Selector::default() }
}

fn chosen(mode: Mode, seed: u64) -> Vec<usize> {
    select("t", &selector(mode), &pods(), seed, &Leaders::default()).expect("somebody").chosen
}

#[test]
fn modes_choose_as_many_as_they_say() {
    assert_eq!(chosen(Mode::All, 1).len(), 5);
    assert_eq!(chosen(Mode::One, 1).len(), 1);
    assert_eq!(chosen(Mode::Count(2), 1).len(), 2);
    assert_eq!(chosen(Mode::Percent(5_000), 1).len(), 2);
    assert_eq!(chosen(Mode::Percent(1), 1).len(), 1);
    assert_eq!(chosen(Mode::Majority, 1).len(), 3);
    assert_eq!(chosen(Mode::Minority, 1).len(), 2);
}

#[test]
fn the_seed_alone_decides_whatever_order_the_pods_come_in() {
    let names = |order: &[Pod], seed| -> Vec<String> {
        let selection = select("t", &selector(Mode::Count(2)), order, seed, &Leaders::default())
            .expect("somebody");
        selection.chosen.iter().map(|i| order[*i].name.clone()).collect()
    };
    let mut reversed = pods();
    reversed.reverse();
    assert_eq!(names(&pods(), 7), names(&reversed, 7));
    let differ = (0..20).any(|seed| names(&pods(), seed) != names(&pods(), 7));
    assert!(differ, "other seeds choose others");
}

#[test]
fn nobody_is_an_error_that_says_what_was_wrong() {
    let why = |selector: Selector| match select("t", &selector, &pods(), 1, &Leaders::default()) {
        Err(PlanError::Empty { why, .. }) => why,
        other => panic!("{other:?}"),
    };
    let namespace = Selector { namespaces: vec!["shpo".into()], ..Selector::default() };
    assert!(why(namespace).contains("did you mean `shop`?"));
    let label = |value: &str| BTreeMap::from([("app".into(), value.into())]);
    assert!(
        why(Selector { labels: label("apj"), ..Selector::default() }).contains("values here: api")
    );
    let node = Selector { nodes: vec!["node9".into()], ..Selector::default() };
    assert!(why(node).contains("no pod has the node `node9`"));
    assert!(why(selector(Mode::Count(9))).contains("9 pods are wanted, and 5 match"));
    let leader = Mode::Leader(Leader::Label { name: "role".into(), value: "primary".into() });
    assert!(why(selector(leader)).contains("not one"));
}

/// Cuts `api`, which is followed in this way, from the addresses 10.9.0.0/16, or from `db`.
pub(super) fn experiment(follow: &str, other: &str, more: &str) -> Experiment {
    let text = format!(
        "apiVersion: faultline.dev/v1alpha1
kind: Experiment
metadata: {{ name: test }}
spec:
  targets:
    api: {{ labels: {{ app: api }}, {follow} }}
    db: {{ labels: {{ app: db }} }}
  {more}
  method:
    - partition: {{ between: [api, {other}] }}
      for: 30s
    - partition: {{ between: [db, everything] }}
      for: 30s
"
    );
    match load_source(Source { name: "test.yaml".into(), text }) {
        Ok(mut loaded) => loaded.remove(0).experiment,
        Err(errors) => panic!("{errors:?}"),
    }
}

/// A pod of a name, as the n-th of that name, with an address of its own.
pub(super) fn made(name: &str, number: u8) -> Pod {
    let app = name.split('-').next().expect("a name");
    let last = name.bytes().last().unwrap_or_default() - b'0';
    let third = if app == "db" { 2 } else { 3 };
    Pod {
        uid: format!("uid-{name}-{number}"),
        addresses: vec![[10, third, last, number].into()],
        ..pod(name, app, "node1")
    }
}

pub(super) fn follower<'a>(experiment: &'a Experiment, pods: &[Pod]) -> Follower<'a> {
    let plan = Plan::new(experiment, pods).expect("a plan");
    Follower::new(experiment, &plan, pods)
}

/// The uids that the first step is on, and in what it says, these addresses.
pub(super) fn first_step(follower: &Follower<'_>) -> Vec<String> {
    let fault = follower.step(0).remove(0).expect("a fault");
    let mut uids: Vec<String> =
        fault.injections.into_iter().map(|i| i.target.uid().to_owned()).collect();
    uids.sort();
    uids
}

pub(super) fn said(changes: &[Change]) -> Vec<String> {
    changes.iter().map(ToString::to_string).collect()
}

#[test]
fn a_new_pod_takes_the_place_of_one_that_has_gone_and_only_of_one() {
    let experiment = experiment("mode: { count: 2 }, follow: recreated", "10.9.0.0/16", "seed: 1");
    let mut there = vec![made("api-1", 1), made("api-2", 1), made("api-3", 1), made("db-1", 1)];
    let mut follower = follower(&experiment, &there);
    let chosen = first_step(&follower);
    assert_eq!(chosen.len(), 2);
    assert_eq!(follower.look(there.clone()), []);
    // One of the chosen goes; first the one that was not chosen comes back, then the one that was.
    let gone = there.iter().position(|pod| pod.uid == chosen[0]).expect("it is there");
    let name = there[gone].name.clone();
    let other = there.iter().position(|p| p.name.starts_with("api") && !chosen.contains(&p.uid));
    let other = there[other.expect("somebody was not chosen")].name.clone();
    there.retain(|pod| pod.name != name && pod.name != other);
    assert_eq!(said(&follower.look(there.clone())), [format!("api: shop/{name} has gone")]);
    there.push(made(&other, 2));
    assert_eq!(follower.look(there.clone()), [], "it is the new one of somebody else");
    assert_eq!(first_step(&follower), [chosen[1].clone()]);
    there.push(Pod { addresses: Vec::new(), ..made(&name, 2) });
    assert_eq!(follower.look(there.clone()), [], "it has no address yet");
    there.pop();
    there.push(made(&name, 2));
    there.push(made("api-9", 1));
    let told = format!("api: a new shop/{name} on node1 takes the place of shop/{name}");
    assert_eq!(said(&follower.look(there.clone())), [told]);
    assert_eq!(follower.predecessor(&made(&name, 2).uid), Some(&format!("shop/{name}")));
    let mut expected = vec![chosen[1].clone(), made(&name, 2).uid];
    expected.sort();
    assert_eq!(first_step(&follower), expected, "and nobody more");
    // As in a ReplicaSet, whose pods have new names: the one that is left over takes the next place.
    there.retain(|pod| pod.uid != chosen[1]);
    assert!(said(&follower.look(there))[1].contains("shop/api-9"), "nobody else is left for it");
}

#[test]
fn who_is_kept_stays_and_a_step_that_comes_later_knows_the_new_container() {
    let experiment = experiment("follow: keep", "db", "seed: 1");
    let mut there = vec![made("api-1", 1), made("db-1", 1)];
    let mut follower = follower(&experiment, &there);
    there[0] = made("api-1", 2);
    let id = "0".repeat(64);
    let container = faultline_proto::target::Container { name: "main".into(), id };
    there[1].containers = vec![container.clone()];
    assert_eq!(follower.look(there), []);
    assert_eq!(first_step(&follower), ["uid-api-1-1", "uid-db-1-1"]);
    assert_eq!(follower.pod("uid-db-1-1").map(|pod| pod.containers.clone()), Some(vec![container]));
}

#[test]
fn the_addresses_of_one_that_has_gone_stay_cut_until_somebody_else_has_them() {
    for follow in ["recreated", "all-matching"] {
        let experiment = experiment(&format!("follow: {follow}"), "db", "seed: 1");
        let mut there = vec![made("api-1", 1), made("db-1", 1)];
        let mut follower = follower(&experiment, &there);
        there.remove(0);
        assert_eq!(follower.look(there.clone()).len(), 1);
        assert_eq!(first_step(&follower), ["uid-db-1-1"]);
        let fault = follower.step(0).remove(0).expect("a fault").injections.remove(0).fault;
        assert!(format!("{fault:?}").contains("[10.3.1.1]"), "{fault:?}");
        there.push(Pod { addresses: vec![[10, 3, 1, 1].into()], ..made("web-1", 1) });
        assert_eq!(follower.look(there), []);
        assert_eq!(first_step(&follower), Vec::<String>::new(), "there is nobody to cut from");
    }
}

#[test]
fn who_matches_comes_and_goes_with_its_labels() {
    let experiment = experiment("follow: all-matching", "10.9.0.0/16", "seed: 1");
    let mut there = vec![made("api-1", 1), made("db-1", 1)];
    let mut follower = follower(&experiment, &there);
    there.push(made("api-2", 1));
    assert_eq!(
        said(&follower.look(there.clone())),
        ["api: shop/api-2 on node1 is new and matches"]
    );
    assert_eq!(first_step(&follower), ["uid-api-1-1", "uid-api-2-1"]);
    there[0].labels.insert("app".into(), "retired".into());
    assert_eq!(said(&follower.look(there.clone())), ["api: shop/api-1 no longer matches"]);
    assert_eq!(first_step(&follower), ["uid-api-2-1"]);
    there.remove(2);
    assert_eq!(said(&follower.look(there)), ["api: shop/api-2 has gone"]);
    assert_eq!(first_step(&follower), Vec::<String>::new());
}

#[test]
fn who_comes_is_not_hit_where_too_few_would_be_left_healthy() {
    let limit = "blastRadius: { minHealthy: 1 }";
    let experiment = experiment("follow: all-matching", "10.9.0.0/16", limit);
    let [mut spare, mut coming] = [made("api-2", 1), made("api-3", 1)];
    // Of the same owner, and not meant.
    for pod in [&mut spare, &mut coming] {
        pod.owner = Some("api".into());
        pod.labels.insert("app".into(), "spare".into());
    }
    let mut first = made("api-1", 1);
    first.owner = Some("api".into());
    let [mut hit, mut left] = [made("db-1", 1), made("db-2", 1)];
    left.labels.insert("app".into(), "spare".into());
    for pod in [&mut hit, &mut left] {
        pod.owner = Some("db".into());
    }
    let mut there = vec![first, spare, coming, hit, left];
    let mut follower = follower(&experiment, &there);
    // One of them is meant now, and one is left; then the other one, and nobody would be left.
    there[2].labels.insert("app".into(), "api".into());
    assert_eq!(
        said(&follower.look(there.clone())),
        ["api: shop/api-3 on node1 is new and matches"]
    );
    there[1].labels.insert("app".into(), "api".into());
    let changes = said(&follower.look(there.clone()));
    assert!(changes[0].contains("shop/api-2 on node1 is not followed"), "{changes:?}");
    assert!(changes[0].contains("`minHealthy` asks for 1"), "{changes:?}");
    assert_eq!(first_step(&follower), ["uid-api-1-1", "uid-api-3-1"]);
    // One that does not count as healthy leaves nobody.
    there[1].labels.insert("app".into(), "spare".into());
    let away = [there[1].uid.clone()].into();
    let coming = there.remove(2);
    let mut follower = self::follower(&experiment, &there).with_away(away);
    there.push(coming);
    let changes = said(&follower.look(there));
    assert!(changes.iter().any(|change| change.contains("is not followed")), "{changes:?}");
}

#[test]
fn what_is_over_keeps_nobody_out_unless_it_is_repeated() {
    let method = |text: &str| {
        let head = "apiVersion: faultline.dev/v1alpha1
kind: Experiment
metadata: { name: test }
spec:
  targets:
    api: { labels: { app: api }, follow: all-matching }
    rest: { labels: { app: rest }, follow: all-matching }
  blastRadius: { minHealthy: 1 }
  method:
";
        let source = Source { name: "test.yaml".into(), text: format!("{head}{text}") };
        load_source(source).expect("no mistakes").remove(0).experiment
    };
    let (api, rest) =
        ("partition: { between: [api, everything] }", "partition: { between: [rest, everything] }");
    let plain = method(&format!(
        "    - {api}\n      for: 30s\n    - {rest}\n      for: 30s\n    - wait: 1s\n"
    ));
    let repeated = method(&format!(
        "    - repeat:\n        times: 2\n        steps:\n          - {api}\n            for: 30s\n          - {rest}\n            for: 30s\n    - wait: 1s\n"
    ));
    let owned = |name: &str| Pod { owner: Some("set".into()), ..made(name, 1) };
    // Whether all others may join `api`, when this step has begun: by the first step nobody would be left.
    let comes = |experiment: &Experiment, step: usize| {
        let mut there = vec![owned("api-1"), owned("rest-1"), owned("spare-1")];
        let mut follower = follower(experiment, &there);
        follower.reach(step);
        for pod in &mut there[1..] {
            pod.labels.insert("app".into(), "api".into());
        }
        let changes = said(&follower.look(there));
        let (kept_out, came): (Vec<_>, Vec<_>) = changes
            .iter()
            .filter(|change| change.starts_with("api: "))
            .partition(|change| change.contains("`minHealthy` asks for 1"));
        assert_eq!(kept_out.len() + came.len(), 2, "{changes:?}");
        kept_out.is_empty()
    };
    assert!(!comes(&plain, 0), "it is under way");
    assert!(comes(&plain, 1), "it is over");
    assert!(!comes(&repeated, 1), "it comes again");
    assert!(comes(&repeated, 2), "it has been repeated");
}

#[test]
fn as_many_are_followed_as_the_blast_radius_allows_and_the_others_when_there_is_room() {
    // The pod of the second step counts as well.
    let limit = "blastRadius: { maxTargets: 3 }";
    let experiment = experiment("follow: all-matching", "10.9.0.0/16", limit);
    let mut there = vec![made("api-1", 1), made("db-1", 1)];
    let mut follower = follower(&experiment, &there);
    there.extend([made("api-2", 1), made("api-3", 1)]);
    let changes = said(&follower.look(there.clone()));
    assert_eq!(changes[0], "api: shop/api-2 on node1 is new and matches");
    assert!(changes[1].contains("shop/api-3 on node1 is not followed"), "{changes:?}");
    assert!(changes[1].contains("4 pods would be hit, and `maxTargets` allows 3"), "{changes:?}");
    assert_eq!(follower.look(there.clone()), [], "it is said once");
    there.remove(0);
    let changes = said(&follower.look(there));
    assert_eq!(
        changes,
        ["api: shop/api-1 has gone", "api: shop/api-3 on node1 is new and matches"]
    );
    assert_eq!(first_step(&follower), ["uid-api-2-1", "uid-api-3-1"]);
}
