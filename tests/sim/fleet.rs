//! Whole runs against faulty agents: what the controller makes of them, and that nothing happens
//! anywhere when one node refuses.

use std::{
    sync::{Arc, PoisonError},
    time::{Duration, Instant},
};

use faultline::{
    agents::ANSWER_MAX,
    report::{Console, Output, Report, Verdict},
    run::{Interrupt, run},
};
use faultline_tests::{
    fake_agent::{FakeAgent, Flaw},
    pki::Authority,
    sim::{experiment, place, pod},
};

/// A run on three nodes, whose agents have these flaws. Everything else of it is in order.
async fn run_on(flaws: [Flaw; 3]) -> (Report, Vec<FakeAgent>) {
    run_with(flaws, false).await
}

/// With `interrupt`, one comes as soon as all of them have committed.
async fn run_with(flaws: [Flaw; 3], interrupt: bool) -> (Report, Vec<FakeAgent>) {
    let authority = Authority::new().expect("an authority");
    let mut agents = Vec::new();
    let mut pods = Vec::new();
    for (i, flaw) in (1_u8..).zip(flaws) {
        let node = format!("node{i}");
        pods.push(pod(&format!("api-{i}"), &node, i));
        agents.push(FakeAgent::start(&authority, &node, flaw).await.expect("an agent"));
    }
    let endpoints = agents.iter().map(|agent| agent.endpoint.clone()).collect();
    let credentials = authority.controller().expect("a certificate");
    let (place, _dir) = place(pods, endpoints, &credentials).expect("a place");
    let experiment = experiment(
        "lease: 500ms
  targets: { all: { labels: { app: api } } }
  method:
    - partition: { between: [all, everything] }
      for: 400ms",
    );
    let (console, told) = (Console::new(Output::Json), Interrupt::default());
    let calls: Vec<_> = agents.iter().map(|agent| Arc::clone(&agent.calls)).collect();
    let interrupting = told.clone();
    let waiting = tokio::spawn(async move {
        while !calls.iter().all(|calls| FakeAgent::count(&calls.commits) > 0) {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        if interrupt {
            interrupting.set();
        }
    });
    let report = run(&experiment, &place, &console, &told).await;
    waiting.abort();
    (report, agents)
}

fn says(report: &Report, text: &str) -> bool {
    report.reasons.iter().chain(&report.residue).any(|reason| reason.contains(text))
}

/// What a run comes to in which everything is in order.
pub(super) async fn honest_run() -> Report {
    run_on([Flaw::None; 3]).await.0
}

#[tokio::test]
async fn honest_agents_give_a_verdict() {
    let (report, agents) = run_on([Flaw::None; 3]).await;
    assert_eq!(report.verdict, Verdict::Held, "{report:#?}");
    assert_eq!(report.injections.len(), 3);
    for injection in &report.injections {
        assert_eq!((injection.namespace.as_str(), injection.app.as_deref()), ("shop", Some("api")));
        let counted = injection.counted.as_ref().expect("a partition is counted");
        assert_eq!((counted.family.name(), counted.variety.as_str()), ("partition", "two-way"));
    }
    for agent in &agents {
        assert_eq!(FakeAgent::count(&agent.calls.commits), 1);
        assert!(
            FakeAgent::count(&agent.calls.renewals) >= 1,
            "leases are renewed from the commit on"
        );
    }
    let times: Vec<Instant> = agents
        .iter()
        .filter_map(|a| *a.calls.committed.lock().unwrap_or_else(PoisonError::into_inner))
        .collect();
    let skew = *times.iter().max().expect("three") - *times.iter().min().expect("three");
    assert!(skew < Duration::from_millis(100), "committed at one instant, not {skew:?} apart");
    assert!(report.commit_skew_ms.is_some());
}

#[tokio::test]
async fn if_one_refuses_nothing_happens_anywhere() {
    for flaw in [Flaw::RefusesPrepare, Flaw::RefusesPlan] {
        let (report, agents) = run_on([Flaw::None, Flaw::None, flaw]).await;
        assert_eq!(report.verdict, Verdict::Refused, "{flaw:?}: {report:#?}");
        assert!(says(&report, "node3"), "{:?}", report.reasons);
        for agent in &agents {
            assert_eq!(FakeAgent::count(&agent.calls.commits), 0, "{flaw:?}");
        }
    }
}

#[tokio::test]
async fn a_halt_ends_the_run_also_where_it_was_resumed_at_once() {
    let authority = Authority::new().expect("an authority");
    let halted = FakeAgent::start(&authority, "node1", Flaw::IsHalted).await.expect("an agent");
    let other = FakeAgent::start(&authority, "node2", Flaw::None).await.expect("an agent");
    let pods = vec![pod("api-1", "node1", 1), pod("api-2", "node2", 2)];
    let endpoints = vec![halted.endpoint.clone(), other.endpoint.clone()];
    let credentials = authority.controller().expect("a certificate");
    let (place, _dir) = place(pods, endpoints, &credentials).expect("a place");
    let experiment = experiment(
        "targets: { all: { labels: { app: api } } }
  method:
    - partition: { between: [all, everything] }
      for: 20s
    - partition: { between: [all, everything] }
      for: 1s",
    );
    let console = Console::new(Output::Json);
    let began = Instant::now();
    let report = run(&experiment, &place, &console, &Interrupt::default()).await;
    assert_eq!(report.verdict, Verdict::Interrupted, "{report:#?}");
    assert!(says(&report, "node1") && says(&report, "halted"), "{:?}", report.reasons);
    assert!(began.elapsed() < Duration::from_secs(15), "it does not go on for 20 s");
    for agent in [&halted, &other] {
        assert_eq!(FakeAgent::count(&agent.calls.commits), 1, "no further step");
        assert!(FakeAgent::count(&agent.calls.reverts) >= 1, "the others are reverted");
    }
}

#[tokio::test]
async fn a_dead_agent_is_named_and_nothing_happens() {
    let authority = Authority::new().expect("an authority");
    let alive = FakeAgent::start(&authority, "node1", Flaw::None).await.expect("an agent");
    let dead = FakeAgent::start(&authority, "node2", Flaw::None).await.expect("an agent");
    let endpoints = vec![alive.endpoint.clone(), dead.endpoint.clone()];
    drop(dead);
    let pods = vec![pod("api-1", "node1", 1), pod("api-2", "node2", 2)];
    let credentials = authority.controller().expect("a certificate");
    let (place, _dir) = place(pods, endpoints, &credentials).expect("a place");
    let experiment = experiment(
        "targets: { all: { labels: { app: api } } }
  method:
    - partition: { between: [all, everything] }
      for: 1s",
    );
    let console = Console::new(Output::Json);
    let report = run(&experiment, &place, &console, &Interrupt::default()).await;
    assert_eq!(report.verdict, Verdict::Refused, "{report:#?}");
    assert!(says(&report, "node2") && says(&report, "cannot be reached"), "{:?}", report.reasons);
    assert_eq!(FakeAgent::count(&alive.calls.prepares), 0);
}

#[tokio::test]
async fn slow_agents_are_waited_for() {
    let slow = Flaw::Slow(Duration::from_millis(100));
    let (report, _) = run_on([Flaw::None, slow, Flaw::None]).await;
    assert_eq!(report.verdict, Verdict::Held, "{report:#?}");
}

#[tokio::test]
async fn what_had_no_effect_is_not_called_injected() {
    let (report, agents) = run_on([Flaw::None, Flaw::NoEffect, Flaw::None]).await;
    assert_eq!(report.verdict, Verdict::Refused, "{report:#?}");
    assert!(says(&report, "had no effect"), "{:?}", report.reasons);
    for agent in &agents {
        assert!(FakeAgent::count(&agent.calls.reverts) >= 1, "all of it is taken back");
    }
}

#[tokio::test]
async fn what_was_over_before_it_was_seen_is_not_held() {
    let (report, _) = run_on([Flaw::None, Flaw::NeverSees, Flaw::None]).await;
    assert_eq!(report.verdict, Verdict::Deviated, "{report:#?}");
    assert!(says(&report, "was over before its effect was seen"), "{:?}", report.reasons);
    assert_eq!(report.residue, Vec::<String>::new());
}

#[tokio::test]
async fn liars_are_not_believed() {
    for (flaw, verdict) in [
        (Flaw::LiesAboutTarget, Verdict::Residue),
        (Flaw::LiesAboutResidue, Verdict::Residue),
        (Flaw::Forgets, Verdict::Residue),
        (Flaw::Stuck, Verdict::Residue),
        (Flaw::KnowsOnlyResidue, Verdict::Residue),
        (Flaw::LosesLease, Verdict::Deviated),
    ] {
        let (report, _) = run_on([Flaw::None, flaw, Flaw::None]).await;
        assert_eq!(report.verdict, verdict, "{flaw:?}: {report:#?}");
        assert!(!report.reasons.is_empty() || !report.residue.is_empty(), "{flaw:?} is explained");
    }
}

#[tokio::test]
async fn an_agent_that_hangs_cannot_hold_up_the_others() {
    let began = Instant::now();
    let (report, agents) = run_on([Flaw::None, Flaw::HangsAtCommit, Flaw::None]).await;
    assert_ne!(report.verdict, Verdict::Held, "{report:#?}");
    assert!(FakeAgent::count(&agents[0].calls.reverts) >= 1, "the others are reverted");
    assert!(began.elapsed() < Duration::from_mins(1), "bounded: {:?}", began.elapsed());
}

#[tokio::test]
async fn an_agent_that_hangs_costs_nobody_else_a_lease() {
    let (_, agents) = run_on([Flaw::None, Flaw::HangsAtRenew, Flaw::None]).await;
    // 400 ms, and a renewal every third of 500 ms.
    for agent in &agents {
        assert!(FakeAgent::count(&agent.calls.renewals) >= 2, "renewed all the same");
    }
}

#[tokio::test]
async fn a_fault_that_something_else_ended_is_no_success() {
    let (report, _) = run_on([Flaw::None, Flaw::WasRestarted, Flaw::None]).await;
    assert_eq!(report.verdict, Verdict::Deviated, "{report:#?}");
    assert!(says(&report, "its agent was restarted"), "{:?}", report.reasons);
}

#[tokio::test]
async fn an_agent_without_a_record_is_believed_about_its_kernel() {
    let (report, _) = run_on([Flaw::None, Flaw::KnowsNothing, Flaw::None]).await;
    assert_eq!(report.verdict, Verdict::Deviated, "it did not last as it should: {report:#?}");
    assert!(report.residue.is_empty() && says(&report, "its agent was restarted"), "{report:#?}");
}

#[tokio::test]
async fn a_commit_is_taken_no_longer_than_it_is_waited_for() {
    let (_, agents) = run_on([Flaw::None; 3]).await;
    for agent in &agents {
        let patience = agent.calls.commit_patience_ms.load(std::sync::atomic::Ordering::SeqCst);
        let waited_for = u64::try_from(ANSWER_MAX.as_millis()).expect("small");
        assert!(patience > 0 && patience <= waited_for, "{patience} ms");
    }
}

#[tokio::test]
async fn an_interrupt_reverts_and_says_so() {
    let (report, agents) = run_with([Flaw::None; 3], true).await;
    assert_eq!(report.verdict, Verdict::Interrupted, "{report:#?}");
    assert_eq!(report.exit_code, 130);
    for agent in &agents {
        assert!(FakeAgent::count(&agent.calls.reverts) >= 1);
    }
}
