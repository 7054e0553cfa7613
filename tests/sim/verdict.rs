//! What a run makes of its probes: an honest agent, and a system under test that is well, breaks when
//! the fault begins, or never was well.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use faultline::{
    report::{Console, Output, Report, Verdict},
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
    let authority = Authority::new().expect("an authority");
    let agent = FakeAgent::start(&authority, "node1", Flaw::None).await.expect("an agent");
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
