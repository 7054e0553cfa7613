//! A thousand targets on a hundred nodes: each agent is asked once, and all of them commit at one
//! instant. How long it takes is for `tests/benches/scale.rs`.

use std::time::Duration;

use faultline::{
    agents::Fleet,
    report::{Console, Output, Verdict},
    run::{Interrupt, run},
};
use faultline_tests::{
    fake_agent::{FakeAgent, Flaw},
    pki::Authority,
    scale::Crowd,
    sim::{experiment, place},
};

const NODES: usize = 100;
const PODS_PER_NODE: usize = 10;
/// What an agent takes for an answer: one that was asked after the first have answered commits later by
/// this.
const DELAY: Duration = Duration::from_millis(400);

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_targets_are_injected_at_one_instant() {
    let authority = Authority::new().expect("an authority");
    let crowd = Crowd::start(&authority, NODES, PODS_PER_NODE, Some(DELAY)).await.expect("agents");
    let credentials = authority.controller().expect("a certificate");
    let pods = crowd.pods.clone();
    let (place, _dir) = place(pods, crowd.endpoints(), &credentials).expect("a place");
    let experiment = experiment(
        "lease: 20s
  targets: { all: { labels: { app: api } } }
  method:
    - partition: { between: [all, everything] }
      for: 1s",
    );
    let console = Console::new(Output::Json);
    let report = run(&experiment, &place, &console, &Interrupt::default()).await;
    assert_eq!(report.verdict, Verdict::Held, "{:#?} {:?}", report.reasons, report.residue);
    assert_eq!(report.injections.len(), NODES * PODS_PER_NODE);
    assert!(report.injections.iter().all(|i| i.effect == "proven" && i.state == "reverted"));
    for agent in &crowd.agents {
        let calls = &agent.calls;
        assert_eq!(FakeAgent::count(&calls.prepares), 1, "one Prepare for all of a node");
        assert_eq!(FakeAgent::count(&calls.commits), 1);
    }
    let skew = crowd.skew().expect("all committed");
    assert!(skew < DELAY, "nobody waits for the answer of another: {skew:?}");
    let told = Duration::try_from_secs_f64(report.commit_skew_ms.expect("many nodes") / 1e3);
    let off = told.expect("not negative").abs_diff(skew);
    // Each clock is known to half of a round trip, which here is the delay.
    assert!(off <= DELAY * 2, "told: {:?} ms, seen: {skew:?}", report.commit_skew_ms);
}

#[tokio::test]
async fn the_clock_of_an_agent_whose_first_answers_were_slow_is_asked_for_again() {
    let authority = Authority::new().expect("an authority");
    let delay = Duration::from_millis(100);
    let start = |node, flaw| FakeAgent::start(&authority, node, flaw);
    let (quick, slow) =
        (start("quick", Flaw::None).await, start("slow", Flaw::WarmsUp(delay)).await);
    let agents = [quick, slow].map(|agent| agent.expect("an agent"));
    let endpoints = agents.each_ref().map(|agent| agent.endpoint.clone());
    let credentials = authority.controller().expect("a certificate");
    let fleet = Fleet::connect(&endpoints, &credentials).await.expect("connected");
    let rtt = |node| fleet.get(node).expect("it is there").clock().rtt();
    assert!(rtt("slow") < delay, "known better than by its first answers: {:?}", rtt("slow"));
    assert!(rtt("quick") < delay);
}
