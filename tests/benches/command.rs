//! From a command to a proven effect, in a real sandbox: one pod, over mutual TLS, journal and fsync
//! included. And what an agent at rest weighs.
//!
//! `cargo bench -p faultline-tests --bench command`, as root.

use std::{
    collections::BTreeMap,
    fs,
    process::ExitCode,
    time::{Duration, Instant},
};

use faultline::{
    agents::Fleet,
    experiment::SandboxSpec,
    sandbox::{self, Entered, Sandbox},
};
use faultline_proto::{
    id::{FaultId, RunId},
    pb,
    status::{Proof, State},
};

const ROUNDS: usize = 500;

fn main() -> ExitCode {
    if let Some(code) = sandbox::reexec(std::env::args_os()) {
        return code;
    }
    // `cargo test --benches` only wants to know that it runs.
    if std::env::args().any(|arg| arg == "--test") {
        return ExitCode::SUCCESS;
    }
    let entered = match sandbox::enter() {
        Ok(entered) => entered,
        Err(e) => {
            eprintln!("SKIPPED: no sandbox here: {e}");
            return ExitCode::SUCCESS;
        }
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(measure(&entered));
    ExitCode::SUCCESS
}

async fn measure(entered: &Entered) {
    let sandbox = Sandbox::up(entered, &SandboxSpec::echo(1), None).await.expect("a sandbox");
    let fleet = Fleet::connect(&sandbox.agents(), sandbox.credentials()).await.expect("agents");
    let pods = sandbox.pods();
    let target: pb::Target = pods[0].target().into();
    let agent = fleet.agents().next().expect("one").clone();
    let node = agent.node().to_owned();
    let mut figures: BTreeMap<&str, Vec<Duration>> = BTreeMap::new();
    for round in 0..ROUNDS {
        let run_id = RunId::from_bits(u64::try_from(round).expect("small") + 1);
        let fault_id = FaultId::random().expect("random").to_string();
        let deadline = agent.clock().to_agent(Instant::now() + Duration::from_secs(30));
        let injection = pb::Injection {
            fault_id: fault_id.clone(),
            target: Some(target.clone()),
            fault: Some(partition()),
            lease_ms: 10_000,
            deadline_boottime_ns: deadline.as_nanos(),
        };
        let began = Instant::now();
        fleet
            .prepare(run_id, &BTreeMap::from([(node.clone(), vec![injection])]).into(), false)
            .await
            .expect("prepared");
        let prepared = Instant::now();
        let ids = BTreeMap::from([(node.clone(), vec![fault_id])]);
        let statuses =
            fleet.commit(&ids).await.remove(&node).expect("an answer").expect("committed");
        let proven = Instant::now();
        let effect = statuses[0].effect.clone().expect("an effect");
        assert_eq!(Proof::from_wire(effect.proof), Some(Proof::Proven), "{effect:?}");
        let reverting = Instant::now();
        let statuses = fleet
            .revert(&ids, Duration::from_secs(10))
            .await
            .remove(&node)
            .expect("an answer")
            .expect("reverted");
        let reverted = Instant::now();
        assert_eq!(State::from_wire(statuses[0].state), Some(State::Reverted));
        let mut note = |name, from: Instant, to: Instant| {
            figures.entry(name).or_default().push(to - from);
        };
        note("prepare (planned, journalled, fsynced)", began, prepared);
        note("commit -> effect proven", prepared, proven);
        note("prepare + commit -> effect proven", began, proven);
        note("revert -> residue empty, journal synced", reverting, reverted);
    }
    println!("{ROUNDS} rounds, one pod, mutual TLS over the sandbox's network");
    for (name, mut times) in figures {
        times.sort();
        let at = |percent: usize| times[(times.len() - 1) * percent / 100].as_secs_f64() * 1e3;
        println!(
            "{name:42} p50 {:7.3} ms   p99 {:7.3} ms   max {:7.3} ms",
            at(50),
            at(99),
            at(100)
        );
    }
    if let Some(pid) = sandbox.agent_pid(&node) {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        for line in status.lines().filter(|l| l.starts_with("VmRSS") || l.starts_with("RssAnon")) {
            println!("agent after {ROUNDS} rounds: {line}");
        }
    }
    let left = sandbox.down().await;
    assert!(left.is_empty(), "{left:?}");
}

fn partition() -> pb::Fault {
    let everything = || Some(pb::PeerSet { everything: true, cidrs: Vec::new() });
    pb::Fault {
        kind: Some(pb::fault::Kind::Partition(pb::Partition {
            egress: everything(),
            ingress: everything(),
            protocol: pb::Protocol::Any.into(),
            port_side: pb::PortSide::Either.into(),
            verdict: pb::Verdict::Drop.into(),
            ..pb::Partition::default()
        })),
    }
}
