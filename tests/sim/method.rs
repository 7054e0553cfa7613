//! What is repeated, times in which nothing is to be in effect, and nodes that are halted between steps.

use std::{sync::Arc, time::Duration};

use faultline::{
    report::{Console, Output, Report, Verdict},
    run::{Interrupt, run},
};
use faultline_tests::{
    fake_agent::{FakeAgent, Flaw},
    pki::Authority,
    sim::{experiment, place, pod},
};
use tokio::net::TcpListener;

struct Ran {
    report: Report,
    commits: u32,
}

/// Runs `method` on one pod, does something once it has been injected on for the first time, and probes
/// a port that is closed after so many commits.
async fn run_with(method: &str, closed_after: u32, middle: impl AsyncFnOnce(&FakeAgent)) -> Ran {
    run_on(Flaw::None, method, closed_after, middle).await
}

async fn run_on(
    flaw: Flaw,
    method: &str,
    closed_after: u32,
    middle: impl AsyncFnOnce(&FakeAgent),
) -> Ran {
    let authority = Authority::new().expect("an authority");
    let agent = FakeAgent::start(&authority, "node1", flaw).await.expect("an agent");
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let calls = Arc::clone(&agent.calls);
    let serving = tokio::spawn(async move {
        while FakeAgent::count(&calls.commits) < closed_after {
            drop(tokio::time::timeout(Duration::from_millis(5), listener.accept()).await);
        }
    });
    let credentials = authority.controller().expect("a certificate");
    let pods = vec![pod("api-1", "node1", 1)];
    let (place, _dir) = place(pods, vec![agent.endpoint.clone()], &credentials).expect("a place");
    let experiment = experiment(&format!(
        "seed: 7
  targets: {{ all: {{ labels: {{ app: api }} }} }}
  probes:
    - name: api
      tcp: {{ address: \"{address}\" }}
      every: 10ms
      steady: {{ success: \">= 99%\" }}
  method:
    {method}"
    ));
    let (console, interrupt) = (Console::new(Output::Json), Interrupt::default());
    let running = run(&experiment, &place, &console, &interrupt);
    let changing = async {
        while FakeAgent::count(&agent.calls.commits) == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        middle(&agent).await;
    };
    let (report, ()) = tokio::join!(running, changing);
    serving.abort();
    Ran { report, commits: FakeAgent::count(&agent.calls.commits) }
}

const NEVER: u32 = u32::MAX;

async fn nothing(_: &FakeAgent) {}

#[tokio::test]
async fn every_round_is_an_injection_of_its_own_that_is_reverted() {
    let method = "- repeat:
        times: 3
        every: 300ms
        jitter: 20%
        steps:
          - partition: { between: [all, everything] }
            for: 100ms
          - kill: { target: all }
    - kill: { target: all }";
    let Ran { report, commits } = run_with(method, NEVER, nothing).await;
    assert_eq!(report.verdict, Verdict::Held, "{report:#?}");
    assert_eq!(commits, 7);
    let kinds: Vec<&str> = report.injections.iter().map(|i| i.kind.as_str()).collect();
    let round = ["partition", "kill"];
    assert_eq!(kinds, [&round[..], &round, &round, &["kill"]].concat());
    assert!(report.injections.iter().all(|i| i.state == "reverted"), "{report:#?}");
}

#[tokio::test]
async fn no_round_begins_after_its_time() {
    let method = "- repeat:
        for: 700ms
        every: 300ms
        steps:
          - partition: { between: [all, everything] }
            for: 50ms";
    let Ran { report, commits } = run_with(method, NEVER, nothing).await;
    assert_eq!((report.verdict, commits), (Verdict::Held, 3), "{report:#?}");
}

#[tokio::test]
async fn a_quiet_time_is_steady_again_or_the_method_goes_no_further() {
    let method = "- kill: { target: all }
    - quiet: 300ms
    - kill: { target: all }";
    let Ran { report, commits } = run_with(method, NEVER, nothing).await;
    assert_eq!((report.verdict, commits), (Verdict::Held, 2), "{report:#?}");

    let Ran { report, commits } = run_with(method, 1, nothing).await;
    assert_eq!((report.verdict, report.exit_code), (Verdict::Deviated, 1), "{report:#?}");
    assert_eq!(commits, 1, "nothing is done to a system that is not well");
    let reason = &report.reasons[0];
    assert!(reason.contains("in a quiet time: not steady: probe `api` succeeded"), "{reason}");
    assert!(reason.ends_with("(test.yaml:14)"), "{reason}");
}

#[tokio::test]
async fn where_nobody_says_what_is_in_effect_a_quiet_time_is_not_quiet() {
    let method = "- partition: { between: [all, everything] }
      for: 100ms
    - quiet: 300ms
    - kill: { target: all }";
    let Ran { report, commits } = run_on(Flaw::HangsAtListing, method, NEVER, nothing).await;
    assert_eq!((report.verdict, commits), (Verdict::Deviated, 1), "{report:#?}");
    let reason = &report.reasons[0];
    let said = "inconclusive: in a quiet time, nobody says what is in effect on node1: ";
    assert!(reason.starts_with(said) && reason.ends_with("(test.yaml:15)"), "{reason}");
}

#[tokio::test]
async fn a_halt_between_two_steps_ends_the_run_also_when_it_has_been_ended_itself() {
    for pause in ["wait: 30s", "quiet: 30s"] {
        let method = format!(
            "- kill: {{ target: all }}
    - {pause}
    - kill: {{ target: all }}"
        );
        let began = std::time::Instant::now();
        let halt = async |agent: &FakeAgent| {
            tokio::time::sleep(Duration::from_millis(300)).await;
            agent.halt_and_resume();
        };
        let Ran { report, commits } = run_with(&method, NEVER, halt).await;
        assert_eq!(report.verdict, Verdict::Interrupted, "{report:#?}");
        assert_eq!((report.exit_code, commits), (130, 1), "{report:#?}");
        assert!(report.reasons[0].contains("node1 was halted"), "{:?}", report.reasons);
        assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    }
}
