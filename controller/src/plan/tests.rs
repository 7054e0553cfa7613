//! Selection and blast radius, on made-up pods.

use std::collections::BTreeMap;

use super::*;
use crate::experiment::{Mode, Selector};

fn pod(name: &str, app: &str, node: &str) -> Pod {
    Pod {
        namespace: "shop".into(),
        name: name.into(),
        uid: format!("uid-{name}"),
        node: node.into(),
        labels: BTreeMap::from([("app".into(), app.into())]),
        addresses: vec![[10, 0, 0, 1].into()],
        containers: Vec::new(),
    }
}

fn pods() -> Vec<Pod> {
    (1..=5).map(|i| pod(&format!("api-{i}"), "api", &format!("node{}", i % 3 + 1))).collect()
}

fn selector(mode: Mode) -> Selector {
    Selector { labels: BTreeMap::from([("app".into(), "api".into())]), mode, ..Selector::default() }
}

fn chosen(mode: Mode, seed: u64) -> Vec<usize> {
    select("t", &selector(mode), &pods(), seed).expect("somebody").chosen
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
        let selection = select("t", &selector(Mode::Count(2)), order, seed).expect("somebody");
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
    let why = |selector: Selector| match select("t", &selector, &pods(), 1) {
        Err(PlanError::Empty { why, .. }) => why,
        other => panic!("{other:?}"),
    };
    let namespace = Selector { namespace: Some("shpo".into()), ..Selector::default() };
    assert!(why(namespace).contains("did you mean `shop`?"));
    let label = |value: &str| BTreeMap::from([("app".into(), value.into())]);
    assert!(
        why(Selector { labels: label("apj"), ..Selector::default() }).contains("values here: api")
    );
    let node = Selector { nodes: vec!["node9".into()], ..Selector::default() };
    assert!(why(node).contains("no pod has the node `node9`"));
    assert!(why(selector(Mode::Count(9))).contains("9 pods are wanted, and 5 match"));
    let leader = Mode::Leader { label: "role".into(), value: "primary".into() };
    assert!(why(selector(leader)).contains("not one"));
}
