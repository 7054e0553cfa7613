//! Runs from inside of the cluster: in a pod, under the controller's service account.

use std::time::Duration;

use serde_json::Value;

use super::{
    image,
    kubectl::{apply, get, kubectl, until},
    test_image,
};

/// The controller's image, as `install --image PREFIX:TAG` names it.
fn controller_image() -> String {
    let image = image();
    match image.rsplit_once(':') {
        Some((prefix, tag)) => format!("{prefix}/controller:{tag}"),
        None => format!("{image}/controller:{}", env!("CARGO_PKG_VERSION")),
    }
}

/// A pod in Faultline's namespace that runs an experiment; it is gone with this.
struct RunPod(String);

impl RunPod {
    /// `more` are further containers; the report is written to the volume `reports`.
    fn start(experiment: &str, more: &str) -> Self {
        let name = format!("ring-{}", std::process::id());
        let text = format!("    {}\n", experiment.trim_end().replace('\n', "\n    "));
        let image = controller_image();
        apply(&format!(
            "apiVersion: v1
kind: ConfigMap
metadata: {{ name: {name}, namespace: faultline }}
data:
  experiment.yaml: |
{text}---
apiVersion: v1
kind: Pod
metadata: {{ name: {name}, namespace: faultline }}
spec:
  restartPolicy: Never
  terminationGracePeriodSeconds: 0
  serviceAccountName: faultline-controller
  automountServiceAccountToken: true
  containers:
    - name: run
      image: {image}
      imagePullPolicy: IfNotPresent
      command: [/faultline, run, /experiments/experiment.yaml, --report-dir, /reports]
      volumeMounts:
        - {{ name: experiments, mountPath: /experiments }}
        - {{ name: reports, mountPath: /reports }}
{more}  volumes:
    - {{ name: experiments, configMap: {{ name: {name} }} }}
    - {{ name: reports, emptyDir: {{}} }}
"
        ));
        Self(name)
    }

    fn log(&self, container: &str) -> String {
        kubectl(&["logs", "-n", "faultline", &self.0, "-c", container]).out
    }
}

impl Drop for RunPod {
    fn drop(&mut self) {
        for kind in ["pod", "configmap"] {
            kubectl(&["delete", kind, "-n", "faultline", &self.0, "--wait=true", "--timeout=30s"]);
        }
    }
}

/// Runs an experiment in a pod. The phase that the pod ended in, and what it printed.
///
/// # Panics
/// When it is not over within `patience`.
pub fn run_in_pod(experiment: &str, patience: Duration) -> (String, String) {
    let pod = RunPod::start(experiment, "");
    let phase = until("the run is over", patience, || {
        let pod = get(&["pod", "-n", "faultline", &pod.0]);
        let phase = pod["status"]["phase"].as_str().unwrap_or_default().to_owned();
        matches!(phase.as_str(), "Succeeded" | "Failed").then_some(phase)
    });
    (phase, pod.log("run"))
}

/// Runs an experiment in a pod, and returns its report.
///
/// # Panics
/// When there is none within `patience`.
pub fn report_in_pod(experiment: &str, patience: Duration) -> Value {
    // One that goes on: of what a container has printed when it ends, a part may be lost.
    let reader = format!(
        "    - name: reader
      image: {}
      imagePullPolicy: IfNotPresent
      command: [/bin/sh, -c, \"until cat /reports/*/run.json 2>/dev/null; do sleep 1; done; echo; sleep 600\"]
      volumeMounts: [{{ name: reports, mountPath: /reports }}]
",
        test_image()
    );
    let pod = RunPod::start(experiment, &reader);
    until("there is a report", patience, || serde_json::from_str(&pod.log("reader")).ok())
}
