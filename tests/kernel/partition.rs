//! `partition` on a real kernel: see the modules for what is tried.

mod amend;
mod effect;
mod lease;
mod proof;
mod revert;
mod supervised;

use std::{
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant},
};

use faultline_agent::{
    fault::{Injection, Live, Observation, Refusal, partition::PartitionInjection},
    kernel::{clock, netns::NetNs},
    resolve::Resolved,
};
use faultline_proto::{
    fault::{Cidr, KubeletPath, Partition, PeerSet, PortSide, Protocol, Verdict},
    id::FaultId,
    target::Target,
};
use faultline_tests::netns::{Namespace, any_of};

/// Longer than any of these tests.
const LONG: Duration = Duration::from_mins(1);

/// The peers with these addresses or ranges.
fn peers(cidrs: &[&str]) -> PeerSet {
    let mut cidrs: Vec<Cidr> = cidrs.iter().map(|text| text.parse().expect(text)).collect();
    cidrs.sort_unstable();
    PeerSet::Cidrs(cidrs)
}

/// A cut of everything in both directions, as a start for others.
fn cut(egress: Option<PeerSet>, ingress: Option<PeerSet>) -> Partition {
    Partition {
        egress,
        ingress,
        protocol: Protocol::Any,
        ports: Vec::new(),
        port_side: PortSide::Either,
        verdict: Verdict::Drop,
        kubelet: KubeletPath::Cut,
    }
}

/// The namespace as the resolver would find it.
fn resolved(namespace: &Namespace, node_addresses: Vec<IpAddr>) -> Resolved {
    Resolved {
        target: Target {
            namespace: "shop".into(),
            pod: "api-1".into(),
            uid: "0123456789abcdef0123456789abcdef".into(),
            container: None,
        },
        net_ns: NetNs::of_process(namespace.pid()).expect("it has a process"),
        host_network: false,
        node_addresses,
        siblings: Vec::new(),
        container: None,
    }
}

fn plan(namespace: &Namespace, partition: &Partition) -> Result<PartitionInjection, Refusal> {
    let id = FaultId::random().expect("random bytes");
    PartitionInjection::plan(id, partition, &resolved(namespace, Vec::new()))
}

/// A fault that is in effect, and reverted at the end of the test.
struct Injected {
    plan: PartitionInjection,
    live: Box<dyn Live>,
}

impl Injected {
    fn new(plan: PartitionInjection, lease: Duration) -> Self {
        let live = plan.inject(clock::now().after(lease)).expect("injected");
        Self { plan, live }
    }

    /// Injects, and proves within the time a proof may take.
    fn proven(namespace: &Namespace, partition: &Partition) -> Self {
        let mut injected = Self::new(plan(namespace, partition).expect("planned"), LONG);
        injected.prove();
        injected
    }

    fn prove(&mut self) -> String {
        let begun = Instant::now();
        loop {
            match self.live.prove().expect("the kernel can be asked") {
                Observation::Proven(evidence) => return evidence,
                Observation::NotYet(why) => {
                    assert!(begun.elapsed() < Duration::from_secs(1), "not proven: {why}");
                }
            }
        }
    }

    /// Becomes another one. The answer says why not.
    fn amend(&mut self, partition: &Partition) -> Result<(), Refusal> {
        let plan = self.plan.amended(partition, &[])?;
        self.live = plan.amend().expect("changed");
        self.plan = plan;
        Ok(())
    }

    fn revert(self) -> Vec<String> {
        let notes = self.plan.revert().expect("reverted");
        assert_eq!(self.plan.residue().expect("readable"), Vec::<String>::new());
        notes
    }
}

fn at(address: IpAddr, port: u16) -> SocketAddr {
    SocketAddr::new(address, port)
}

/// Whether a datagram gets from one namespace to an address of another.
fn udp_passes(from: &Namespace, to: &Namespace, address: SocketAddr) -> bool {
    let receiver = to.udp(address);
    let sender = from.udp(at(any_of(address.ip()), 0));
    // The sender of a dropped packet is told so; whether it arrives is what counts.
    drop(sender.send_to(&[1], address));
    receiver.recv(&mut [0]).is_ok()
}
