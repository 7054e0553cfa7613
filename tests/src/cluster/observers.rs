//! Pods that answer, pods that ask, and what these saw.

use std::{fmt::Write as _, time::Duration};

use serde_json::Value;

use super::{
    Namespace,
    kubectl::{apply, get, ok, until},
    test_image,
};

/// The port that echoes serve on.
const PORT: u16 = 7007;
/// How long pods may take to be ready.
const READY_MAX: Duration = Duration::from_secs(90);

/// An outage, as an observer saw it, in milliseconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outage {
    /// The first datagram that was not answered.
    pub from_ms: i64,
    /// The first that was answered again.
    pub to_ms: i64,
}

impl Outage {
    /// How long it was.
    pub fn lasted(self) -> Duration {
        Duration::from_millis(u64::try_from(self.to_ms - self.from_ms).unwrap_or(0))
    }
}

/// Makes `replicas` pods of a Deployment that echo, with the label `app: NAME`, spread over the nodes, and waits for
/// them. Their names and addresses.
///
/// # Panics
/// When they do not come.
pub fn echo_pods(namespace: &Namespace, name: &str, replicas: usize) -> Vec<Value> {
    let command = format!("[/cluster-observer, serve, \"{PORT}\"]");
    let probe = format!("readinessProbe: {{ tcpSocket: {{ port: {PORT} }}, periodSeconds: 1 }}");
    deployment(namespace, name, replicas, &command, &probe);
    ready_pods(namespace, name, replicas)
}

/// The pods with the label `app: NAME` that are not about to go.
///
/// # Panics
/// When the API server cannot be asked.
pub fn pods_of(namespace: &Namespace, name: &str) -> Vec<Value> {
    let list = get(&["pods", "-n", namespace.name(), "-l", &format!("app={name}")]);
    let pods = list["items"].as_array().cloned().unwrap_or_default();
    pods.into_iter().filter(|pod| pod["metadata"]["deletionTimestamp"].is_null()).collect()
}

fn ready_pods(namespace: &Namespace, name: &str, count: usize) -> Vec<Value> {
    until(&format!("{count} pods of {name} are ready"), READY_MAX, || {
        let is_ready = |pod: &Value| {
            let conditions = pod["status"]["conditions"].as_array().cloned().unwrap_or_default();
            conditions.iter().any(|c| c["type"] == "Ready" && c["status"] == "True")
        };
        let pods = pods_of(namespace, name);
        (pods.len() == count && pods.iter().all(is_ready)).then_some(pods)
    })
}

fn deployment(namespace: &Namespace, name: &str, replicas: usize, command: &str, more: &str) {
    let (image, namespace) = (test_image(), namespace.name());
    let mut manifest = String::new();
    write!(
        manifest,
        "apiVersion: apps/v1
kind: Deployment
metadata: {{ name: {name}, namespace: {namespace} }}
spec:
  replicas: {replicas}
  selector: {{ matchLabels: {{ app: {name} }} }}
  template:
    metadata: {{ labels: {{ app: {name} }} }}
    spec:
      terminationGracePeriodSeconds: 0
      topologySpreadConstraints:
        - maxSkew: 1
          topologyKey: kubernetes.io/hostname
          whenUnsatisfiable: ScheduleAnyway
          labelSelector: {{ matchLabels: {{ app: {name} }} }}
      containers:
        - name: main
          image: {image}
          imagePullPolicy: IfNotPresent
          command: {command}
          {more}
"
    )
    .expect("memory");
    apply(&manifest);
}

/// A pod that asks the echo of another one every 10 ms. What it saw is told by [`WatchPod::outages`].
///
/// # Panics
/// When it does not come, or hears nothing.
pub fn watch_pod(namespace: &Namespace, name: &str, of: &Value) -> WatchPod {
    let address = of["status"]["podIP"].as_str().expect("an address");
    let command = format!("[/cluster-observer, watch, \"{address}:{PORT}\", \"10\"]");
    deployment(namespace, name, 1, &command, "");
    let pod = ready_pods(namespace, name, 1).remove(0);
    let pod = pod["metadata"]["name"].as_str().expect("a name").to_owned();
    let watch = WatchPod { namespace: namespace.name().into(), pod };
    until("the observer hears the echo", READY_MAX, || watch.log().contains("up ").then_some(()));
    watch
}

/// A pod that observes.
#[derive(Debug)]
pub struct WatchPod {
    namespace: String,
    pod: String,
}

impl WatchPod {
    fn log(&self) -> String {
        ok(&["logs", "-n", &self.namespace, &self.pod])
    }

    /// The outages that are over.
    ///
    /// # Panics
    /// When what it printed cannot be read.
    pub fn outages(&self) -> Vec<Outage> {
        let outage = |line: &str| {
            let mut words = line.strip_prefix("outage ")?.split(' ').map(str::parse);
            Some(Outage { from_ms: words.next()?.ok()?, to_ms: words.next()?.ok()? })
        };
        self.log().lines().filter_map(outage).collect()
    }
}
