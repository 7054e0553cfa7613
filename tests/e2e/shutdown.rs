//! An agent that is told to end, as every rolling update does: it reverts everything before it does,
//! and what cannot be reverted does not keep it.

use std::{
    collections::BTreeMap,
    fs,
    net::TcpListener,
    process::Command,
    time::{Duration, Instant},
};

use faultline::{
    agents::Fleet,
    place::{AgentEndpoint, CONTROLLER_NAME, Credentials},
};
use faultline_proto::{
    fault::{
        Fault, KubeletPath, Level, MemoryPressure, OomVictim, Partition, PeerSet, PortSide,
        Protocol, Verdict,
    },
    id::{FaultId, RunId},
    pb,
    status::State,
    target::Target,
};
use faultline_tests::{
    netns::{Namespace, can_test},
    pki::{Authority, Pair},
    process::Pod,
    program::{Ended, Running, faultline},
};
use nix::sys::signal::Signal;

use super::alone;

/// What Kubernetes gives a pod, less a margin.
const GRACE: Duration = Duration::from_secs(25);

/// An agent as a process of its own, on the machine itself.
struct Agent {
    dir: tempfile::TempDir,
    endpoint: AgentEndpoint,
    credentials: Credentials,
}

impl Agent {
    fn new(target: &Target) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let authority = Authority::new().expect("an authority");
        let Pair { cert_pem, key_pem } = authority.agent("node1").expect("a certificate");
        for (name, text) in [("ca", authority.ca_pem()), ("cert", cert_pem), ("key", key_pem)] {
            fs::write(dir.path().join(name), text).expect("written");
        }
        let pod = format!("pods/{}_{}_{}", target.namespace, target.pod, target.uid);
        fs::create_dir_all(dir.path().join(pod)).expect("made");
        let free = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr();
        let address = free.expect("an address").to_string();
        let credentials = authority.controller().expect("a certificate");
        Self { dir, endpoint: AgentEndpoint::direct("node1", address), credentials }
    }

    fn start(&self) -> Running {
        let mut command = Command::new(faultline());
        command.args(["__faultline-agent", "--node", "node1", "--listen", &self.endpoint.address]);
        command.args(["--controller-name", CONTROLLER_NAME]);
        for (option, file) in [
            ("--state-dir", "state"),
            ("--pods-dir", "pods"),
            ("--tls-ca", "ca"),
            ("--tls-cert", "cert"),
            ("--tls-key", "key"),
        ] {
            command.arg(option).arg(self.dir.path().join(file));
        }
        let mut agent = Running::start_command(&mut command);
        agent.wait_for("serving", GRACE);
        agent
    }

    /// Injects these on a target, with a lease that no test waits for.
    async fn inject(&self, target: &Target, faults: Vec<Fault>) {
        let endpoints = [self.endpoint.clone()];
        let fleet = Fleet::connect(&endpoints, &self.credentials).await.expect("an agent");
        let end = Instant::now() + Duration::from_mins(2);
        let deadline = fleet.agents().next().expect("one").clock().to_agent(end);
        let injections = faults.into_iter().map(|fault| pb::Injection {
            fault_id: FaultId::random().expect("random bits").to_string(),
            target: Some(target.clone().into()),
            fault: Some(fault.into()),
            lease_ms: 60_000,
            deadline_boottime_ns: deadline.as_nanos(),
        });
        let injections: Vec<pb::Injection> = injections.collect();
        let ids = injections.iter().map(|injection| injection.fault_id.clone()).collect();
        let injections = BTreeMap::from([(self.endpoint.node.clone(), injections)]);
        let ids = BTreeMap::from([(self.endpoint.node.clone(), ids)]);
        fleet.prepare(RunId::from_bits(1), &injections.into(), false).await.expect("prepared");
        for answer in fleet.commit(&ids).await.into_values() {
            for status in answer.expect("committed") {
                assert_eq!(State::from_wire(status.state), Some(State::Active), "{status:?}");
            }
        }
    }

    fn records(&self) -> usize {
        fs::read_dir(self.dir.path().join("state/journal")).expect("a journal").count()
    }
}

/// Tells an agent to end, and waits for that.
fn end(agent: Running) -> (Ended, Duration) {
    let told = Instant::now();
    agent.signal(Signal::SIGTERM);
    (agent.end(GRACE), told.elapsed())
}

fn cut() -> Fault {
    Fault::Partition(Partition {
        egress: Some(PeerSet::Everything),
        ingress: Some(PeerSet::Everything),
        protocol: Protocol::Any,
        ports: Vec::new(),
        port_side: PortSide::Either,
        verdict: Verdict::Drop,
        kubelet: KubeletPath::Cut,
    })
}

fn pressure() -> Fault {
    Fault::MemoryPressure(MemoryPressure {
        level: Level::Bytes(16 << 20),
        ramp: Duration::ZERO,
        oom_victim: OomVictim::Helper,
    })
}

#[test]
fn an_agent_that_is_told_to_end_reverts_what_can_be_and_ends_in_any_case() {
    if !can_test() {
        return;
    }
    let alone = alone();
    let Some(mut pod) = Pod::new() else { return };
    let namespace = Namespace::new();
    let container = pod.container();
    let main = namespace.inside(|| pod.spawn(&container, &["sleep", "1001"]));
    let target = pod.resolved(&container, main).target;
    let is_cut = || namespace.run("nft", &["list", "tables"]).contains("faultline_");
    let agent = Agent::new(&target);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.expect("a runtime");

    let running = agent.start();
    runtime.block_on(agent.inject(&target, vec![pressure(), cut()]));
    assert!(is_cut());
    let (ended, took) = end(running);
    assert_eq!(ended.code, Some(0), "{}", ended.text);
    assert!(!is_cut() && container.groups_below().is_empty() && agent.records() == 0);
    eprintln!("everything reverted, and ended {took:?} after SIGTERM");

    // A group of somebody else inside of ours: it cannot be removed.
    let running = agent.start();
    runtime.block_on(agent.inject(&target, vec![pressure(), cut()]));
    let group = container.groups_below().remove(0);
    let foreign = group.join("somebody-elses");
    fs::create_dir(&foreign).expect("made");
    let (ended, took) = end(running);
    assert_eq!(ended.code, Some(1), "something is left: {}", ended.text);
    assert!(ended.text.contains("not reverted"), "{}", ended.text);
    assert!(ended.text.contains(&foreign.display().to_string()), "{}", ended.text);
    assert!(!is_cut(), "what is stuck keeps nothing else");
    assert_eq!(agent.records(), 1, "the next start knows of it");
    eprintln!("with something stuck, ended {took:?} after SIGTERM");

    fs::remove_dir(&foreign).expect("removed");
    let (ended, _) = end(agent.start());
    assert_eq!(ended.code, Some(0), "{}", ended.text);
    assert!(container.groups_below().is_empty() && agent.records() == 0);
    drop((namespace, pod));
    alone.check_clean();
}
