//! What is looked at before anything is done: each rule refuses, names itself and where it is written, and
//! nothing was asked of any agent that changes anything; and each holds where it should.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use faultline::{
    place::Pod,
    report::{Console, Output, Report, Verdict},
    run::{Interrupt, dry_run, run},
};
use faultline_tests::{
    fake_agent::{FakeAgent, Flaw},
    pki::Authority,
    sim::{experiment, place, pod},
};

/// Three pods alike, each on a node of its own.
struct Cluster {
    pods: Vec<Pod>,
    flaws: [Flaw; 3],
    /// The pod that another run has a fault on.
    theirs: Option<usize>,
    /// The agent that is not there.
    absent: Option<usize>,
}

const OTHER_RUN: &str = "00000000000000ee";

impl Cluster {
    fn new() -> Self {
        let pods = (1..=3).map(|n| pod(&format!("api-{n}"), &format!("node{n}"), n)).collect();
        Self { pods, flaws: [Flaw::None; 3], theirs: None, absent: None }
    }

    /// Cuts the first pod off, with these rules. The same as a run and as a plan.
    async fn run(self, rules: &str) -> Report {
        let authority = Authority::new().expect("an authority");
        let mut agents = Vec::new();
        for (i, flaw) in (1..).zip(self.flaws) {
            let node = format!("node{i}");
            agents.push(FakeAgent::start(&authority, &node, flaw).await.expect("an agent"));
        }
        if let Some(theirs) = self.theirs {
            agents[theirs].hold(OTHER_RUN, &self.pods[theirs].uid);
        }
        let mut endpoints: Vec<_> = agents.iter().map(|agent| agent.endpoint.clone()).collect();
        if let Some(absent) = self.absent {
            endpoints[absent].address = "127.0.0.1:1".into();
        }
        let credentials = authority.controller().expect("a certificate");
        let (place, _dir) = place(self.pods, endpoints, &credentials).expect("a place");
        let experiment = experiment(&format!(
            "targets: {{ one: {{ names: [api-1] }} }}
  {rules}
  method:
    - partition: {{ between: [one, everything] }}
      for: 100ms"
        ));
        let mut looked = Vec::new();
        let planned = dry_run(&experiment, &place, &mut looked).await;
        let report =
            run(&experiment, &place, &Console::new(Output::Json), &Interrupt::default()).await;
        let commits = agents.iter().map(|agent| FakeAgent::count(&agent.calls.commits)).sum();
        if report.verdict == Verdict::Refused {
            let planned = planned.expect_err("a plan says the same");
            assert_eq!(planned.len(), report.reasons.len(), "{planned:?} {report:#?}");
            let prepares = agents.iter().map(|agent| FakeAgent::count(&agent.calls.prepares));
            assert_eq!((prepares.sum::<u32>(), commits), (0, 0_u32), "nothing was touched");
            assert_eq!(report.exit_code, 3);
        } else {
            assert!(planned.is_ok(), "{planned:?}");
            assert!(looked.iter().all(|rule| rule.holds), "{looked:?}");
            assert_eq!(commits, 1);
        }
        report
    }
}

#[track_caller]
fn refused(report: &Report, said: &str) {
    assert_eq!(report.verdict, Verdict::Refused, "{report:#?}");
    assert!(report.reasons.iter().any(|reason| reason.contains(said)), "{:?}", report.reasons);
}

#[track_caller]
fn held(report: &Report) {
    assert_eq!(report.verdict, Verdict::Held, "{report:#?}");
}

#[tokio::test]
async fn an_experiment_runs_only_where_it_is_meant_to() {
    let with = async |place: &str| {
        Cluster::new().run(&format!("safety: {{ requirePlace: {place} }}")).await
    };
    held(&with("{ inventory: inventory.yaml }").await);
    let report = with("sandbox").await;
    refused(&report, "requirePlace: this is the inventory ");
    // Whatever else speaks against it is told at once.
    let both = "safety: { requirePlace: sandbox, protected: [{ namespace: shop }] }";
    let report = Cluster::new().run(both).await;
    refused(&report, "requirePlace: this is the inventory ");
    assert_eq!(report.reasons.len(), 2, "{:?}", report.reasons);
    refused(&report, "and only a sandbox will do (test.yaml:6)");
    refused(&with("{ inventory: staging.yaml }").await, "only the inventory staging.yaml will do");
}

#[tokio::test]
async fn an_experiment_runs_only_when_it_may() {
    let days = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs();
    // 1970 began on a Thursday. Neither today nor any day beside it.
    let other = days[usize::try_from((now / 86_400 + 3 + 3) % 7).expect("small")];
    let window = |days: &str| {
        format!("safety: {{ window: {{ days: [{days}], from: \"00:00\", to: \"24:00\" }} }}")
    };
    held(&Cluster::new().run(&window(&days.join(", "))).await);
    let report = Cluster::new().run(&window(other)).await;
    refused(&report, "window: it is ");
    refused(&report, &format!("it opens next on {other} "));
    refused(&report, "(test.yaml:6)");
}

#[tokio::test]
async fn a_run_takes_no_longer_than_it_may_as_planned_and_as_it_is() {
    held(&Cluster::new().run("safety: { maxDuration: 5s }").await);
    // As long as the method, and no time for anything else.
    let tight = "safety: { maxDuration: 1s }
  probes: [ { name: a, tcp: { address: \"127.0.0.1:1\" } } ]";
    let said = "maxDuration: the run would take up to 2.1s, and 1s is allowed (test.yaml:6)";
    refused(&Cluster::new().run(tight).await, said);
    let slow = "safety: { maxDuration: 5s }
  probes: [ { name: a, tcp: { address: \"127.0.0.1:1\" }, recovery: { within: 10s } } ]";
    let report = Cluster::new().run(slow).await;
    refused(
        &report,
        "maxDuration: the run would take up to 13.1s, and 5s is allowed (test.yaml:6)",
    );

    // Before anything is injected there is nothing that could deviate.
    let flaws = [Flaw::Slow(Duration::from_secs(3)), Flaw::None, Flaw::None];
    let slow = Cluster { flaws, ..Cluster::new() };
    let report = slow.run("safety: { maxDuration: 2s }").await;
    refused(&report, "maxDuration: the run has taken 2s, and no more is allowed (test.yaml:6)");
    assert!(report.stopped.is_none());

    let hanging =
        Cluster { flaws: [Flaw::HangsAtCommit, Flaw::None, Flaw::None], ..Cluster::new() };
    let began = std::time::Instant::now();
    let report = hanging.run("safety: { maxDuration: 2s }").await;
    assert_eq!((report.verdict, report.exit_code), (Verdict::Deviated, 1), "{report:#?}");
    let reason = &report.reasons[0];
    assert!(reason.starts_with("maxDuration: the run has taken 2s, and no more is"), "{reason}");
    assert!(began.elapsed() < Duration::from_secs(8), "{:?}", began.elapsed());
}

#[tokio::test]
async fn who_is_protected_is_never_hit() {
    for (protected, is_hit) in [
        ("{ namespace: kube-system }", true),
        ("{ namespace: shop, names: [api-2] }", true),
        ("{ names: [api-1] }", false),
        ("{ namespace: shop, labels: { app: api } }", false),
        ("{ nodes: [node1] }", false),
    ] {
        let report = Cluster::new().run(&format!("safety: {{ protected: [{protected}] }}")).await;
        if is_hit {
            held(&report);
        } else {
            let said = "`protected`: a partition would be on shop/api-1, which must not be hit";
            refused(&report, &format!("{said} (test.yaml:6)"));
        }
    }
}

#[tokio::test]
async fn so_many_pods_of_an_owner_stay_healthy() {
    let rule = |min: u32| format!("blastRadius: {{ minHealthy: {min} }}");
    held(&Cluster::new().run(&rule(2)).await);
    let report = Cluster::new().run(&rule(3)).await;
    let said = "2 healthy of shop/app=api (3 pods) would be left, and `minHealthy` asks for 3";
    refused(&report, said);
    refused(&report, "(test.yaml:6)");

    let mut down = Cluster::new();
    down.pods[2].containers.clear();
    refused(&down.run(&rule(2)).await, "1 healthy of ");
    let theirs = Cluster { theirs: Some(1), ..Cluster::new() };
    refused(&theirs.run(&rule(2)).await, "1 healthy of ");
    let unknown = Cluster { absent: Some(2), ..Cluster::new() };
    refused(&unknown.run(&rule(2)).await, "1 healthy of ");

    let mut others = Cluster::new();
    for other in [1, 2] {
        others.pods[other].owner = Some("another".into());
    }
    refused(&others.run(&rule(1)).await, "0 healthy of shop/app=api (1 pods)");
}

#[tokio::test]
async fn two_runs_are_never_at_work_on_one_target() {
    let beside = Cluster { theirs: Some(1), ..Cluster::new() };
    held(&beside.run("seed: 1").await);
    let report = Cluster { theirs: Some(0), ..Cluster::new() }.run("seed: 1").await;
    let said = "no other run on the targets: run 00000000000000ee has a partition on shop/theirs";
    refused(&report, said);
    refused(&report, "(node1) (test.yaml:5)");
}

#[tokio::test]
async fn agents_that_are_not_fit_are_named() {
    for (flaw, said) in [
        (Flaw::IsOfAnotherVersion, "agents: node node1: its agent is of version 99.0.0"),
        (Flaw::SaysItIsStuck, "agents: node node1: a fault is stuck"),
        (Flaw::Slow(Duration::from_millis(1_200)), "agents: node node1: its clock is known to"),
    ] {
        let unfit = Cluster { flaws: [flaw, Flaw::None, Flaw::None], ..Cluster::new() };
        refused(&unfit.run("seed: 1").await, said);
    }
    // Nobody asks those that are not needed.
    let other = [Flaw::None, Flaw::IsOfAnotherVersion, Flaw::SaysItIsStuck];
    held(&Cluster { flaws: other, ..Cluster::new() }.run("seed: 1").await);
}

#[tokio::test]
async fn how_pods_are_is_asked_only_where_that_is_told() {
    let report = Cluster::new().run("probes: [{ name: up, pods: { target: one, count: == 1 } }]");
    let report = report.await;
    refused(&report, "probe `up`: an inventory does not tell which of its pods are ready");
    let object = "kubernetes: { object: deployment/api, namespace: shop }";
    let report = Cluster::new().run(&format!("probes: [{{ name: up, {object} }}]")).await;
    refused(&report, "probe `up`: there are no objects of Kubernetes here");
    let report = Cluster::new().run("assertions: [{ restarts: <= 1 }]").await;
    refused(
        &report,
        "assertion `restarts`: an inventory does not tell which of its pods are ready",
    );
    refused(&report, "(test.yaml:6)");
}
