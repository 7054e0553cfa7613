//! Followed targets as a cluster has them: pods that are being deleted and still there, names that come back, rollouts.

use faultline_proto::yaml::Source;

use super::{
    tests::{experiment, first_step, follower, made, said},
    *,
};
use crate::experiment::load_source;

fn terminating(pod: &Pod) -> Pod {
    Pod { terminating: true, ready: Some(false), ..pod.clone() }
}

#[test]
fn a_pod_of_a_stateful_set_keeps_its_fault_until_it_has_gone_and_the_next_of_its_name_takes_it() {
    for follow in ["recreated", "all-matching"] {
        let experiment = experiment(&format!("follow: {follow}"), "10.9.0.0/16", "seed: 1");
        let mut there = vec![made("api-0", 1), made("api-1", 1), made("db-1", 1)];
        let mut follower = follower(&experiment, &there);
        there[0] = terminating(&there[0]);
        assert_eq!(follower.look(there.clone()), [], "it still talks to others");
        assert_eq!(first_step(&follower), ["uid-api-0-1", "uid-api-1-1"]);
        there.remove(0);
        assert_eq!(said(&follower.look(there.clone())), ["api: shop/api-0 has gone"]);
        // Made anew, but for an address at first.
        there.push(Pod { addresses: Vec::new(), ..made("api-0", 2) });
        assert_eq!(follower.look(there.clone()), []);
        there.pop();
        there.push(made("api-0", 2));
        let changes = said(&follower.look(there));
        assert_eq!(changes.len(), 1, "{changes:?}");
        assert_eq!(first_step(&follower), ["uid-api-0-2", "uid-api-1-1"], "{follow}");
    }
}

#[test]
fn a_rollout_gives_a_place_away_only_when_its_pod_has_gone() {
    let experiment = experiment("follow: recreated", "10.9.0.0/16", "seed: 1");
    let mut there = vec![made("api-1", 1), made("db-1", 1)];
    let mut follower = follower(&experiment, &there);
    // The new pod comes first, and the old one takes its time to end.
    there.push(made("api-7", 1));
    assert_eq!(follower.look(there.clone()), []);
    there[0] = terminating(&there[0]);
    assert_eq!(follower.look(there.clone()), []);
    assert_eq!(first_step(&follower), ["uid-api-1-1"], "as many are hit as were chosen");
    there.remove(0);
    let changes = said(&follower.look(there));
    let told = "api: a new shop/api-7 on node1 takes the place of shop/api-1";
    assert_eq!(changes, ["api: shop/api-1 has gone", told]);
    assert_eq!(first_step(&follower), ["uid-api-7-1"]);
}

#[test]
fn in_a_rollout_all_that_match_are_hit_old_and_new() {
    let experiment = experiment("follow: all-matching", "10.9.0.0/16", "seed: 1");
    let mut there = vec![made("api-1", 1), made("db-1", 1)];
    let mut follower = follower(&experiment, &there);
    there[0] = terminating(&there[0]);
    there.push(made("api-7", 1));
    follower.look(there.clone());
    assert_eq!(first_step(&follower), ["uid-api-1-1", "uid-api-7-1"]);
    there.remove(0);
    follower.look(there);
    assert_eq!(first_step(&follower), ["uid-api-7-1"]);
}

#[test]
fn who_comes_while_it_is_being_deleted_takes_no_place() {
    let experiment = experiment("follow: recreated", "10.9.0.0/16", "seed: 1");
    let mut there = vec![made("api-1", 1), made("db-1", 1)];
    let mut follower = follower(&experiment, &there);
    there[0] = terminating(&made("api-1", 2));
    assert_eq!(said(&follower.look(there)), ["api: shop/api-1 has gone"]);
    assert_eq!(first_step(&follower), Vec::<String>::new());
}

#[test]
fn a_fault_that_makes_its_pod_unready_stays_on_it() {
    let experiment = experiment("ready: true, follow: all-matching", "10.9.0.0/16", "seed: 1");
    let ready = |pod: Pod, is: bool| Pod { ready: Some(is), ..pod };
    let mut there = vec![
        ready(made("api-1", 1), true),
        ready(made("api-2", 1), false),
        ready(made("db-1", 1), true),
    ];
    let mut follower = follower(&experiment, &there);
    assert_eq!(first_step(&follower), ["uid-api-1-1"]);
    there[0].ready = Some(false);
    assert_eq!(follower.look(there.clone()), [], "that is what the fault does");
    there[1].ready = Some(true);
    follower.look(there);
    assert_eq!(first_step(&follower), ["uid-api-1-1", "uid-api-2-1"]);
}

/// An experiment that does this to `api`.
fn doing(fault: &str, safety: &str) -> Experiment {
    let text = format!(
        "apiVersion: faultline.dev/v1alpha1
kind: Experiment
metadata: {{ name: test }}
spec:
  targets:
    api: {{ labels: {{ app: api }} }}
  safety: {{ {safety} }}
  method:
    - {fault}
      for: 30s
"
    );
    match load_source(Source { name: "test.yaml".into(), text }) {
        Ok(mut loaded) => loaded.remove(0).experiment,
        Err(errors) => panic!("{errors:?}"),
    }
}

#[test]
fn every_pod_of_a_workload_that_is_scaled_must_be_one_that_may_be_hit() {
    let of_api = |name| Pod { owner: Some("deployment/api".into()), ..made(name, 1) };
    let mut pods = vec![of_api("api-1"), of_api("api-2")];
    for to in [1, 9] {
        let experiment = doing(&format!("scale: {{ target: api, to: {to} }}"), "maxDuration: 1h");
        Plan::new(&experiment, &pods).expect("nobody is guarded");
        for which in 0..2 {
            pods[which].labels.insert(ENABLED.into(), "false".into());
            let why = Plan::new(&experiment, &pods).expect_err("whichever goes").to_string();
            assert!(why.contains("enabled=false"), "{why}");
            pods[which].labels.remove(ENABLED);
        }
    }
}

#[test]
fn a_rule_that_protects_whoever_is_on_a_node_protects_the_node() {
    let pods = vec![made("api-1", 1)];
    for (rule, is_kept) in
        [("nodes: [node1]", true), ("nodes: [node1], labels: { app: db }", false)]
    {
        let experiment = doing("cordon: { target: api }", &format!("protected: [{{ {rule} }}]"));
        let planned = Plan::new(&experiment, &pods);
        assert_eq!(planned.is_err(), is_kept, "{rule}: {planned:?}");
    }
}
