//! What the real agent tells whoever scrapes it, and that nobody who does so slowly delays anything.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use faultline_agent::{
    kernel::{cgroup::CgroupFs, clock, container::Containers, netns::NetNs},
    metrics,
    resolve::Resolver,
    supervisor::{Config, Handle, PrepareItem, Supervisor},
};
use faultline_proto::{
    fault::Fault,
    id::{FaultId, RunId},
    pb,
    target::Target,
};

/// Longer than a connection may take.
const PATIENCE: Duration = Duration::from_secs(15);

fn supervisor(dir: &Path) -> Supervisor {
    let pods = dir.join("pods");
    std::fs::create_dir_all(&pods).expect("a directory");
    let resolver = Resolver {
        cgroups: CgroupFs { hierarchies: Vec::new() },
        pods_dir: None,
        containers: Containers::PidFiles(pods),
        protected_namespaces: vec!["kube-system".into()],
        node_net_ns: NetNs::open("/proc/self/ns/net".as_ref()).expect("a namespace").id(),
    };
    let config = Config { state_dir: dir.join("state"), resolver: Arc::new(resolver) };
    Supervisor::start(config).expect("a supervisor")
}

fn serve(supervisor: &Supervisor) -> SocketAddr {
    let metrics = Arc::clone(supervisor.handle.metrics());
    metrics::serve(([127, 0, 0, 1], 0).into(), metrics).expect("served")
}

/// A whole answer: its first line, its headers, and its body.
fn ask(address: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(address).expect("connected");
    stream.set_read_timeout(Some(PATIENCE)).expect("set");
    stream.write_all(request.as_bytes()).expect("asked");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("answered");
    answer
}

fn get(address: SocketAddr, path: &str) -> String {
    ask(address, &format!("GET {path} HTTP/1.1\r\nHost: agent\r\n\r\n"))
}

/// Prepares something in a namespace, and is refused.
async fn prepare(handle: &Handle, namespace: &str) -> String {
    let everything = pb::PeerSet { everything: true, cidrs: Vec::new() };
    let cut = pb::Partition {
        egress: Some(everything),
        protocol: pb::Protocol::Any.into(),
        port_side: pb::PortSide::Either.into(),
        verdict: pb::Verdict::Drop.into(),
        ..pb::Partition::default()
    };
    let wire = pb::Fault { kind: Some(pb::fault::Kind::Partition(cut)) };
    let item = PrepareItem {
        fault_id: FaultId::random().expect("random bytes"),
        target: Target {
            namespace: namespace.into(),
            pod: "api-1".into(),
            uid: "11111111-2222-3333-4444-555555555555".into(),
            container: None,
        },
        fault: Fault::try_from(wire).expect("valid"),
        lease: Duration::from_secs(10),
        deadline: clock::now().after(Duration::from_secs(30)),
    };
    let run_id = RunId::random().expect("random bytes");
    let answer = handle.prepare(run_id, vec![item], false).await.expect("it listens");
    answer.expect_err("refused").word().into()
}

#[tokio::test]
async fn what_the_supervisor_does_is_counted() {
    let dir = tempfile::tempdir().expect("a directory");
    let supervisor = supervisor(dir.path());
    let address = serve(&supervisor);
    assert_eq!(prepare(&supervisor.handle, "shop").await, "target_gone");
    assert_eq!(prepare(&supervisor.handle, "kube-system").await, "protected");
    supervisor.handle.halt("a test".into(), false).await.expect("it listens").expect("halted");
    assert_eq!(prepare(&supervisor.handle, "shop").await, "halted");
    let answer = get(address, "/metrics");
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert!(
        answer.contains("content-type: application/openmetrics-text; version=1.0.0"),
        "{answer}"
    );
    for line in [
        "faultline_agent_refusals_total{reason=\"target_gone\"} 1",
        "faultline_agent_refusals_total{reason=\"protected\"} 1",
        "faultline_agent_refusals_total{reason=\"halted\"} 1",
        "faultline_agent_halted 1",
        "faultline_agent_injections_active{kind=\"partition\"} 0",
        "faultline_build_info{version=\"0.1.0\",component=\"agent\"} 1",
    ] {
        assert!(answer.lines().any(|l| l == line), "{line} is not in\n{answer}");
    }
    assert!(answer.ends_with("# EOF\n"), "{answer}");
    assert!(!answer.contains("shop") && !answer.contains("api-1"), "no names of targets");
}

#[tokio::test]
async fn health_and_wrong_questions_are_answered() {
    let dir = tempfile::tempdir().expect("a directory");
    let supervisor = supervisor(dir.path());
    let address = serve(&supervisor);
    supervisor.handle.list().await.expect("it listens");
    assert!(get(address, "/healthz").starts_with("HTTP/1.1 200 "));
    assert!(get(address, "/journal").starts_with("HTTP/1.1 404 "));
    let post = "POST /metrics HTTP/1.1\r\nHost: agent\r\nContent-Length: 0\r\n\r\n";
    assert!(ask(address, post).starts_with("HTTP/1.1 405 "));
    let long = format!("GET /{} HTTP/1.1\r\nHost: agent\r\n\r\n", "a".repeat(100_000));
    assert!(!ask_anyway(address, &long).starts_with("HTTP/1.1 200 "));
    assert!(get(address, "/metrics").starts_with("HTTP/1.1 200 "), "it goes on");
}

/// The same, of a server that may break off in the middle of a request.
fn ask_anyway(address: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(address).expect("connected");
    stream.set_read_timeout(Some(PATIENCE)).expect("set");
    drop(stream.write_all(request.as_bytes()));
    let mut answer = Vec::new();
    drop(stream.read_to_end(&mut answer));
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn whoever_holds_every_connection_delays_only_those_who_scrape() {
    let dir = tempfile::tempdir().expect("a directory");
    let supervisor = supervisor(dir.path());
    let address = serve(&supervisor);
    let idle: Vec<TcpStream> =
        (0..16).map(|_| TcpStream::connect(address).expect("accepted by the kernel")).collect();
    let begun = Instant::now();
    for _ in 0..20 {
        supervisor.handle.list().await.expect("it listens");
    }
    supervisor.handle.halt("now".into(), false).await.expect("it listens").expect("halted");
    let took = begun.elapsed();
    assert!(took < Duration::from_secs(5), "the supervisor is not held up: {took:?}");
    // What never asks is put out, and the next is served.
    let answer = tokio::task::spawn_blocking(move || {
        std::iter::repeat_with(|| ask_anyway(address, "GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n"))
            .take(3)
            .find(|answer| answer.starts_with("HTTP/1.1 200 "))
    });
    let answer = answer.await.expect("asked").expect("served in the end");
    assert!(answer.contains("faultline_agent_halted 1\n"), "{answer}");
    drop(idle);
}

#[test]
fn an_address_that_is_taken_is_said() {
    let dir = tempfile::tempdir().expect("a directory");
    let supervisor = supervisor(dir.path());
    let address = serve(&supervisor);
    let error = metrics::serve(address, Arc::clone(supervisor.handle.metrics()));
    let error = error.expect_err("taken").to_string();
    assert_eq!(error, format!("cannot listen on {address} for metrics"));
}
