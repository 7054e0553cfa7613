//! A thousand targets on a hundred agents, over gRPC and mutual TLS on this machine's loopback, which
//! agents and controller share.
//!
//! `cargo bench -p faultline-tests --bench scale`. Goals: prepare and commit within 2 s together; between the
//! first and the last commit 20 ms at most.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use faultline::{
    agents::{ANSWER_MAX, ByNode, Fleet},
    report::{Console, Output},
    run::{Interrupt, run},
};
use faultline_proto::{
    id::{FaultId, RunId},
    pb,
};
use faultline_tests::{
    pki::Authority,
    scale::Crowd,
    sim::{experiment, place},
};

const NODES: usize = 100;
const PODS_PER_NODE: usize = 10;
const ROUNDS: usize = 15;

fn main() {
    // `cargo test --benches` only wants to know that it runs.
    if std::env::args().any(|arg| arg == "--test") {
        return;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    runtime.expect("a runtime").block_on(measure());
}

async fn measure() {
    let authority = Authority::new().expect("an authority");
    let credentials = authority.controller().expect("a certificate");
    let mut times: BTreeMap<&str, Vec<Duration>> = BTreeMap::new();
    for _ in 0..ROUNDS {
        // New ones: they tell of all that they ever had.
        let crowd = Crowd::start(&authority, NODES, PODS_PER_NODE, None).await.expect("agents");
        let begun = Instant::now();
        let fleet = Fleet::connect(&crowd.endpoints(), &credentials).await.expect("connected");
        times.entry("1 connect, clocks learnt").or_default().push(begun.elapsed());
        let rtt = fleet.agents().map(|agent| agent.clock().rtt()).max().unwrap_or_default();
        times.entry("2 round trip, the longest of the shortest").or_default().push(rtt);

        let (injections, ids) = injections(&crowd);
        let prepare = Instant::now();
        let run_id = RunId::random().expect("random bytes");
        fleet.prepare(run_id, &injections.into(), false).await.expect("prepared");
        times.entry("3 prepare").or_default().push(prepare.elapsed());
        let commit = Instant::now();
        let answers = fleet.commit(&ids).await;
        assert!(answers.values().all(Result::is_ok), "{answers:?}");
        times.entry("4 commit").or_default().push(commit.elapsed());
        times.entry("5 prepare and commit").or_default().push(prepare.elapsed());
        let skew = crowd.skew().expect("all committed");
        times.entry("6 between the first and the last commit").or_default().push(skew);
        let revert = Instant::now();
        drop(fleet.revert(&ids, ANSWER_MAX).await);
        times.entry("7 revert").or_default().push(revert.elapsed());
    }
    whole_runs(&authority, &mut times).await;
    for (what, times) in &mut times {
        tell(what, times);
    }
}

/// The same as runs of an experiment, each with agents that have seen nothing before.
async fn whole_runs(authority: &Authority, times: &mut BTreeMap<&str, Vec<Duration>>) {
    let credentials = authority.controller().expect("a certificate");
    let experiment = experiment(
        "targets: { all: { labels: { app: api } } }
  method:
    - partition: { between: [all, everything] }
      for: 500ms",
    );
    for _ in 0..3 {
        let crowd = Crowd::start(authority, NODES, PODS_PER_NODE, None).await.expect("agents");
        let pods = crowd.pods.clone();
        let (place, _dir) = place(pods, crowd.endpoints(), &credentials).expect("a place");
        let console = Console::new(Output::Json);
        let begun = Instant::now();
        let report = run(&experiment, &place, &console, &Interrupt::default()).await;
        times.entry("8 a run that holds 500 ms").or_default().push(begun.elapsed());
        assert_eq!(report.injections.len(), NODES * PODS_PER_NODE, "{:?}", report.reasons);
        let skew = report.commit_skew_ms.expect("many nodes");
        let skew = Duration::try_from_secs_f64(skew / 1e3).expect("not negative");
        times.entry("9 its skew, as reported").or_default().push(skew);
        let seen = crowd.skew().expect("all committed");
        times.entry("9 its skew, as seen").or_default().push(seen);
    }
}

/// A fault for every pod, by node, and their ids.
fn injections(crowd: &Crowd) -> (ByNode<pb::Injection>, ByNode<String>) {
    let mut injections: ByNode<pb::Injection> = BTreeMap::new();
    let mut ids: ByNode<String> = BTreeMap::new();
    for pod in &crowd.pods {
        let id = FaultId::random().expect("random bytes").to_string();
        let fault_id = id.clone();
        let target = Some(pod.target().into());
        let injection = pb::Injection { fault_id, target, ..pb::Injection::default() };
        injections.entry(pod.node.clone()).or_default().push(injection);
        ids.entry(pod.node.clone()).or_default().push(id);
    }
    (injections, ids)
}

fn tell(what: &str, times: &mut [Duration]) {
    times.sort_unstable();
    let at = |percent: usize| times[(times.len() - 1) * percent / 100].as_secs_f64() * 1e3;
    println!("{what:46} p50 {:8.2} ms   max {:8.2} ms", at(50), at(100));
}
