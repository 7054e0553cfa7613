//! What the tests beside the code have in common: made-up injections.

use faultline_proto::{
    fault::{Fault, KubeletPath, Partition, PeerSet, PortSide, Protocol, Verdict},
    target::Target,
};

use crate::plan::{On, PlannedInjection, What};

/// A planned injection on a pod with this uid.
pub(super) fn planned(uid: &str) -> PlannedInjection {
    let target =
        Target { namespace: "shop".into(), pod: "api-1".into(), uid: uid.into(), container: None };
    let fault = Fault::Partition(Partition {
        egress: Some(PeerSet::Everything),
        ingress: None,
        protocol: Protocol::Any,
        ports: Vec::new(),
        port_side: PortSide::Either,
        verdict: Verdict::Drop,
        kubelet: KubeletPath::Exempt,
    });
    PlannedInjection {
        beside: Vec::new(),
        node: "node1".into(),
        target: On::Pod(target),
        fault: What::Node(fault),
        hits: vec![uid.into()],
    }
}
