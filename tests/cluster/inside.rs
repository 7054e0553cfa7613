//! Runs from inside of the cluster: a Job's pod, under the controller's service account, that reaches agents directly.

use std::time::Duration;

use faultline_tests::cluster::{
    Namespace, apply, echo_pods, get, image, kubectl, ok, until, watch_pod,
};

use super::installed;

/// The controller's image, as `install --image PREFIX:TAG` names it.
fn controller_image() -> String {
    let image = image();
    match image.rsplit_once(':') {
        Some((prefix, tag)) => format!("{prefix}/controller:{tag}"),
        None => format!("{image}/controller:{}", env!("CARGO_PKG_VERSION")),
    }
}

#[test]
fn a_run_in_a_pod_needs_no_kubeconfig() {
    let _turn = installed();
    let namespace = Namespace::new("inside");
    let app = echo_pods(&namespace, "app", 3);
    let watch = watch_pod(&namespace, "watch", &app[0]);
    let (ns, image) = (namespace.name(), controller_image());
    let name = format!("ring-{}", std::process::id());
    apply(&format!(
        "apiVersion: v1
kind: ConfigMap
metadata: {{ name: {name}, namespace: faultline }}
data:
  cut.yaml: |
    apiVersion: faultline.dev/v1alpha1
    kind: Experiment
    metadata: {{ name: inside }}
    spec:
      targets: {{ app: {{ namespace: {ns}, labels: {{ app: app }} }} }}
      method:
        - partition: {{ between: [app, everything] }}
          for: 3s
---
apiVersion: v1
kind: Pod
metadata: {{ name: {name}, namespace: faultline }}
spec:
  restartPolicy: Never
  serviceAccountName: faultline-controller
  automountServiceAccountToken: true
  containers:
    - name: run
      image: {image}
      imagePullPolicy: IfNotPresent
      command: [/faultline, run, /experiments/cut.yaml]
      volumeMounts: [{{ name: experiments, mountPath: /experiments }}]
  volumes: [{{ name: experiments, configMap: {{ name: {name} }} }}]
"
    ));
    let phase = until("the run is over", Duration::from_mins(2), || {
        let pod = get(&["pod", "-n", "faultline", &name]);
        let phase = pod["status"]["phase"].as_str().unwrap_or_default().to_owned();
        matches!(phase.as_str(), "Succeeded" | "Failed").then_some(phase)
    });
    let log = ok(&["logs", "-n", "faultline", &name]);
    for kind in ["pod", "configmap"] {
        kubectl(&["delete", kind, "-n", "faultline", &name, "--wait=false"]);
    }
    assert_eq!(phase, "Succeeded", "{log}");
    assert!(log.contains("DONE") && log.contains("the cluster that this pod is in"), "{log}");
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!(watch.outages().len(), 1, "{log}");
    println!("{log}");
}
