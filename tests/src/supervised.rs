//! A real supervisor, without the server around it, whose pods are throw-away namespaces: a file of pids
//! stands in for control groups.

use std::{fs, path::Path, sync::Arc, time::Duration};

use faultline_agent::{
    kernel::{cgroup::CgroupFs, clock, container::Containers, netns::NetNs},
    resolve::Resolver,
    supervisor::{
        AmendAnswer, AmendItem, Config, PrepareItem, RevertScope, Status, Supervisor, When,
    },
};
use faultline_proto::{
    boottime::BootTime,
    fault::Fault,
    id::{FaultId, RunId},
    target::Target,
};
use tokio::runtime::Runtime;

use crate::netns::Namespace;

/// How long a fault of a test may last at most.
const LIFETIME: Duration = Duration::from_mins(2);

/// A supervisor that runs.
#[derive(Debug)]
pub struct Supervised {
    runtime: Runtime,
    supervisor: Supervisor,
}

/// Makes a namespace a pod, of this name and number, of the node with this directory.
///
/// # Panics
/// When the directory cannot be written.
pub fn pod(pods_dir: &Path, name: &str, number: u8, namespace: &Namespace) -> Target {
    let uid = format!("11111111-2222-3333-4444-{number:012}");
    let dir = pods_dir.join(&uid);
    fs::create_dir_all(&dir).expect("a directory");
    fs::write(dir.join(format!("{number:064x}")), namespace.pid().to_string()).expect("written");
    Target { namespace: "shop".into(), pod: name.into(), uid, container: None }
}

impl Supervised {
    /// Starts one.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn start(state_dir: &Path, pods_dir: &Path) -> Self {
        let resolver = Resolver {
            // None: it must not see, or sweep, the control groups of other tests.
            cgroups: CgroupFs { hierarchies: Vec::new() },
            pods_dir: None,
            containers: Containers::PidFiles(pods_dir.to_owned()),
            protected_namespaces: Vec::new(),
            node_net_ns: NetNs::open("/proc/self/ns/net".as_ref()).expect("a namespace").id(),
        };
        let config = Config { state_dir: state_dir.to_owned(), resolver: Arc::new(resolver) };
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        Self { runtime, supervisor: Supervisor::start(config).expect("a supervisor") }
    }

    /// Prepares a fault.
    ///
    /// # Panics
    /// When it is refused.
    pub fn prepare(&self, target: &Target, fault: Fault, lease: Duration) -> FaultId {
        let fault_id = FaultId::random().expect("random bytes");
        let deadline: BootTime = clock::now().after(LIFETIME);
        let item = PrepareItem { fault_id, target: target.clone(), fault, lease, deadline };
        let run_id = RunId::random().expect("random bytes");
        let prepared = self.supervisor.handle.prepare(run_id, vec![item], false);
        self.runtime.block_on(prepared).expect("it listens").expect("prepared");
        fault_id
    }

    /// Prepares and commits a fault, and returns how it stands when its proof is settled.
    ///
    /// # Panics
    /// When it is refused.
    pub fn inject(&self, target: &Target, fault: Fault, lease: Duration) -> Status {
        let id = self.prepare(target, fault, lease);
        let committed = self.supervisor.handle.commit(vec![id], When::default());
        let answer = self.runtime.block_on(committed).expect("it listens").expect("committed");
        answer.into_iter().next().expect("one status")
    }

    /// Changes what faults do.
    ///
    /// # Errors
    /// What the supervisor answers.
    ///
    /// # Panics
    /// When it does not answer.
    pub fn amend(&self, amendments: &[(FaultId, Fault)]) -> AmendAnswer {
        let item = |(fault_id, fault): &(FaultId, Fault)| AmendItem {
            fault_id: *fault_id,
            fault: fault.clone(),
        };
        let items = amendments.iter().map(item).collect();
        self.runtime.block_on(self.supervisor.handle.amend(items, None)).expect("it listens")
    }

    /// How everything stands.
    ///
    /// # Panics
    /// When it does not answer.
    pub fn list(&self) -> Vec<Status> {
        self.runtime.block_on(self.supervisor.handle.list()).expect("it listens")
    }

    /// Reverts everything.
    ///
    /// # Panics
    /// When it does not answer.
    pub fn revert(&self) -> Vec<Status> {
        let reverted = self.supervisor.handle.revert(RevertScope::Everything);
        self.runtime.block_on(reverted).expect("it listens").injections
    }
}
