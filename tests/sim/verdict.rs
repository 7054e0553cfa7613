//! What a run makes of its probes: an honest agent, and a system under test that is well, breaks when
//! the fault begins, or never was well.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use faultline::{
    report::{Console, Outcome, Output, Report, Verdict},
    run::{Interrupt, run},
};
use faultline_tests::{
    fake_agent::{Calls, FakeAgent, Flaw},
    pki::Authority,
    sim::{experiment, place, pod},
};
use tokio::net::TcpListener;

const CUT: &str = "- partition: { between: [all, everything] }
      for: 400ms";

/// How the system under test behaves.
#[derive(Clone, Copy)]
enum System {
    /// It accepts connections all the time.
    Well,
    /// From the n-th commit on it refuses them, for so long.
    Breaks(u32, Duration),
    /// It never accepted any.
    Absent,
}

const FOR_EVER: Duration = Duration::from_hours(1);

/// Accepts connections at an address of its own, or not.
async fn serve(system: System, calls: Arc<Calls>, told: tokio::sync::oneshot::Sender<SocketAddr>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    told.send(address).expect("somebody waits");
    let accept = async |listener: &TcpListener| loop {
        drop(listener.accept().await);
    };
    match system {
        System::Well => accept(&listener).await,
        System::Absent => {}
        System::Breaks(commits, pause) => {
            let broken = async {
                while FakeAgent::count(&calls.commits) < commits {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
            };
            tokio::select! {
                () = accept(&listener) => {}
                () = broken => {}
            }
            drop(listener);
            tokio::time::sleep(pause).await;
            let listener = TcpListener::bind(address).await.expect("the same port again");
            accept(&listener).await;
        }
    }
}

/// Runs `method` with one tcp probe that has these bounds.
async fn run_with(system: System, bounds: &str, method: &str) -> (Report, u32) {
    run_against(system, Flaw::None, bounds, method).await
}

/// The same, with an agent that has this flaw.
async fn run_against(system: System, flaw: Flaw, bounds: &str, method: &str) -> (Report, u32) {
    let authority = Authority::new().expect("an authority");
    let agent = FakeAgent::start(&authority, "node1", flaw).await.expect("an agent");
    let (told, address) = tokio::sync::oneshot::channel();
    let serving = tokio::spawn(serve(system, Arc::clone(&agent.calls), told));
    let address = address.await.expect("an address");
    let credentials = authority.controller().expect("a certificate");
    let (place, _dir) =
        place(vec![pod("api-1", "node1", 1)], vec![agent.endpoint.clone()], &credentials)
            .expect("a place");
    let experiment = experiment(&format!(
        "targets: {{ all: {{ labels: {{ app: api }} }} }}
  probes:
    - name: api
      tcp: {{ address: \"{address}\" }}
      every: 10ms
      steady: {{ success: \">= 99%\" }}
{bounds}
  method:
    {method}"
    ));
    let console = Console::new(Output::Json);
    let report = run(&experiment, &place, &console, &Interrupt::default()).await;
    serving.abort();
    (report, FakeAgent::count(&agent.calls.commits))
}

#[tokio::test]
async fn what_stays_well_holds_and_has_nothing_to_recover_from() {
    let bounds = "      during: { success: \">= 99%\" }
      recovery: { within: 2s, stableFor: 100ms }";
    let (report, _) = run_with(System::Well, bounds, CUT).await;
    assert_eq!(report.verdict, Verdict::Held, "{report:#?}");
    let probe = &report.probes[0];
    assert_eq!((probe.downtime.outages, probe.during.within), (0, Some(true)));
    assert_eq!(probe.time_to_detect_ms, None);
    assert_eq!(probe.time_to_recover_ms, None, "nothing failed");
}

#[tokio::test]
async fn a_bound_that_is_not_kept_deviates_and_says_by_how_much() {
    let bounds = "      during: { success: \">= 99%\" }
      recovery: { within: 2s, stableFor: 100ms }";
    let system = System::Breaks(1, Duration::from_millis(300));
    let (report, _) = run_with(system, bounds, CUT).await;
    assert_eq!(report.verdict, Verdict::Deviated, "{report:#?}");
    assert_eq!(report.exit_code, 1);
    assert_eq!(report.reasons.len(), 1, "{:?}", report.reasons);
    let reason = &report.reasons[0];
    assert!(reason.contains("during the fault, probe `api` succeeded"), "{reason}");
    assert!(reason.contains("and >= 99% is asked (connection refused)"), "{reason}");
    let downtime = report.probes[0].downtime;
    let (total, uncertainty) = (downtime.total_ms, downtime.uncertainty_ms);
    assert!((total - 300.0).abs() <= uncertainty + 50.0, "{total} ± {uncertainty}");
}

#[tokio::test]
async fn what_does_not_recover_in_time_deviates() {
    let bounds = "      recovery: { within: 200ms, stableFor: 100ms }";
    let (report, _) = run_with(System::Breaks(1, FOR_EVER), bounds, CUT).await;
    assert_eq!(report.verdict, Verdict::Deviated, "{report:#?}");
    assert!(report.reasons[0].contains("did not recover within 200ms"), "{:?}", report.reasons);
    assert!(report.probes[0].downtime.ongoing);
}

#[tokio::test]
async fn a_recovery_that_comes_too_late_deviates_and_is_measured() {
    let bounds = "      recovery: { within: 100ms, stableFor: 400ms }";
    let system = System::Breaks(1, Duration::from_millis(700));
    let (report, _) = run_with(system, bounds, CUT).await;
    assert_eq!(report.verdict, Verdict::Deviated, "{report:#?}");
    assert_eq!(report.reasons.len(), 1, "{:?}", report.reasons);
}

#[tokio::test]
async fn what_was_never_well_is_not_experimented_on() {
    let (report, commits) = run_with(System::Absent, "", CUT).await;
    assert_eq!(report.verdict, Verdict::Refused, "{report:#?}");
    assert_eq!(report.exit_code, 3);
    assert!(report.reasons[0].contains("not steady: probe `api` succeeded 0 of"), "{report:#?}");
    assert_eq!((commits, report.injections.len()), (0, 0), "nothing was touched");
}

#[tokio::test]
async fn recovery_counts_from_the_last_fault_that_is_over_at_once() {
    let bounds = "      recovery: { within: 300ms, stableFor: 100ms }";
    let method = "- kill: { target: all }
    - wait: 600ms
    - kill: { target: all }";
    let (report, commits) = run_with(System::Breaks(2, FOR_EVER), bounds, method).await;
    assert_eq!(commits, 2);
    // It was well for long after the first one. That is not what was asked.
    assert_eq!(report.verdict, Verdict::Deviated, "{report:#?}");
    assert!(report.reasons[0].contains("did not recover"), "{:?}", report.reasons);
}

#[tokio::test]
async fn assertions_are_judged_one_by_one_and_the_first_that_is_broken_is_the_reason() {
    let system = System::Breaks(1, Duration::from_millis(300));
    let bounds = "      recovery: { within: 3s, stableFor: 100ms }";
    let method = &format!(
        "{CUT}
  assertions:
    - {{ downtime: \"< 5s\", probe: api }}
    - {{ longestOutage: \"< 100ms\" }}
    - {{ outages: \"<= 1\" }}
    - {{ availability: \">= 99.9%\" }}
    - {{ errors: \">= 5\" }}
    - {{ max: \"< 30s\", when: before }}
    - {{ timeToDetect: \"< 3s\" }}
    - {{ timeToRecover: \"< 3s\" }}
    - {{ timeToEffect: \"< 10s\" }}
    - {{ commitSkew: \"<= 0s\" }}"
    );
    let (report, _) = run_with(system, bounds, method).await;
    assert_eq!(report.verdict, Verdict::Deviated, "{report:#?}");
    let broken: Vec<&str> = report
        .assertions
        .iter()
        .filter(|assertion| assertion.outcome == Outcome::Deviated)
        .map(|assertion| assertion.measure.as_str())
        .collect();
    assert_eq!(broken, ["longestOutage", "availability"], "{:#?}", report.assertions);
    let held = report.assertions.iter().filter(|a| a.outcome == Outcome::Held).count();
    assert_eq!(held, 8, "{:#?}", report.assertions);
    let reason = &report.reasons[0];
    assert!(reason.starts_with("longestOutage < 100ms is asked, was "), "{reason}");
    assert!(reason.ends_with("(probe `api`) (test.yaml:17)"), "{reason}");
}

#[tokio::test]
async fn what_cannot_be_said_is_not_held() {
    let method = &format!(
        "{CUT}
  assertions:
    - {{ timeToDetect: \"< 10s\" }}
    - {{ downtime: \"<= 0s\" }}"
    );
    let (report, _) = run_with(System::Well, "", method).await;
    assert_eq!(report.verdict, Verdict::Deviated, "{report:#?}");
    assert_eq!(report.assertions[0].outcome, Outcome::Inconclusive, "nothing failed");
    assert!(report.reasons[0].contains("nothing failed"), "{:?}", report.reasons);
}

#[tokio::test]
async fn latencies_have_bounds_before_and_during() {
    let bounds = "      during: { latency: { p99: \"< 1us\" } }";
    let (report, _) = run_with(System::Well, bounds, CUT).await;
    assert_eq!(report.verdict, Verdict::Deviated, "{report:#?}");
    let reason = &report.reasons[0];
    assert!(reason.starts_with("during the fault, probe `api` had a p99 of "), "{reason}");
    assert!(reason.ends_with(", and < 1us is asked"), "{reason}");
    assert_eq!(report.probes[0].during.within, Some(false));
}

#[tokio::test]
async fn agents_that_lie_or_are_late_make_no_run_held() {
    let bounds = "      recovery: { within: 2s, stableFor: 100ms }";
    let method = &format!("{CUT}\n  assertions:\n    - {{ timeToEffect: \"< 10s\" }}");
    for flaw in [
        Flaw::NoEffect,
        Flaw::LiesAboutTarget,
        Flaw::LiesAboutResidue,
        Flaw::Forgets,
        Flaw::LosesLease,
        Flaw::KnowsNothing,
        Flaw::Stuck,
    ] {
        let (report, _) = run_against(System::Well, flaw, bounds, method).await;
        assert_ne!(report.verdict, Verdict::Held, "{flaw:?}: {report:#?}");
        assert!(!report.reasons.is_empty() || !report.residue.is_empty(), "{flaw:?}");
    }
}
