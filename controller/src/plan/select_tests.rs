//! Selectors on made-up pods, and what is said where they mean nobody.

use std::collections::BTreeMap;

use faultline_proto::yaml::Source;

use super::*;
use crate::experiment::{Leader, Mode, Selector, load_source};

fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect()
}

/// Three pods as a cluster tells of them.
fn pods() -> Vec<Pod> {
    let pod = |name: &str, namespace: &str, owner: &str, zone: &str, ready: bool| Pod {
        namespace: namespace.into(),
        name: name.into(),
        uid: format!("uid-{namespace}-{name}"),
        node: format!("node-{zone}"),
        owner: Some(owner.into()),
        labels: map(&[("app", name.split('-').next().unwrap_or_default())]),
        node_labels: map(&[("topology.kubernetes.io/zone", zone)]),
        services: vec![format!("{}-internal", name.split('-').next().unwrap_or_default())],
        phase: Some("Running".into()),
        ready: Some(ready),
        ..Pod::default()
    };
    vec![
        pod("api-0", "shop", "deployment/api", "a", true),
        pod("api-1", "bank", "deployment/api", "b", false),
        pod("db-0", "shop", "statefulset/db", "b", true),
    ]
}

/// A target as it is written in a file.
fn target(written: &str) -> Selector {
    let text = format!(
        "apiVersion: faultline.dev/v1alpha1
kind: Experiment
metadata: {{ name: test }}
spec:
  targets:
    t: {{ {written} }}
  method:
    - kill: {{ target: t }}
"
    );
    match load_source(Source { name: "test.yaml".into(), text }) {
        Ok(mut loaded) => loaded.remove(0).experiment.targets.remove("t").expect("a target"),
        Err(errors) => panic!("{written}: {errors:?}"),
    }
}

#[track_caller]
fn chosen(written: &str, pods: &[Pod]) -> Vec<String> {
    let selection = select("t", &target(written), pods, 1, &Leaders::default()).expect(written);
    selection.chosen.iter().map(|i| pods[*i].name.clone()).collect()
}

#[track_caller]
fn why(written: &str, pods: &[Pod]) -> String {
    match select("t", &target(written), pods, 1, &Leaders::default()) {
        Err(PlanError::Empty { why, .. }) => why,
        other => panic!("{written}: {other:?}"),
    }
}

#[test]
fn every_condition_selects() {
    for (written, names) in [
        ("labelSelector: 'app in (api, web)'", &["api-1", "api-0"][..]),
        ("labelSelector: 'app!=api'", &["db-0"]),
        ("fieldSelector: 'metadata.namespace=shop,metadata.name!=db-0'", &["api-0"]),
        ("fieldSelector: 'spec.nodeName=node-b'", &["api-1", "db-0"]),
        ("namespaces: [bank, shop], labels: { app: api }", &["api-1", "api-0"]),
        ("owner: deploy/api, namespace: shop", &["api-0"]),
        ("owner: sts/db", &["db-0"]),
        ("nodeLabels: { topology.kubernetes.io/zone: b }", &["api-1", "db-0"]),
        ("service: api-internal", &["api-1", "api-0"]),
        ("ready: false", &["api-1"]),
        ("phase: Running, ready: true", &["api-0", "db-0"]),
    ] {
        assert_eq!(chosen(written, &pods()), names, "{written}");
    }
}

#[test]
fn nobody_is_told_with_what_is_near() {
    for (written, said) in [
        ("owner: deploy/apj", "no pod was made by deployment/apj; did you mean `deployment/api`?"),
        ("owner: ds/log", "owners of pods are: deployment/api, statefulset/db"),
        ("service: api-intern", "did you mean `api-internal`?"),
        (
            "nodeLabels: { topology.kubernetes.io/zome: b }",
            "did you mean `topology.kubernetes.io/zone`?",
        ),
        ("nodeLabels: { topology.kubernetes.io/zone: west }", "its values here: a, b"),
        ("labelSelector: 'app in (apj, wbe)'", "did you mean `api`?"),
        ("labelSelector: ap", "no pod has a label `ap`; did you mean `app`?"),
        ("labelSelector: '!app'", "every pod here has what `!app` rules out"),
        (
            "fieldSelector: 'spec.nodeName=node-c'",
            "no pod has `spec.nodeName=node-c`; did you mean",
        ),
        (
            "namespaces: [shpo, bnk]",
            "no pod is in one of the namespaces shpo, bnk; did you mean `shop`?",
        ),
        ("phase: Pending", "no pod is Pending"),
        ("namespace: bank, owner: sts/db", "no pod matches all of them"),
    ] {
        let why = why(written, &pods());
        assert!(why.contains(said), "{written}: {why}");
    }
}

#[test]
fn what_a_place_does_not_tell_is_said_and_matches_nobody_silently() {
    let mut pods = pods();
    for pod in &mut pods {
        let Pod { namespace, name, uid, labels, .. } = pod.clone();
        *pod = Pod { namespace, name, uid, labels, ..Pod::default() };
    }
    for (written, said) in [
        ("ready: false", "does not tell which of its pods are ready"),
        ("phase: Running", "does not tell in which phase"),
        ("fieldSelector: 'status.phase!=Pending'", "does not tell in which phase"),
        ("nodeLabels: { a: b }", "does not tell which labels its nodes have"),
        ("service: api", "does not tell which Services"),
        ("owner: deploy/api", "does not tell what made its pods"),
        ("namespace: shop, mode: leader, leader: { annotation: role=primary }", "annotations"),
        ("namespace: shop, mode: leader, leader: { lease: api }", "nobody was asked who leads"),
    ] {
        let why = why(written, &pods);
        assert!(why.contains(said), "{written}: {why}");
    }
    // Protected pods that nobody could know would not be protected.
    let text = "apiVersion: faultline.dev/v1alpha1
kind: Experiment
metadata: { name: test }
spec:
  targets: { t: { namespace: shop } }
  method: [{ partition: { between: [t, everything] }, for: 1s }]
  safety: { protected: [{ owner: sts/db }] }
";
    let source = Source { name: "test.yaml".into(), text: text.into() };
    let experiment = load_source(source).expect("valid").remove(0).experiment;
    let error = Plan::new(&experiment, &pods).expect_err("nobody knows who is protected");
    assert!(matches!(error, PlanError::Untold { .. }), "{error}");
}

#[test]
fn a_leader_is_exactly_one() {
    let mut pods = pods();
    pods[2].annotations = map(&[("role", "primary")]);
    let leader = Leader::Annotation { name: "role".into(), value: "primary".into() };
    let selector = Selector { mode: Mode::Leader(leader), ..target("namespace: shop") };
    let choose = |pods: &[Pod]| select("t", &selector, pods, 1, &Leaders::default());
    assert_eq!(choose(&pods).expect("one").chosen, [2]);
    pods[0].annotations = map(&[("role", "primary")]);
    let error = choose(&pods).expect_err("two").to_string();
    assert!(error.contains("2 of the 2 pods that match"), "{error}");
}

#[test]
fn who_is_being_deleted_is_not_chosen() {
    let mut pods = pods();
    pods[0].terminating = true;
    assert_eq!(chosen("labels: { app: api }", &pods), ["api-1"]);
    let why = why("labels: { app: api }, namespace: shop", &pods);
    assert_eq!(why, "everybody who matches is being deleted (1 pod)");
}
