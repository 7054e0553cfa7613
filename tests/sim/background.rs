//! A load that goes on all the time: how many requests come is counted by the server that they come to,
//! and what could not be tried is told as such.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use faultline::{
    report::{Console, Output, Report, Verdict},
    run::{Interrupt, run},
};
use faultline_probe::FailureKind;
use faultline_tests::{
    fake_agent::{FakeAgent, Flaw},
    pki::Authority,
    sim::{experiment, place, pod},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

/// Runs a fault of half a second under a load. The server accepts connections, and while the fault is in
/// effect it accepts none.
async fn run_under(load: &str, blind: bool) -> (Report, u64) {
    let authority = Authority::new().expect("an authority");
    let agent = FakeAgent::start(&authority, "node1", Flaw::None).await.expect("an agent");
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let (seen, calls) = (Arc::<AtomicU64>::default(), Arc::clone(&agent.calls));
    let counted = Arc::clone(&seen);
    let serving = tokio::spawn(async move {
        let mut held = Vec::new();
        loop {
            let (stream, _) = listener.accept().await.expect("a connection");
            counted.fetch_add(1, Ordering::SeqCst);
            let broken = FakeAgent::count(&calls.commits) > FakeAgent::count(&calls.reverts);
            if blind && broken {
                // Accepted, and never answered.
                held.push(stream);
                continue;
            }
            tokio::spawn(async move {
                let mut stream = stream;
                let mut request = [0; 1024];
                drop(stream.read(&mut request).await);
                let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok";
                drop(stream.write_all(answer).await);
            });
        }
    });
    let credentials = authority.controller().expect("a certificate");
    let pods = vec![pod("api-1", "node1", 1)];
    let (place, _dir) = place(pods, vec![agent.endpoint.clone()], &credentials).expect("a place");
    let load = load.replace("ADDRESS", &address.to_string());
    let experiment = experiment(&format!(
        "targets: {{ all: {{ labels: {{ app: api }} }} }}
  background:
    - {load}
  method:
    - partition: {{ between: [all, everything] }}
      for: 1s"
    ));
    let report = run(&experiment, &place, &Console::new(Output::Json), &Interrupt::default()).await;
    serving.abort();
    (report, seen.load(Ordering::SeqCst))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_come_at_the_rate_that_was_asked_for_and_each_is_counted() {
    let load = "{ name: load, http: { url: \"http://ADDRESS/\" }, rate: 400/s }";
    let (report, seen) = run_under(load, false).await;
    assert_eq!(report.verdict, Verdict::Held, "{report:#?}");
    let probe = &report.probes[0];
    assert!(probe.is_load && (probe.every_ms - 2.5).abs() < 1e-9, "{}", probe.every_ms);
    // Two seconds of it, as the server counts them.
    let counted = f64::from(u32::try_from(seen).expect("few enough"));
    let asked = report.duration_ms / probe.every_ms;
    assert!((counted - asked).abs() < asked / 10.0, "{counted} came, {asked} were asked for");
    let told = probe.series.attempts.iter().sum::<u32>();
    assert!(u64::from(told).abs_diff(seen) <= seen / 20, "{told} are told, {seen} came");
    assert_eq!(probe.during.failures.len(), 0, "{:?}", probe.during);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_could_not_be_tried_is_no_failure_and_nothing_held() {
    let load = "{ name: load, http: { url: \"http://ADDRESS/\" }, rate: 1000/s, timeout: 2s,
        during: { success: \"< 20%\" } }";
    let (report, _) = run_under(load, true).await;
    let during = &report.probes[0].during;
    let count = |among: &BTreeMap<FailureKind, u64>, name: &str| {
        let found = among.iter().find(|(kind, _)| kind.to_string() == name);
        found.map_or(0, |(_, count)| *count)
    };
    let dropped = count(&during.unobserved, "dropped");
    assert!(dropped > 100, "most of a second at 1000/s: {during:?}");
    let waited = count(&during.failures, "timeout");
    assert!((1..=256).contains(&waited), "as many as may wait: {during:?}");
    assert!(during.attempts >= during.successes + waited, "nothing is hidden: {during:?}");
    assert_eq!(report.verdict, Verdict::Deviated, "fewer than asked is not seen: {report:#?}");
    assert!(report.reasons[0].contains("inconclusive: observed nothing"), "{:?}", report.reasons);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_load_is_judged_like_a_probe_where_that_is_asked() {
    let load = "{ name: load, http: { url: \"http://ADDRESS/\" }, rate: 200/s, timeout: 200ms,
        steady: { success: \">= 99%\" }, during: { success: \">= 90%\" } }";
    let (report, _) = run_under(load, true).await;
    assert_eq!(report.verdict, Verdict::Deviated, "{report:#?}");
    assert!(report.reasons[0].contains("probe `load` succeeded"), "{:?}", report.reasons);
}
