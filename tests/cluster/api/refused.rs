//! What is refused before anything is done anywhere.

use std::process::Command;

use faultline_tests::{
    cluster::{Namespace, apply, echo_pods, ok},
    program::{Running, faultline},
};
use serde_json::Value;

use super::{inject, nothing_is_left, turn, workload};
use crate::{File, PATIENCE};

#[test]
fn what_an_autoscaler_would_work_against_is_refused() {
    let _turn = turn();
    let namespace = Namespace::new("hpa");
    echo_pods(&namespace, "app", 2);
    let name = namespace.name();
    apply(&format!(
        "apiVersion: autoscaling/v1
kind: HorizontalPodAutoscaler
metadata: {{ name: grower, namespace: {name} }}
spec:
  minReplicas: 2
  maxReplicas: 4
  scaleTargetRef: {{ apiVersion: apps/v1, kind: Deployment, name: app }}
"
    ));
    let ended = inject(&namespace, "scale", "--target app=app --to 1 --for 5s");
    assert_eq!(ended.code, Some(3), "{}", ended.text);
    assert!(ended.text.contains("the autoscaler grower looks after"), "{}", ended.text);
    assert_eq!(workload(&namespace, "deployment")["spec"]["replicas"], 2);
}

#[test]
fn all_or_nothing() {
    let _turn = turn();
    let namespace = Namespace::new("nothing");
    echo_pods(&namespace, "app", 2);
    echo_pods(&namespace, "other", 1);
    let name = namespace.name();
    let file = File::new(&format!(
        "apiVersion: faultline.dev/v1alpha1
kind: Experiment
metadata: {{ name: both }}
spec:
  targets:
    app: {{ namespace: {name}, labels: {{ app: app }} }}
    other: {{ namespace: {name}, labels: {{ app: other }} }}
  safety: {{ withoutController: true }}
  method:
    - parallel:
        - scale: {{ target: app, to: 0 }}
          for: 5s
        - imagePull: {{ target: other, container: mian }}
          for: 5s
"
    ));
    let ended = Running::start(&["run", file.path()]).end(PATIENCE);
    assert_eq!(ended.code, Some(3), "{}", ended.text);
    assert!(ended.text.contains("did you mean `main`?"), "{}", ended.text);
    let now = workload(&namespace, "deployment");
    assert_eq!(now["spec"]["replicas"], 2);
    assert_eq!(now["metadata"]["generation"], 1, "it was never written");
    nothing_is_left(&namespace);
}

#[test]
fn who_may_not_is_told_the_verb_and_the_command_that_allows_it() {
    let _turn = turn();
    let namespace = Namespace::new("denied");
    echo_pods(&namespace, "app", 1);
    let name = namespace.name();
    // Somebody who may look at everything, and of all that is written only claim targets.
    let (role, claims) = (format!("{name}-viewer"), format!("{name}-claims"));
    let resources = "pods,deployments.apps,replicasets.apps,nodes,horizontalpodautoscalers.autoscaling,secrets,configmaps";
    let leases = "leases.coordination.k8s.io";
    for (role, verbs, resources) in [
        (&role, "get,list,watch", resources),
        (&claims, "get,list,watch,create,update,patch,delete", leases),
    ] {
        let (verbs, resources) = (format!("--verb={verbs}"), format!("--resource={resources}"));
        ok(&["create", "clusterrole", role, &verbs, &resources]);
        let of = format!("--clusterrole={role}");
        ok(&["create", "clusterrolebinding", role, &of, "--user=viewer"]);
    }
    let config = ok(&["config", "view", "--raw", "--flatten", "-o", "json"]);
    let mut config: Value = serde_json::from_str(&config).expect("JSON");
    for user in config["users"].as_array_mut().expect("users") {
        user["user"]["as"] = "viewer".into();
    }
    let file = File::new(&config.to_string());
    let mut command = Command::new(faultline());
    command
        .args(["inject", "scale", "--target", "app=app", "-n", name, "--to", "0", "--for", "5s"]);
    command.args(["--without-controller", "--kubeconfig", file.path()]);
    let ended = Running::start_command(&mut command).end(PATIENCE);
    for kind in ["clusterrolebinding", "clusterrole"] {
        ok(&["delete", kind, &role, &claims]);
    }
    assert_eq!(ended.code, Some(3), "{}", ended.text);
    let text = ended.text.split_whitespace().collect::<Vec<_>>().join(" ");
    // Of the Deployment, or of what it leaves beside it: one of those that are missing is named.
    let what = ["deployments.apps", "replicasets.apps"];
    assert!(what.iter().any(|what| text.contains(&format!("may not patch {what}"))), "{text}");
    assert!(text.contains("kubectl create role"), "{text}");
    assert_eq!(workload(&namespace, "deployment")["metadata"]["generation"], 1);
}

#[test]
fn what_lasts_is_refused_where_an_installation_is_named_that_is_not_there() {
    let _turn = turn();
    let namespace = Namespace::new("nobody");
    echo_pods(&namespace, "app", 1);
    let mut command = Command::new(faultline());
    command.args(["inject", "scale", "--target", "app=app", "--to", "0", "--for", "5s"]);
    // Neither agents nor a controller are in this namespace, wherever else they are.
    command.args(["-n", namespace.name(), "--installation", namespace.name()]);
    let ended = Running::start_command(&mut command).end(PATIENCE);
    assert_eq!(ended.code, Some(3), "{}", ended.text);
    let text = ended.text.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(text.contains("is not installed in this cluster in namespace"), "{text}");
    assert!(text.contains("faultline install"), "{text}");
    assert_eq!(workload(&namespace, "deployment")["metadata"]["generation"], 1);
}
