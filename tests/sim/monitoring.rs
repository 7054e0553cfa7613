//! What is in `deploy/monitoring`, checked by Prometheus' own tool, and that it names nothing that nobody
//! tells. And a push, to a gateway that writes down what it gets.

use std::{
    collections::BTreeSet,
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use faultline::{
    metrics::{self, Metrics, exposition, push::Gateway},
    report::Report,
};
use faultline_tests::observer::is_installed;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

use super::fleet::honest_run;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/monitoring")
}

/// Whether Prometheus' tool is there; says so loudly if not, and fails where all is required.
fn has_promtool() -> bool {
    let is_there = is_installed("promtool");
    let required = std::env::var("FAULTLINE_REQUIRE_ALL").is_ok_and(|v| v == "1");
    assert!(is_there || !required, "promtool is needed: it is in Debian's package `prometheus`");
    if !is_there {
        eprintln!("SKIPPED: checking metrics and alerts needs promtool");
    }
    is_there
}

/// Runs promtool in the folder, with this on its standard input. It must be content.
fn promtool(args: &[&str], input: &str) {
    let mut child = Command::new("promtool")
        .args(args)
        .current_dir(folder())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool runs");
    let mut stdin = child.stdin.take().expect("piped");
    stdin.write_all(input.as_bytes()).expect("it reads");
    drop(stdin);
    let done = child.wait_with_output().expect("it ends");
    let said = [done.stdout, done.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    assert!(done.status.success(), "promtool {args:?}: {said}\n{input}");
}

fn agent_text() -> String {
    let metrics = Arc::new(faultline_agent::metrics::Metrics::default());
    exposition::classic(&metrics.text().expect("text"))
}

fn run_text(report: &Report) -> String {
    exposition::classic(&Metrics::of(report).openmetrics().expect("text"))
}

#[test]
fn configuration_and_alerts_are_what_prometheus_understands_and_do_what_their_tests_say() {
    if !has_promtool() {
        return;
    }
    promtool(&["check", "config", "prometheus.yml"], "");
    promtool(&["check", "rules", "faultline.rules.yml"], "");
    promtool(&["test", "rules", "faultline.rules.test.yml"], "");
}

#[tokio::test]
async fn metrics_of_agents_and_of_runs_are_such_as_prometheus_likes() {
    if !has_promtool() {
        return;
    }
    promtool(&["check", "metrics"], &agent_text());
    promtool(&["check", "metrics"], &run_text(&honest_run().await));
}

#[test]
fn alerts_and_dashboard_name_only_metrics_that_are_told() {
    let mut told: BTreeSet<String> = metrics::all_names().collect();
    told.extend(["faultline_agent_lease_seconds_left".into()]);
    told.insert("faultline_agent_supervisor_age_seconds".into());
    for line in agent_text().lines().filter_map(|line| line.strip_prefix("# TYPE ")) {
        let name = line.split(' ').next().unwrap_or_default();
        told.extend([name.to_owned(), format!("{name}_bucket"), format!("{name}_sum")]);
    }
    for file in ["faultline.rules.yml", "faultline.rules.test.yml", "dashboard.json"] {
        let text = fs::read_to_string(folder().join(file)).expect("it is there");
        let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        let named: BTreeSet<&str> = words
            .filter(|word| word.starts_with("faultline_") || word.starts_with("chaos_"))
            .collect();
        assert!(named.len() > 8, "{file} names metrics: {named:?}");
        for name in named {
            assert!(told.contains(name), "{file} names {name}, which nobody tells");
        }
    }
    let dashboard = fs::read_to_string(folder().join("dashboard.json")).expect("it is there");
    let dashboard: serde_json::Value = serde_json::from_str(&dashboard).expect("JSON");
    let panels = dashboard["panels"].as_array().expect("panels");
    let ids: BTreeSet<u64> = panels.iter().filter_map(|panel| panel["id"].as_u64()).collect();
    assert_eq!(ids.len(), panels.len(), "every panel has an id of its own");
}

/// A gateway that answers so, and what it was sent.
async fn gateway(answer: &'static str) -> (Gateway, tokio::task::JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}/base/", listener.local_addr().expect("an address"));
    let task = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.expect("somebody");
        let mut got = String::new();
        let mut part = [0; 4096];
        while !is_whole(&got) {
            let len = stream.read(&mut part).await.expect("more");
            assert!(len > 0, "it broke off: {got}");
            got.push_str(&String::from_utf8_lossy(&part[..len]));
        }
        stream.write_all(answer.as_bytes()).await.expect("answered");
        got
    });
    (url.parse().expect("a gateway"), task)
}

fn is_whole(request: &str) -> bool {
    let Some((head, body)) = request.split_once("\r\n\r\n") else { return false };
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    length.and_then(|text| text.parse::<usize>().ok()).is_some_and(|length| body.len() >= length)
}

#[tokio::test]
async fn a_run_is_pushed_to_the_group_of_its_experiment() {
    let report = honest_run().await;
    let (gateway, got) = gateway("HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n").await;
    gateway.push(&report.experiment, &Metrics::of(&report)).await.expect("pushed");
    let got = got.await.expect("a request");
    let head = "PUT /base/metrics/job/faultline/instance/test HTTP/1.1\r\n";
    assert!(got.starts_with(head), "{got}");
    assert!(got.contains("content-type: text/plain; version=0.0.4"), "{got}");
    let proven = "faultline_run_injections_total{experiment=\"test\",kind=\"partition\",effect=\"proven\"} 3\n";
    assert!(got.contains(proven), "{got}");
    assert!(!got.contains("# EOF"), "not what a gateway reads: {got}");
}

#[tokio::test]
async fn a_gateway_that_refuses_hangs_or_is_not_there_is_named() {
    let metrics = Metrics::of(&honest_run().await);
    let (refusing, _got) =
        gateway("HTTP/1.1 400 Bad Request\r\nContent-Length: 9\r\n\r\nno thanks").await;
    let why = refusing.push("x", &metrics).await.expect_err("refused");
    assert!(why.contains("400 Bad Request: no thanks"), "{why}");

    let silent = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = silent.local_addr().expect("an address");
    let hanging: Gateway = format!("http://{address}").parse().expect("a gateway");
    let begun = Instant::now();
    let why = hanging.push("x", &metrics).await.expect_err("no answer");
    assert!(why.contains("did not answer within 5s"), "{why}");
    assert!(begun.elapsed() < Duration::from_secs(30), "bounded");

    drop(silent);
    let why = hanging.push("x", &metrics).await.expect_err("nobody");
    assert!(why.contains(&address.to_string()) && why.contains("refused"), "{why}");
}
