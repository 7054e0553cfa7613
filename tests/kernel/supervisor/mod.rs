//! The supervisor of an agent with real targets: what it takes, refuses and takes back, seen in the
//! kernel and not in what it says of it.

mod commit;
mod disk;
mod late;
mod limits;
mod meter;
mod overlap;
mod pid_namespace;
mod unrecorded;

use std::{sync::Arc, time::Duration};

use faultline_agent::{
    helper,
    kernel::{clock, process::ProcessId},
    supervisor::{
        Config, PrepareError, PrepareItem, RevertScope, StartError, Status, Supervisor, When,
    },
};
use faultline_proto::{
    fault::{Fault, KubeletPath, Partition, PeerSet, PortSide, Protocol, Verdict},
    id::{FaultId, RunId},
    status::State,
    target::Target,
};
use faultline_tests::{
    netns::Namespace,
    process::{Container, Pod, resolver},
};
use tempfile::TempDir;
use tokio::runtime::Runtime;

/// A supervisor with a journal of its own.
struct Node {
    dir: TempDir,
    runtime: Runtime,
    supervisor: Supervisor,
}

impl Node {
    fn new() -> Self {
        assert!(helper::use_executable(env!("CARGO_BIN_EXE_helper").as_ref()));
        let dir = tempfile::tempdir().expect("a directory");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let supervisor = start(&dir).expect("a supervisor");
        Self { dir, runtime: runtime.expect("a runtime"), supervisor }
    }

    /// Ends it as a shutdown does, and starts another on the same journal.
    fn restart(mut self) -> Self {
        self.runtime.block_on(self.supervisor.handle.shut_down()).expect("it ran");
        self.runtime.block_on(&mut self.supervisor.ended).expect_err("its thread has ended");
        self.supervisor = start(&self.dir).expect("another one");
        self
    }

    fn prepare(&self, target: &Target, fault: Fault) -> Result<FaultId, PrepareError> {
        let fault_id = FaultId::random().expect("random bits");
        let item = PrepareItem {
            fault_id,
            target: target.clone(),
            fault,
            lease: Duration::from_secs(30),
            deadline: clock::now().after(Duration::from_mins(1)),
        };
        let handle = &self.supervisor.handle;
        let asked = handle.prepare(RunId::from_bits(1), vec![item], false);
        self.runtime.block_on(asked).expect("it runs").map(|_| fault_id)
    }

    fn commit(&self, id: FaultId, when: When) -> Result<Status, String> {
        let asked = self.supervisor.handle.commit(vec![id], when);
        let answer = self.runtime.block_on(asked).expect("it runs");
        answer.map(|mut statuses| statuses.remove(0)).map_err(|e| format!("{e:?}"))
    }

    /// Prepares and commits, which must be taken.
    fn inject(&self, target: &Target, fault: Fault) -> FaultId {
        let id = self.prepare(target, fault).unwrap_or_else(|e| panic!("{e}: {e:?}"));
        let status = self.commit(id, When::default()).expect("committed");
        assert_eq!(status.state, State::Active, "{status:?}");
        id
    }

    /// Reverts one that has a record.
    fn revert(&self, id: FaultId) -> Status {
        let asked = self.supervisor.handle.revert(RevertScope::Faults(vec![id]));
        let mut reverted = self.runtime.block_on(asked).expect("it runs");
        assert!(reverted.unrecorded.is_empty(), "{reverted:?}");
        reverted.injections.remove(0)
    }

    fn status(&self, id: FaultId) -> Option<Status> {
        let all = self.runtime.block_on(self.supervisor.handle.list()).expect("it runs");
        all.into_iter().find(|status| status.fault_id == id)
    }
}

impl Node {
    fn metrics(&self) -> String {
        self.supervisor.handle.metrics().text().expect("text")
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // One that was restarted has answered already.
        drop(self.runtime.block_on(self.supervisor.handle.shut_down()));
    }
}

fn start(dir: &TempDir) -> Result<Supervisor, StartError> {
    let config = Config { state_dir: dir.path().join("state"), resolver: Arc::new(resolver()) };
    Supervisor::start(config)
}

/// A pod with one process, in control groups and a network namespace of its own.
struct Victim {
    namespace: Namespace,
    container: Container,
    target: Target,
    pod: Pod,
    main: ProcessId,
}

impl Victim {
    /// `None`, said loudly, where it cannot be made.
    fn new() -> Option<Self> {
        if !faultline_tests::netns::can_test() {
            return None;
        }
        let mut pod = Pod::new()?;
        let namespace = Namespace::new();
        let container = pod.container();
        let main = namespace.inside(|| pod.spawn(&container, &["sleep", "1001"]));
        let target = pod.resolved(&container, main).target;
        Some(Self { namespace, container, target, pod, main })
    }

    /// Our tables in its namespace, as nft says.
    fn tables(&self) -> Vec<String> {
        let list = self.namespace.run("nft", &["list", "tables"]);
        list.lines().filter_map(|line| Some(line.split("inet ").nth(1)?.to_owned())).collect()
    }
}

/// Everything in both directions.
fn cut() -> Partition {
    Partition {
        egress: Some(PeerSet::Everything),
        ingress: Some(PeerSet::Everything),
        protocol: Protocol::Any,
        ports: Vec::new(),
        port_side: PortSide::Either,
        verdict: Verdict::Drop,
        kubelet: KubeletPath::Cut,
    }
}
