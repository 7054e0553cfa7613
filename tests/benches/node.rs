//! What an agent does for its node: the sweep at its start, and its journal.
//!
//! `cargo bench -p faultline-tests --bench node`, as root. Goals: a node with the network namespaces of
//! 100 pods and 50 orphaned tables is swept within a second; a record is appended within 0.1 ms, fsync
//! excluded.

use std::{
    collections::BTreeSet,
    fs,
    path::Path,
    time::{Duration, Instant},
};

use faultline_agent::{
    fault::{AnyInjection, Injection, partition::PartitionInjection, sweep},
    journal::{Journal, Record},
    kernel::{clock, netns::NetNs},
    resolve::Resolved,
};
use faultline_proto::{
    fault::{Fault, KubeletPath, Partition, PeerSet, PortSide, Protocol, Verdict},
    id::{FaultId, RunId},
    target::Target,
};
use faultline_tests::{
    netns::{Namespace, can_test},
    process::resolver,
};

const PODS: usize = 100;
const ORPHANS: usize = 50;
const SWEEPS: usize = 15;
const APPENDS: usize = 2_000;

fn main() {
    // `cargo test --benches` only wants to know that it runs.
    if std::env::args().any(|arg| arg == "--test") || !can_test() {
        return;
    }
    append("in memory, where fsync(2) does nothing", "/dev/shm".as_ref());
    append("on disk, fsync(2) included", &std::env::temp_dir());
    let pods: Vec<Namespace> = (0..PODS).map(|_| Namespace::new()).collect();
    let mut times: Vec<Duration> = (0..SWEEPS).map(|_| sweep_of(&pods)).collect();
    tell(&format!("sweep of {PODS} network namespaces and {ORPHANS} orphaned tables"), &mut times);
    let known = BTreeSet::new();
    let mut times: Vec<Duration> = (0..SWEEPS)
        .map(|_| {
            let begun = Instant::now();
            drop(sweep(&resolver(), &known, &known));
            begun.elapsed()
        })
        .collect();
    tell(&format!("sweep of {PODS} network namespaces without any"), &mut times);
}

/// Leaves tables whose leases have ended in every second namespace, and sweeps.
fn sweep_of(pods: &[Namespace]) -> Duration {
    let cut = partition();
    for pod in pods.iter().step_by(pods.len() / ORPHANS) {
        let id = FaultId::random().expect("random bits");
        let plan = PartitionInjection::plan(id, &cut, &resolved(pod)).expect("planned");
        drop(plan.inject(clock::now().after(Duration::from_millis(20))).expect("injected"));
    }
    std::thread::sleep(Duration::from_millis(100));
    let resolver = resolver();
    let begun = Instant::now();
    let swept = sweep(&resolver, &BTreeSet::new(), &BTreeSet::new());
    let took = begun.elapsed();
    let tables = swept.removed.iter().filter(|what| what.contains("table")).count();
    assert!(tables >= ORPHANS && swept.failed.is_empty(), "{swept:?}");
    took
}

/// Appends records one by one to a journal in `dir`, each of which is removed again.
fn append(what: &str, dir: &Path) {
    let Ok(dir) = tempfile::tempdir_in(dir) else {
        eprintln!("SKIPPED: {} takes no directory", dir.display());
        return;
    };
    let (journal, _) = Journal::open(dir.path()).expect("opened");
    let namespace = Namespace::new();
    let mut times = Vec::new();
    for _ in 0..APPENDS {
        let record = record(&namespace);
        let id = record.fault_id;
        let begun = Instant::now();
        journal.append(vec![record]).expect("appended");
        times.push(begun.elapsed());
        journal.remove(id).expect("removed");
    }
    assert_eq!(fs::read_dir(dir.path()).expect("read").count(), 0);
    tell(&format!("journal append {what}"), &mut times);
}

fn tell(what: &str, times: &mut [Duration]) {
    times.sort_unstable();
    let at = |percent: usize| times[(times.len() - 1) * percent / 100].as_secs_f64() * 1e3;
    println!("{what:66} p50 {:8.3} ms   p99 {:8.3} ms   max {:8.3} ms", at(50), at(99), at(100));
}

fn record(namespace: &Namespace) -> Record {
    let id = FaultId::random().expect("random bits");
    let plan = PartitionInjection::plan(id, &partition(), &resolved(namespace)).expect("planned");
    Record {
        fault_id: id,
        run_id: RunId::from_bits(1),
        pid_ns: None,
        boot_id: "01234567-89ab-cdef-0123-456789abcdef".into(),
        target: resolved(namespace).target,
        fault: Fault::Partition(partition()),
        lease: Duration::from_secs(10),
        deadline: clock::now(),
        injection: AnyInjection::Partition(plan),
    }
}

fn resolved(namespace: &Namespace) -> Resolved {
    Resolved {
        target: Target {
            namespace: "shop".into(),
            pod: "api-1".into(),
            uid: "0123456789abcdef0123456789abcdef".into(),
            container: None,
        },
        net_ns: NetNs::of_process(namespace.pid()).expect("it has a process"),
        host_network: false,
        node_addresses: Vec::new(),
        siblings: Vec::new(),
        container: None,
    }
}

fn partition() -> Partition {
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
