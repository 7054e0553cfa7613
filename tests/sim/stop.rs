//! Stop conditions: whatever a run waits for, it ends at once when one is broken, takes everything back
//! everywhere, and says which it was and where it is written.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use faultline::{
    report::{Console, Output, Report, Verdict},
    run::{Interrupt, run},
};
use faultline_tests::{
    fake_agent::{Calls, FakeAgent, Flaw},
    pki::Authority,
    sim::{experiment, place, pod},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    sync::oneshot,
};

/// How the system under test behaves once it has been cut for the first time.
#[derive(Clone, Copy, PartialEq)]
enum Then {
    /// As before.
    Well,
    /// It refuses connections.
    Refuses,
    /// It accepts connections and answers nothing.
    Hangs,
    /// It answers so much later.
    Late(Duration),
}

async fn serve(then: Then, calls: Arc<Calls>, told: oneshot::Sender<SocketAddr>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    told.send(listener.local_addr().expect("an address")).expect("somebody waits");
    loop {
        let (mut stream, _) = listener.accept().await.expect("a connection");
        let broken = FakeAgent::count(&calls.commits) > 0;
        if broken && then == Then::Refuses {
            return;
        }
        tokio::spawn(async move {
            let mut request = [0; 1024];
            drop(stream.read(&mut request).await);
            match then {
                Then::Hangs if broken => std::future::pending().await,
                Then::Late(delay) if broken => tokio::time::sleep(delay).await,
                _ => {}
            }
            let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok";
            drop(stream.write_all(answer).await);
        });
    }
}

const LONG: &str = "- partition: { between: [all, everything] }
      for: 30s";

struct Ran {
    report: Report,
    took: Duration,
    agents: Vec<FakeAgent>,
}

/// Runs `method` on a pod of each agent, with one probe and one stop condition.
async fn run_with(flaws: &[Flaw], then: Then, condition: &str, method: &str) -> Ran {
    run_until(&Interrupt::default(), flaws, then, condition, method).await
}

/// As [`run_with`], unless somebody says that it is to end.
async fn run_until(
    interrupt: &Interrupt,
    flaws: &[Flaw],
    then: Then,
    condition: &str,
    method: &str,
) -> Ran {
    let authority = Authority::new().expect("an authority");
    let (mut agents, mut pods) = (Vec::new(), Vec::new());
    for (number, flaw) in (1..).zip(flaws) {
        let node = format!("node{number}");
        agents.push(FakeAgent::start(&authority, &node, *flaw).await.expect("an agent"));
        pods.push(pod(&format!("api-{number}"), &node, number));
    }
    let (told, address) = oneshot::channel();
    let serving = tokio::spawn(serve(then, Arc::clone(&agents[0].calls), told));
    let address = address.await.expect("an address");
    let credentials = authority.controller().expect("a certificate");
    let endpoints = agents.iter().map(|agent| agent.endpoint.clone()).collect();
    let (place, _dir) = place(pods, endpoints, &credentials).expect("a place");
    let experiment = experiment(&format!(
        "targets: {{ all: {{ labels: {{ app: api }} }} }}
  probes:
    - name: api
      http: {{ url: \"http://{address}/\" }}
      every: 10ms
      timeout: 2500ms
  stopConditions:
    - {{ probe: api, {condition} }}
  method:
    {method}"
    ));
    let began = Instant::now();
    let report = run(&experiment, &place, &Console::new(Output::Json), interrupt).await;
    serving.abort();
    Ran { report, took: began.elapsed(), agents }
}

impl Ran {
    /// That it was ended long before its time, by the condition.
    #[track_caller]
    fn check_stopped(&self, said: &str) {
        let Self { report, took, .. } = self;
        assert_eq!((report.verdict, report.exit_code), (Verdict::Deviated, 1), "{report:#?}");
        let reason = &report.reasons[0];
        assert!(reason.starts_with("stop condition: ") && reason.contains(said), "{reason}");
        assert!(reason.ends_with(" (test.yaml:12)"), "{reason}");
        assert_eq!(report.stopped.as_ref().map(|stopped| &stopped.reason), Some(reason));
        // An agent that does not answer at all is given up after 10 s, the method takes 30 s.
        assert!(*took < Duration::from_secs(8), "{took:?}");
        assert_eq!(report.residue, Vec::<String>::new());
        for agent in &self.agents {
            assert!(FakeAgent::count(&agent.calls.reverts) > 0, "everywhere: {report:#?}");
        }
    }
}

#[tokio::test]
async fn an_outage_ends_a_run_and_how_long_the_way_back_took_is_measured() {
    let condition = "success: \"< 50%\", over: 500ms";
    let ran = run_with(&[Flaw::None; 2], Then::Refuses, condition, LONG).await;
    ran.check_stopped("probe `api` succeeded");
    let stopped = ran.report.stopped.as_ref().expect("it was stopped");
    assert!(stopped.time_to_reverted_ms.is_some_and(|ms| ms > 0.0), "{stopped:?}");
    assert!(stopped.at_ms > 1_000.0, "after the look at the steady state: {stopped:?}");
}

#[tokio::test]
async fn what_is_slow_or_says_nothing_ends_a_run() {
    let late = Then::Late(Duration::from_millis(100));
    let condition = "latency: { p90: \"> 50ms\" }, over: 500ms";
    run_with(&[Flaw::None], late, condition, LONG).await.check_stopped("the p90 of the latency");
    let ran = run_with(&[Flaw::None], Then::Hangs, "unobserved: 500ms", LONG).await;
    ran.check_stopped("observed nothing for");
}

#[tokio::test]
async fn nothing_is_injected_into_what_is_too_bad_already() {
    // Nobody answers that fast: it is broken as soon as it is looked at.
    let condition = "latency: { p50: \"> 1us\" }, over: 500ms";
    let ran = run_with(&[Flaw::None], Then::Well, condition, LONG).await;
    assert_eq!((ran.report.verdict, ran.report.exit_code), (Verdict::Refused, 3));
    let reason = &ran.report.reasons[0];
    assert!(reason.contains("before anything is injected: "), "{reason}");
    assert!(reason.ends_with(" (test.yaml:12)"), "{reason}");
    assert_eq!(FakeAgent::count(&ran.agents[0].calls.commits), 0);
    assert!(ran.report.injections.is_empty());
}

#[tokio::test]
async fn an_attempt_that_waits_for_its_answer_keeps_nobody_from_ending_a_run() {
    let short = "- partition: { between: [all, everything] }
      for: 300ms";
    // While a fault is in effect, and after the last one, when only attempts are waited for.
    for (method, after_ms) in [(LONG, 2_000), (short, 2_500)] {
        let interrupt = Interrupt::default();
        let later = interrupt.clone();
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(after_ms)).await;
            later.set();
        });
        let condition = "unobserved: 1m";
        let ran = run_until(&interrupt, &[Flaw::None], Then::Hangs, condition, method).await;
        assert_eq!(ran.report.verdict, Verdict::Interrupted, "{:#?}", ran.report);
        assert_eq!(ran.report.residue, Vec::<String>::new());
        // An attempt may take 5 s.
        assert!(ran.took < Duration::from_millis(after_ms + 2_000), "{:?}", ran.took);
    }
}

#[tokio::test]
async fn what_stays_within_its_bounds_ends_nothing() {
    let short = "- partition: { between: [all, everything] }
      for: 500ms";
    let condition = "success: \"< 50%\", over: 200ms, unobserved: 5s";
    let ran = run_with(&[Flaw::None], Then::Well, condition, short).await;
    assert_eq!(ran.report.verdict, Verdict::Held, "{:#?}", ran.report);
    assert!(ran.report.stopped.is_none());
}

#[tokio::test]
async fn nothing_that_a_run_waits_for_keeps_it_from_ending() {
    let twice = "- partition: { between: [all, everything] }
      for: 100ms
    - partition: { between: [all, everything] }
      for: 30s";
    let waiting = "- partition: { between: [all, everything] }
      for: 100ms
    - wait: 30s";
    for (flaw, over, method) in [
        // While a Commit is not answered, while a Prepare is not, and while nothing is to be done.
        (Flaw::HangsAtCommit, "500ms", LONG),
        (Flaw::HangsAtMore, "1s", twice),
        (Flaw::None, "1s", waiting),
    ] {
        let condition = format!("success: \"< 50%\", over: {over}");
        let ran = run_with(&[Flaw::None, flaw], Then::Refuses, &condition, method).await;
        println!("{flaw:?}: {:?}", ran.report.stopped);
        ran.check_stopped("probe `api` succeeded");
    }
}

#[tokio::test]
async fn a_node_that_does_not_revert_is_told_as_residue_and_holds_up_nobody() {
    let condition = "success: \"< 50%\", over: 500ms";
    let ran = run_with(&[Flaw::None, Flaw::Stuck], Then::Refuses, condition, LONG).await;
    assert_eq!(ran.report.verdict, Verdict::Residue, "{:#?}", ran.report);
    assert!(ran.report.reasons[0].starts_with("stop condition: "), "{:?}", ran.report.reasons);
    let stopped = ran.report.stopped.as_ref().expect("it was stopped");
    assert_eq!(stopped.time_to_reverted_ms, None, "not everything was reverted");
    let well = ran.report.injections.iter().find(|i| i.node == "node1").expect("the other one");
    assert!(well.lasted_ms.is_some_and(|ms| ms < 5_000.0), "{well:?}");
}

/// Answers every query like a Prometheus server, with `after` once something has been cut.
async fn prometheus(after: &str, calls: Arc<Calls>, told: oneshot::Sender<SocketAddr>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    told.send(listener.local_addr().expect("an address")).expect("somebody waits");
    loop {
        let (mut stream, _) = listener.accept().await.expect("a connection");
        let before = if after == NAN { NAN } else { "0.01" };
        let value = if FakeAgent::count(&calls.commits) > 0 { after } else { before };
        let mut request = [0; 4096];
        drop(stream.read(&mut request).await);
        let body = format!(
            "{{\"status\":\"success\",\"data\":{{\"resultType\":\"scalar\",\"result\":[1,\"{value}\"]}}}}"
        );
        let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close";
        let answer = format!("{head}\r\ncontent-length: {}\r\n\r\n{body}", body.len());
        drop(stream.write_all(answer.as_bytes()).await);
    }
}

/// What Prometheus answers when there is nothing to divide by.
const NAN: &str = "NaN";

/// Runs `method`, with a condition on a query that is answered so once something has been cut.
async fn run_query(after: &'static str, condition: &str, method: &str) -> Report {
    let authority = Authority::new().expect("an authority");
    let agent = FakeAgent::start(&authority, "node1", Flaw::None).await.expect("an agent");
    let (told, address) = oneshot::channel();
    let serving = tokio::spawn(prometheus(after, Arc::clone(&agent.calls), told));
    let address = address.await.expect("an address");
    let credentials = authority.controller().expect("a certificate");
    let pods = vec![pod("api-1", "node1", 1)];
    let (place, _dir) = place(pods, vec![agent.endpoint.clone()], &credentials).expect("a place");
    let experiment = experiment(&format!(
        "targets: {{ all: {{ labels: {{ app: api }} }} }}
  stopConditions:
    - {{ prometheus: {{ server: \"http://{address}\", query: \"errors\" }}, {condition} }}
  method:
    {method}"
    ));
    let report = run(&experiment, &place, &Console::new(Output::Json), &Interrupt::default()).await;
    serving.abort();
    report
}

#[tokio::test]
async fn what_prometheus_answers_ends_a_run() {
    let report = run_query("0.5", "value: \"> 0.25\", for: 1s", LONG).await;
    assert_eq!((report.verdict, report.exit_code), (Verdict::Deviated, 1), "{report:#?}");
    let reason = &report.reasons[0];
    assert!(reason.contains("the value of probe `stop-condition-1` is 0.5"), "{reason}");
    assert!(reason.ends_with("(test.yaml:7)"), "{reason}");
}

#[tokio::test]
async fn what_is_not_a_number_is_none_and_a_condition_that_saw_none_proves_nothing() {
    let short = "- partition: { between: [all, everything] }
      for: 500ms";
    let report = run_query(NAN, "value: \"> 0.25\"", short).await;
    assert_eq!((report.verdict, report.exit_code), (Verdict::Deviated, 1), "{report:#?}");
    let said = "inconclusive: a stop condition never saw a number of probe `stop-condition-1` (test.yaml:7)";
    assert_eq!(report.reasons, [said]);
    assert!(report.stopped.is_none());

    let method = format!("- wait: 2s\n    {LONG}");
    let report = run_query(NAN, "value: \"> 0.25\", unobserved: 1s", &method).await;
    assert_eq!(report.exit_code, 3, "nobody is to be hit unseen: {report:#?}");
    assert!(report.reasons[0].contains("gave no number for"), "{:?}", report.reasons);
}
