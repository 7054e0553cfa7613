//! What a real cluster and its kubelets take: from a command to its effect, 60 pods cut in two halves, and what a run
//! asks the API server for.
//!
//! `tests/lab/with LAB cargo bench -p faultline-tests --bench cluster`; where there is no `KUBECONFIG` it measures
//! nothing. Goals: from inside, 99 of 100 effects are proven within 50 ms of the command; 60 pods on 3 nodes are cut
//! in two halves within 1 s; a run of many targets lists no more than one of few.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use faultline_tests::{
    cluster::{Namespace, echo_pods, install, ok, report_in_pod, watch_pod},
    program::faultline,
};
use serde_json::Value;

/// How often a pod is cut.
const CUTS: usize = 200;
/// Pods of each half.
const HALF: usize = 30;

fn main() {
    // `cargo test --benches` only wants to know that it runs.
    if std::env::args().any(|arg| arg == "--test") {
        return;
    }
    if std::env::var_os("KUBECONFIG").is_none() {
        println!("SKIPPED: KUBECONFIG names no cluster");
        return;
    }
    // Built before it is measured.
    faultline();
    let begun = Instant::now();
    let ended = install();
    assert_eq!(ended.code, Some(0), "{}", ended.text);
    println!("install, images on the nodes: {:.1} s", begun.elapsed().as_secs_f64());
    one_pod();
    cut_in_two_halves();
}

/// Times from the beginning of a step to the proof, as the run says, and to the first datagram that was lost, as
/// somebody else saw it: every 10 ms one is sent.
fn one_pod() {
    let namespace = Namespace::new("bench");
    let app = echo_pods(&namespace, "app", 1);
    let watch = watch_pod(&namespace, "watch", &app[0]);
    let ns = namespace.name();
    let report = run(&format!(
        "apiVersion: faultline.dev/v1alpha1
kind: Experiment
metadata: {{ name: bench }}
spec:
  targets: {{ app: {{ namespace: {ns}, labels: {{ app: app }} }} }}
  method:
    - repeat:
        times: {CUTS}
        steps:
          - partition: {{ between: [app, everything] }}
            for: 500ms
          - wait: 700ms
"
    ));
    std::thread::sleep(Duration::from_secs(1));
    let began_unix = report["startedUnixMs"].as_f64().expect("a time");
    let mut outages = watch.outages();
    println!("{} cuts, {} outages seen by another pod", CUTS, outages.len());
    let (mut proven, mut seen) = (Vec::new(), Vec::new());
    for (begun, effect) in effects(&report) {
        proven.push(effect - begun);
        let command = began_unix + begun;
        let end = command + 500.0;
        #[expect(clippy::cast_precision_loss, reason = "milliseconds since 1970 fit")]
        let mine = outages.iter().position(|o| {
            let from = o.from_ms as f64;
            from > command - 20.0 && from < end
        });
        #[expect(clippy::cast_precision_loss, reason = "milliseconds since 1970 fit")]
        if let Some(mine) = mine {
            seen.push(outages.remove(mine).from_ms as f64 - command);
        }
    }
    tell("command to proven effect", &mut proven);
    tell("command to the first datagram lost, seen from outside, 10 ms apart", &mut seen);
}

fn cut_in_two_halves() {
    let namespace = Namespace::new("halves");
    let ns = namespace.name();
    let few = ["few-a", "few-b"].map(|name| echo_pods(&namespace, name, 1));
    let left = echo_pods(&namespace, "left", HALF);
    let right = echo_pods(&namespace, "right", HALF);
    println!("{} and {} pods", left.len(), right.len());
    drop(few);
    let between = |a: &str, b: &str| {
        format!(
            "apiVersion: faultline.dev/v1alpha1
kind: Experiment
metadata: {{ name: halves }}
spec:
  targets:
    a: {{ namespace: {ns}, labels: {{ app: {a} }} }}
    b: {{ namespace: {ns}, labels: {{ app: {b} }} }}
  method:
    - partition: {{ between: [a, b] }}
      for: 3s
"
        )
    };
    for _ in 0..5 {
        let before = requests();
        let report = run(&between("few-a", "few-b"));
        let few = since(&before);
        let mut times: Vec<f64> = effects(&report).map(|(begun, effect)| effect - begun).collect();
        tell("2 pods cut from each other: command to proven effect", &mut times);
        let before = requests();
        let report = run(&between("left", "right"));
        let many = since(&before);
        let mut times: Vec<f64> = effects(&report).map(|(begun, effect)| effect - begun).collect();
        assert_eq!(times.len(), 2 * HALF, "all of them");
        tell("60 pods cut in two halves: command to proven effect", &mut times);
        println!("  skew of the commits: {} ms", report["commitSkewMs"]);
        println!("  requests to the API server meanwhile, of 2 pods: {few:?}");
        println!("  of 60 pods: {many:?}");
    }
}

fn run(experiment: &str) -> Value {
    report_in_pod(experiment, Duration::from_mins(6))
}

/// Of each injection: when its step began, and when its effect was proven, in milliseconds of the run.
fn effects(report: &Value) -> impl Iterator<Item = (f64, f64)> {
    let begun: Vec<f64> = report["phases"]
        .as_array()
        .expect("phases")
        .iter()
        .filter(|phase| phase["phase"] == "inject")
        .filter_map(|phase| phase["beganMs"].as_f64())
        .collect();
    report["injections"].as_array().expect("injections").iter().filter_map(move |injection| {
        assert_eq!(injection["effect"], "proven", "{injection}");
        let ordered = injection["orderedAtMs"].as_f64()?;
        let begun = begun.iter().copied().filter(|begun| *begun <= ordered).fold(0.0, f64::max);
        Some((begun, ordered + injection["timeToEffectMs"].as_f64()?))
    })
}

/// How often the API server was asked so far, by verb and resource, for what runs look at.
fn requests() -> BTreeMap<String, f64> {
    let metrics = ok(&["get", "--raw", "/metrics"]);
    let mut asked = BTreeMap::new();
    for line in metrics.lines().filter(|line| line.starts_with("apiserver_request_total{")) {
        let label = |name: &str| {
            let from = line.find(&format!("{name}=\""))? + name.len() + 2;
            line[from..].split('"').next()
        };
        let (Some(verb), Some(resource)) = (label("verb"), label("resource")) else { continue };
        let counted = ["pods", "nodes", "services", "endpoints", "leases", "events", "configmaps"];
        if !counted.contains(&resource) || !["LIST", "WATCH"].contains(&verb) {
            continue;
        }
        let count = line.rsplit(' ').next().and_then(|count| count.parse::<f64>().ok());
        *asked.entry(format!("{verb} {resource}")).or_default() += count.unwrap_or(0.0);
    }
    asked
}

fn since(before: &BTreeMap<String, f64>) -> BTreeMap<String, f64> {
    let mut now = requests();
    for (what, count) in &mut now {
        *count -= before.get(what).copied().unwrap_or(0.0);
    }
    now.retain(|_, count| *count > 0.0);
    now
}

fn tell(what: &str, times: &mut [f64]) {
    times.sort_by(f64::total_cmp);
    let Some(last) = times.len().checked_sub(1) else { return println!("{what}: none") };
    let of = |percent: usize| times[(last * percent).div_ceil(100).min(last)];
    println!(
        "{what} ({} times): p50 {:.1} ms, p90 {:.1} ms, p99 {:.1} ms, max {:.1} ms",
        times.len(),
        of(50),
        of(90),
        of(99),
        times[last]
    );
}
