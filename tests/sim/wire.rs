//! The real agent's service, over real mutual TLS, against nonsense: every answer is a typed status,
//! and the agent goes on.

use std::{fs, net::SocketAddr, path::Path, sync::Arc, time::Duration};

use faultline::place::{CONTROLLER_NAME, Credentials, agent_server_name};
use faultline_agent::{
    kernel::{cgroup::CgroupFs, clock, container::Containers, netns::NetNs},
    node_info::NodeInfo,
    resolve::Resolver,
    server::{self, Identity},
    supervisor::{Config, StartError, Supervisor},
};
use faultline_proto::pb;
use faultline_tests::pki::{Authority, Pair, Use};
use pb::agent_client::AgentClient;
use tempfile::TempDir;
use tonic::{
    Code, Status,
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint},
};

/// What is made wrong in a request.
type Change = fn(&mut pb::PrepareRequest);

pub(super) struct Agent {
    address: SocketAddr,
    pub(super) authority: Authority,
    pub(super) dir: TempDir,
    resolver: Arc<Resolver>,
}

/// An agent of this process: its supervisor, its service, and an empty state directory. It sees no
/// pods, so that nothing it is asked can come to touch a kernel.
pub(super) fn agent() -> Agent {
    agent_after(|_state_dir| {})
}

/// The same, on a state directory that was left in some state.
fn agent_after(leave: impl FnOnce(&Path)) -> Agent {
    let dir = tempfile::tempdir().expect("a directory");
    leave(&dir.path().join("state"));
    let authority = Authority::new().expect("an authority");
    let Pair { cert_pem, key_pem } = authority.agent("node1").expect("a certificate");
    for (name, text) in [("ca", authority.ca_pem()), ("cert", cert_pem), ("key", key_pem)] {
        std::fs::write(dir.path().join(name), text).expect("written");
    }
    let pods = dir.path().join("pods");
    std::fs::create_dir(&pods).expect("a directory");
    let path = |name| dir.path().join(name);
    let identity = Identity::read(&path("ca"), &path("cert"), &path("key"), CONTROLLER_NAME)
        .expect("identity");
    let resolver = Arc::new(Resolver {
        cgroups: CgroupFs::mounted().expect("a mount table"),
        pods_dir: Some(pods.clone()),
        // Its own folder of pids: it must not see, or sweep, what other tests made.
        containers: Containers::PidFiles(pods),
        protected_namespaces: vec!["kube-system".into()],
        node_net_ns: NetNs::open("/proc/self/ns/net".as_ref()).expect("a namespace").id(),
    });
    let supervisor = Supervisor::start(Config {
        state_dir: dir.path().join("state"),
        resolver: Arc::clone(&resolver),
    })
    .expect("a supervisor");
    let info = Arc::new(NodeInfo::gather("node1".into(), Arc::clone(&resolver)));
    let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = free.local_addr().expect("an address");
    drop(free);
    let handle = supervisor.handle.clone();
    tokio::spawn(async move {
        // Kept alive with the server.
        let _supervisor = supervisor;
        server::serve(address, identity, handle, info, std::future::pending()).await
    });
    Agent { address, authority, dir, resolver }
}

impl Agent {
    pub(super) async fn client(
        &self,
        credentials: &Credentials,
    ) -> Result<AgentClient<Channel>, Status> {
        for _ in 0..100 {
            if let Some(client) = self.try_once(credentials).await {
                return Ok(client);
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Err(Status::unavailable("no connection"))
    }

    /// One attempt to connect.
    pub(super) async fn try_once(&self, credentials: &Credentials) -> Option<AgentClient<Channel>> {
        let tls = ClientTlsConfig::new()
            .domain_name(agent_server_name("node1"))
            .ca_certificate(Certificate::from_pem(&credentials.ca_pem))
            .identity(tonic::transport::Identity::from_pem(
                &credentials.cert_pem,
                &credentials.key_pem,
            ));
        let endpoint = Endpoint::from_shared(format!("https://{}", self.address))
            .and_then(|e| e.tls_config(tls))
            .expect("an endpoint");
        endpoint.connect().await.ok().map(AgentClient::new)
    }

    pub(super) async fn controller(&self) -> AgentClient<Channel> {
        let credentials = self.authority.controller().expect("a certificate");
        self.client(&credentials).await.expect("the agent listens")
    }
}

pub(super) fn injection() -> pb::Injection {
    pb::Injection {
        fault_id: "00000000000000a1".into(),
        target: Some(pb::Target {
            pod_namespace: "shop".into(),
            pod_name: "api-1".into(),
            pod_uid: "11111111-2222-3333-4444-555555555555".into(),
            ..pb::Target::default()
        }),
        fault: Some(pb::Fault {
            kind: Some(pb::fault::Kind::Partition(pb::Partition {
                egress: Some(pb::PeerSet { everything: true, cidrs: Vec::new() }),
                protocol: pb::Protocol::Any.into(),
                port_side: pb::PortSide::Either.into(),
                verdict: pb::Verdict::Drop.into(),
                ..pb::Partition::default()
            })),
        }),
        lease_ms: 10_000,
        deadline_boottime_ns: clock::now().after(Duration::from_mins(1)).as_nanos(),
    }
}

pub(super) fn prepare(injection: pb::Injection) -> pb::PrepareRequest {
    pb::PrepareRequest {
        run_id: "00000000000000ff".into(),
        injections: vec![injection],
        dry_run: false,
    }
}

#[tokio::test]
async fn nonsense_gets_a_typed_status_and_the_agent_goes_on() {
    let agent = agent();
    let mut client = agent.controller().await;
    let cases: Vec<(&str, Code, Change)> = vec![
        ("a run id that is none", Code::InvalidArgument, |r| r.run_id = "x".into()),
        ("no injection", Code::InvalidArgument, |r| r.injections.clear()),
        ("too many", Code::InvalidArgument, |r| {
            r.injections = vec![r.injections[0].clone(); 129];
        }),
        ("an id of wrong length", Code::InvalidArgument, |r| {
            r.injections[0].fault_id = "a1".into();
        }),
        ("no target", Code::InvalidArgument, |r| r.injections[0].target = None),
        ("a uid of wrong length", Code::InvalidArgument, |r| {
            r.injections[0].target.as_mut().expect("there").pod_uid = "1".into();
        }),
        ("a name with a path in it", Code::InvalidArgument, |r| {
            r.injections[0].target.as_mut().expect("there").pod_name = "../../etc".into();
        }),
        ("no fault", Code::InvalidArgument, |r| r.injections[0].fault = None),
        ("an unknown kind", Code::InvalidArgument, |r| {
            r.injections[0].fault = Some(pb::Fault { kind: None });
        }),
        ("no lease", Code::InvalidArgument, |r| r.injections[0].lease_ms = 0),
        ("a lease of a year", Code::InvalidArgument, |r| r.injections[0].lease_ms = 31_536_000_000),
        ("a deadline in the past", Code::InvalidArgument, |r| {
            r.injections[0].deadline_boottime_ns = 1;
        }),
        ("a deadline at the end of time", Code::InvalidArgument, |r| {
            r.injections[0].deadline_boottime_ns = u64::MAX;
        }),
        ("a pod that is not here", Code::NotFound, |_| {}),
        ("a protected namespace", Code::PermissionDenied, |r| {
            r.injections[0].target.as_mut().expect("there").pod_namespace = "kube-system".into();
        }),
    ];
    for (what, code, change) in cases {
        let mut request = prepare(injection());
        change(&mut request);
        let status = client.prepare(request).await.expect_err(what);
        assert_eq!(status.code(), code, "{what}: {status:?}");
        assert!(!status.message().is_empty() && !status.details().is_empty(), "{what}: {status:?}");
    }
    let unknown = pb::CommitRequest {
        fault_ids: vec!["00000000000000a1".into()],
        at_boottime_ns: 0,
        not_after_boottime_ns: 0,
    };
    assert_eq!(client.commit(unknown).await.expect_err("unknown").code(), Code::NotFound);
    let late = pb::CommitRequest {
        fault_ids: vec!["00000000000000a1".into()],
        at_boottime_ns: u64::MAX,
        not_after_boottime_ns: 0,
    };
    assert_eq!(client.commit(late).await.expect_err("far away").code(), Code::InvalidArgument);
    let never = pb::CommitRequest {
        fault_ids: vec!["00000000000000a1".into()],
        at_boottime_ns: 2,
        not_after_boottime_ns: 1,
    };
    assert_eq!(client.commit(never).await.expect_err("never").code(), Code::InvalidArgument);
    let nothing =
        client.revert(pb::RevertRequest::default()).await.expect("revert is always legal");
    assert!(nothing.into_inner().injections.is_empty());
    let empty = pb::HaltRequest { reason: " ".into(), for_good: false };
    assert_eq!(client.halt(empty).await.expect_err("why?").code(), Code::InvalidArgument);
    let description =
        client.describe(pb::DescribeRequest {}).await.expect("it goes on").into_inner();
    assert_eq!(description.node, "node1");
    assert!(description.boottime_ns > 0 && !description.boot_id.is_empty());
}

#[tokio::test]
async fn an_amendment_that_makes_no_sense_gets_a_typed_status() {
    let agent = agent();
    let mut client = agent.controller().await;
    let amendment =
        || pb::Amendment { fault_id: "00000000000000a1".into(), fault: injection().fault };
    let wrong = |change: fn(&mut pb::Amendment)| {
        let mut amendment = amendment();
        change(&mut amendment);
        vec![amendment]
    };
    let cases = [
        ("nothing", "invalid", Vec::new()),
        ("too many", "invalid", vec![amendment(); 129]),
        ("an id of wrong length", "invalid", wrong(|a| a.fault_id = "a1".into())),
        ("one id twice", "invalid", vec![amendment(), amendment()]),
        ("no fault", "invalid", wrong(|a| a.fault = None)),
        ("an unknown kind", "invalid", wrong(|a| a.fault = Some(pb::Fault { kind: None }))),
        (
            "a fault out of bounds",
            "invalid",
            wrong(|a| {
                let partition = pb::fault::Kind::Partition(pb::Partition::default());
                a.fault = Some(pb::Fault { kind: Some(partition) });
            }),
        ),
        ("a fault that is not here", "unknown_fault", vec![amendment()]),
    ];
    for (what, word, amendments) in cases {
        let request = pb::AmendRequest { amendments, ..pb::AmendRequest::default() };
        let status = client.amend(request).await.expect_err(what);
        let code = if word == "invalid" { Code::InvalidArgument } else { Code::NotFound };
        assert_eq!(status.code(), code, "{what}: {status:?}");
        let details = String::from_utf8_lossy(status.details());
        assert!(details.contains(word), "{what}: {status:?}");
        assert!(!status.message().is_empty(), "{what}: {status:?}");
    }
    // Where the mistake is.
    let second = pb::Amendment { fault_id: "00000000000000a2".into(), fault: None };
    let request = pb::AmendRequest { amendments: vec![amendment(), second], ..Default::default() };
    let status = client.amend(request).await.expect_err("no fault");
    assert!(status.message().contains("amendments[1].fault"), "{status:?}");
}

#[tokio::test]
async fn a_halt_refuses_until_resumed_and_survives_a_restart() {
    let agent = agent();
    let mut client = agent.controller().await;
    let reason = || pb::HaltRequest { reason: "maintenance".into(), for_good: false };
    client.halt(reason()).await.expect("halted");
    let refused = client.prepare(prepare(injection())).await.expect_err("halted");
    assert_eq!(refused.code(), Code::FailedPrecondition);
    assert!(refused.message().contains("maintenance"), "{refused:?}");
    assert!(agent.dir.path().join("state/halted").exists(), "it is on disk");
    let description = client.describe(pb::DescribeRequest {}).await.expect("described");
    assert_eq!(description.into_inner().halted_reason.as_deref(), Some("maintenance"));
    client.resume(pb::ResumeRequest::default()).await.expect("resumed");
    let status = client.prepare(prepare(injection())).await.expect_err("no such pod");
    assert_eq!(status.code(), Code::NotFound, "open again");
    assert!(!agent.dir.path().join("state/halted").exists());
}

#[tokio::test]
async fn only_the_controller_is_obeyed() {
    let agent = agent();
    let credentials = |pair: Pair, ca_pem: String| Credentials {
        ca_pem,
        cert_pem: pair.cert_pem,
        key_pem: pair.key_pem,
    };
    let ours = &agent.authority;
    let other = Authority::new().expect("an authority");
    let others = [
        ("an agent's certificate", ours.agent("node2").expect("signed")),
        (
            "another client's, of the same authority",
            ours.sign("someone.else", Use::Client).expect("signed"),
        ),
        (
            "the right name, of another authority",
            other.sign(CONTROLLER_NAME, Use::Client).expect("signed"),
        ),
        (
            "the right name, to be called by",
            ours.sign(CONTROLLER_NAME, Use::Server).expect("signed"),
        ),
    ];
    for (what, pair) in others {
        let credentials = credentials(pair, ours.ca_pem());
        let Ok(mut client) = agent.client(&credentials).await else { continue };
        let answer = client.describe(pb::DescribeRequest {}).await;
        assert!(answer.is_err(), "{what} was obeyed");
    }
    agent.controller().await.describe(pb::DescribeRequest {}).await.expect("the controller is");
}

#[tokio::test]
async fn a_second_agent_says_who_holds_the_lock() {
    let agent = agent();
    let config =
        Config { state_dir: agent.dir.path().join("state"), resolver: Arc::clone(&agent.resolver) };
    let error = Supervisor::start(config).expect_err("there is one");
    assert!(matches!(error, StartError::Locked { .. }), "{error:?}");
    assert!(error.to_string().contains(&std::process::id().to_string()), "{error}");
}

/// Leaves a record in a state directory that nobody understands.
fn torn(state_dir: &Path) {
    let journal = state_dir.join("journal");
    fs::create_dir_all(&journal).expect("made");
    fs::write(journal.join("00000000000000b2.json"), "faultline-journal 1 00").expect("torn");
}

#[tokio::test]
async fn a_record_that_nobody_understands_makes_the_node_stuck_until_it_is_removed() {
    let agent = agent_after(torn);
    let mut client = agent.controller().await;
    let describe = || pb::DescribeRequest {};
    let reason = client.describe(describe()).await.expect("described").into_inner().stuck_reason;
    let reason = reason.expect("it says that it is stuck");
    assert!(reason.contains("00000000000000b2.json"), "{reason}");
    assert!(reason.contains("`faultline resume --acknowledge 00000000000000b2`"), "{reason}");
    let refused = client.prepare(prepare(injection())).await.expect_err("stuck");
    assert_eq!(refused.code(), Code::FailedPrecondition);
    client.revert(pb::RevertRequest::default()).await.expect("reverting is always legal");
    let file = agent.dir.path().join("state/journal/00000000000000b2.json");
    assert!(file.exists(), "it is left for a person to look at");
    fs::remove_file(file).expect("removed by a person");
    let answer = client.describe(describe()).await.expect("described").into_inner();
    assert_eq!(answer.stuck_reason, None);
    let refused = client.prepare(prepare(injection())).await.expect_err("no such pod");
    assert_eq!(refused.code(), Code::NotFound, "open again");
}

#[tokio::test]
async fn what_a_person_acknowledged_keeps_no_new_fault_away_over_restarts() {
    let agent = agent_after(torn);
    let mut client = agent.controller().await;
    let acknowledge = |ids: &[&str]| pb::ResumeRequest {
        acknowledged_fault_ids: ids.iter().map(|id| (*id).to_owned()).collect(),
        ..pb::ResumeRequest::default()
    };
    let halt = pb::HaltRequest { reason: "a look".into(), for_good: false };
    client.halt(halt).await.expect("halted");
    let wrong = acknowledge(&["00000000000000b2", "00000000000000b3"]);
    let refused = client.resume(wrong).await.expect_err("not stuck");
    assert_eq!(refused.code(), Code::NotFound, "{refused:?}");
    let message = refused.message();
    assert!(message.contains("00000000000000b3 is not stuck"), "{message}");
    assert!(message.contains("stuck are: 00000000000000b2"), "{message}");
    let condition = client.describe(pb::DescribeRequest {}).await.expect("described").into_inner();
    assert!(
        condition.stuck_reason.is_some() && condition.halted_reason.is_some(),
        "all or nothing"
    );

    client.resume(acknowledge(&["00000000000000b2"])).await.expect("acknowledged");
    let is_open = async |mut client: AgentClient<Channel>| {
        let answer = client.describe(pb::DescribeRequest {}).await.expect("described").into_inner();
        assert_eq!((answer.stuck_reason, answer.halted_reason), (None, None));
        assert_eq!(answer.stuck.len(), 1, "it is shown on");
        assert!(answer.stuck[0].acknowledged && answer.stuck[0].fault_id == "00000000000000b2");
        let refused = client.prepare(prepare(injection())).await.expect_err("no such pod");
        assert_eq!(refused.code(), Code::NotFound, "open again");
        // Its record must not be written over.
        let same = pb::Injection { fault_id: "00000000000000b2".into(), ..injection() };
        let refused = client.prepare(prepare(same)).await.expect_err("that id is taken");
        assert_eq!(refused.code(), Code::AlreadyExists, "{refused:?}");
    };
    is_open(client).await;
    let journal = agent.dir.path().join("state/journal");
    assert!(journal.join("00000000000000b2.json").exists(), "the record stays");
    // What is on disk is all that the next agent knows.
    let next = agent_after(|state_dir| {
        fs::create_dir_all(state_dir.join("journal")).expect("made");
        for entry in fs::read_dir(&journal).expect("read").flatten() {
            let name = entry.file_name();
            fs::copy(entry.path(), state_dir.join("journal").join(name)).expect("copied");
        }
    });
    is_open(next.controller().await).await;
}
