//! Runs from inside of the cluster: a Job's pod, under the controller's service account, that reaches agents directly.

use std::time::Duration;

use faultline_tests::cluster::{Namespace, echo_pods, run_in_pod, watch_pod};

use super::installed;

#[test]
fn a_run_in_a_pod_needs_no_kubeconfig() {
    let _turn = installed();
    let namespace = Namespace::new("inside");
    let app = echo_pods(&namespace, "app", 3);
    let watch = watch_pod(&namespace, "watch", &app[0]);
    let ns = namespace.name();
    let (phase, log) = run_in_pod(
        &format!(
            "apiVersion: faultline.dev/v1alpha1
kind: Experiment
metadata: {{ name: inside }}
spec:
  targets: {{ app: {{ namespace: {ns}, labels: {{ app: app }} }} }}
  method:
    - partition: {{ between: [app, everything] }}
      for: 3s
"
        ),
        Duration::from_mins(2),
    );
    assert_eq!(phase, "Succeeded", "{log}");
    assert!(log.contains("DONE") && log.contains("the cluster that this pod is in"), "{log}");
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!(watch.outages().len(), 1, "{log}");
    println!("{log}");
}
