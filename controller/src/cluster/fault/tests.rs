//! Decoding, planning and proving, kind by kind. None of it needs a cluster.

use std::sync::Arc;

use faultline_proto::yaml::{self, Problems};
use serde_json::{Value, json};

use super::*;
use crate::{cluster::fault::look::Pods, place::Toleration};

fn decoded(kind: &str, body: &str) -> Result<Spec, Vec<String>> {
    let mut problems = Problems::new();
    let documents = yaml::parse(&format!("{kind}: {body}\n")).expect("YAML");
    let spec = Spec::decode(kind, documents[0].get(kind).expect("the body"), &mut problems);
    let told = problems.into_sorted();
    let told: Vec<String> = told
        .into_iter()
        .map(|p| format!("{} / {}", p.message, p.expected.or(p.help).unwrap_or_default()))
        .collect();
    if told.is_empty() { Ok(spec.expect("without a problem")) } else { Err(told) }
}

#[test]
fn every_kind_is_decoded_by_its_name() {
    for (kind, body) in [
        ("podDelete", "{ target: api, grace: 5s }"),
        ("scale", "{ target: api, to: 0 }"),
        ("rolloutRestart", "{ target: api }"),
        ("unschedulable", "{ target: api }"),
        ("imagePull", "{ target: api, container: main }"),
        ("cordon", "{ nodes: [node1] }"),
        ("drain", "{ target: api, within: 1m, deleteEmptyDirData: true }"),
        ("taint", "{ target: api, effect: NoExecute, key: example.com/a, value: b }"),
    ] {
        let spec = decoded(kind, body).expect(kind);
        assert_eq!(spec.kind(), kind);
        let names_target = spec.targets().iter().any(|target| target.value == "api");
        assert_eq!(names_target, kind != "cordon", "{kind}");
        assert!(KINDS.iter().any(|info| info.name == kind));
    }
    assert_eq!(KINDS.len(), 8);
}

#[test]
fn mistakes_are_told_with_what_was_expected() {
    for (kind, body, expected) in [
        ("scale", "{ target: api }", "scale needs `to`"),
        ("scale", "{ target: api, to: -1 }", "a whole number from 0 to 10000"),
        ("scale", "{ target: api, too: 1 }", "did you mean `to`?"),
        ("podDelete", "{ target: api, grace: 5s, force: true }", "has no grace"),
        ("cordon", "{ nodes: [a], target: api }", "`nodes` beside `target`"),
        ("drain", "{}", "nothing says which nodes"),
        ("taint", "{ nodes: [a], effect: NoShedule }", "is not one of the choices"),
        ("taint", "{ nodes: [a], effect: NoExecute, key: \"a b\" }", "cannot be part of a taint"),
        (
            "taint",
            "{ nodes: [a], effect: NoExecute, key: node.kubernetes.io/foo }",
            "that Kubernetes itself puts and removes",
        ),
        ("taint", "{ nodes: [a] }", "taint needs `effect`"),
    ] {
        let told = decoded(kind, body).expect_err(body).join("\n");
        let fields = told.contains(expected);
        assert!(fields || told.contains("expected one of"), "{body}: {told}");
    }
}

fn pod(name: &str, owner: &str, node: &str) -> Pod {
    Pod {
        namespace: "shop".into(),
        name: name.into(),
        uid: format!("uid-{name}"),
        node: node.into(),
        owner: Some(owner.into()),
        ..Pod::default()
    }
}

#[test]
fn what_is_hit_is_what_goes() {
    let all = [
        pod("db-0", "statefulset/db", "a"),
        pod("db-1", "statefulset/db", "b"),
        pod("db-10", "statefulset/db", "b"),
        Pod {
            // As kube-proxy and agents have it: everything is borne.
            tolerations: vec![Toleration::default()],
            ..pod("log-x", "daemonset/log", "b")
        },
        pod("api-1", "deployment/api", "b"),
    ];
    let hits = |kind: &str, body: &str| {
        let expanded = decoded(kind, body).expect(body).expand(&[&all[0], &all[1]], &all);
        let expanded = expanded.expect("it can be done");
        let objects: Vec<String> = expanded.iter().map(|e| e.object.to_string()).collect();
        (objects, expanded.into_iter().flat_map(|e| e.hits).collect::<Vec<_>>())
    };
    let db = vec!["shop/statefulset/db".to_owned()];
    let (object, hit) = hits("scale", "{ target: db, to: 2 }");
    assert_eq!((object, hit), (db.clone(), vec!["uid-db-10".to_owned()]), "the last one goes");
    assert_eq!(hits("scale", "{ target: db, to: 0 }").1.len(), 3);
    assert_eq!(hits("scale", "{ target: db, to: 9 }").1.len(), 0, "more of them hit nobody");
    assert_eq!(
        hits("imagePull", "{ target: db }"),
        (db, hits("rolloutRestart", "{ target: db }").1)
    );
    let nodes = vec!["node/a".to_owned(), "node/b".to_owned()];
    assert_eq!(hits("cordon", "{ target: db }"), (nodes.clone(), Vec::new()));
    let (objects, drained) = hits("drain", "{ target: db }");
    assert_eq!(objects, nodes);
    assert!(!drained.contains(&"uid-log-x".to_owned()), "a DaemonSet's pod stays: {drained:?}");
    assert_eq!(drained.len(), 4);
    assert_eq!(hits("taint", "{ target: db, effect: NoSchedule }").1.len(), 0);
    let (_, driven_off) = hits("taint", "{ target: db, effect: NoExecute }");
    assert!(!driven_off.contains(&"uid-log-x".to_owned()), "it bears that: {driven_off:?}");
    assert_eq!(driven_off.len(), 4);
}

fn planned(
    spec: &Spec,
    on: &Object,
    object: &Value,
    autoscalers: &[String],
) -> Result<Planned, String> {
    let before =
        Before { on, object, pods: &[], autoscalers, fault: "00000000000000a1", hits: &[] };
    spec.plan(&before)
}

fn deployment() -> (Object, Value) {
    let on = Object {
        kind: ObjectKind::Deployment,
        namespace: Some("shop".into()),
        name: "api".into(),
        uid: None,
    };
    let spec = json!({"replicas": 3, "template": {"spec": {"containers": [
        {"name": "main", "image": "api:1"}, {"name": "side", "image": "side:2"}]}}});
    (on, json!({"metadata": {"generation": 4}, "spec": spec}))
}

#[test]
fn what_would_be_no_fault_or_worked_against_is_refused() {
    let (on, mut object) = deployment();
    let scale = |to: u32| decoded("scale", &format!("{{ target: api, to: {to} }}")).expect("right");
    let why = planned(&scale(3), &on, &object, &[]).expect_err("no change");
    assert_eq!(why, "shop/deployment/api has 3 replicas already");
    let hpa = ["grower".to_owned()];
    let why = planned(&scale(1), &on, &object, &hpa).expect_err("it would be changed again");
    assert!(why.contains("the autoscaler grower"), "{why}");
    planned(&scale(0), &on, &object, &hpa).expect("an autoscaler holds still at 0");
    let image = decoded("imagePull", "{ target: api, container: sied }").expect("right");
    let why = planned(&image, &on, &object, &[]).expect_err("no such container");
    assert!(why.ends_with("did you mean `side`?"), "{why}");
    object["spec"]["paused"] = true.into();
    let image = decoded("imagePull", "{ target: api }").expect("right");
    let why = planned(&image, &on, &object, &[]).expect_err("it makes no pods");
    assert!(why.contains("is paused"), "{why}");
}

fn real_pods(pods: &Value) -> Vec<Arc<k8s_openapi::api::core::v1::Pod>> {
    serde_json::from_value::<Vec<_>>(pods.clone())
        .expect("pods")
        .into_iter()
        .map(Arc::new)
        .collect()
}

fn look(spec: &Spec, on: &Object, object: &Value, pods: &Pods, planned: &Planned) -> Sight {
    let (object, fault) = (Some(object), "00000000000000a1");
    spec.look(&Look { on, object, pods, planned, generation: 5, fault })
}

#[test]
fn nothing_is_proven_by_a_status_alone() {
    let (on, mut object) = deployment();
    let spec = decoded("scale", "{ target: api, to: 0 }").expect("right");
    let nothing = Planned::default();
    let owned = json!([{"metadata": {"namespace": "shop", "name": "api-6d4-x", "uid": "u",
        "labels": {"pod-template-hash": "6d4"}, "ownerReferences": [
            {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "api-6d4", "uid": "r", "controller": true}]}}]);
    let pods = real_pods(&owned);
    let is_proven = |sight| matches!(sight, Sight::Proven(_));
    object["status"] = json!({"observedGeneration": 4, "replicas": 0});
    assert!(!is_proven(look(&spec, &on, &object, &[], &nothing)), "the change was not looked at");
    object["status"]["observedGeneration"] = 5.into();
    assert!(!is_proven(look(&spec, &on, &object, &pods, &nothing)), "a pod is there still");
    assert!(is_proven(look(&spec, &on, &object, &[], &nothing)));
}

#[test]
fn a_pod_that_is_pending_for_another_reason_proves_nothing() {
    let (on, object) = deployment();
    let spec = decoded("unschedulable", "{ target: api }").expect("right");
    let pending = |selector: &str| {
        real_pods(&json!([{"metadata": {"namespace": "shop", "name": "api-6d4-x", "uid": "u",
            "labels": {"pod-template-hash": "6d4"}, "ownerReferences": [
                {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "api-6d4", "uid": "r", "controller": true}]},
            "spec": {"containers": [], "nodeSelector": {"faultline.dev/unschedulable": selector}},
            "status": {"phase": "Pending", "conditions": [
                {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/3"}]}}]))
    };
    let nothing = Planned::default();
    let ours = look(&spec, &on, &object, &pending("00000000000000a1"), &nothing);
    assert_eq!(ours, Sight::Proven("api-6d4-x is Pending, Unschedulable: 0/3".into()));
    let other = look(&spec, &on, &object, &pending("00000000000000b2"), &nothing);
    assert!(matches!(other, Sight::Missing(_)), "{other:?}");
}

#[test]
fn the_permissions_name_every_kind() {
    for kind in KINDS {
        let named = PERMISSIONS.iter().any(|permission| permission.needed_for.contains(kind.name));
        assert!(named, "{}", kind.name);
    }
}

#[test]
fn a_pod_is_waited_for_as_long_as_it_has_to_end() {
    let slow = Pod { grace: Some(Duration::from_mins(5)), ..pod("api-1", "deployment/api", "a") };
    for (body, seconds) in [
        ("{ target: api }", 360),
        ("{ target: api, grace: 5s }", 65),
        ("{ target: api, force: true }", 90),
    ] {
        let spec = decoded("podDelete", body).expect(body).on(&slow);
        assert_eq!(spec.proof_window(), Duration::from_secs(seconds), "{body}");
    }
}
