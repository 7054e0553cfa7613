//! What the tests beside the code have in common: made-up injections.

use std::time::Duration;

use faultline_proto::{
    fault::{Fault, Hold, KubeletPath, Partition, PeerSet, PortSide, Protocol, Verdict},
    target::Target,
};

use super::tracked::{Told, Tracked};
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

/// The same, as it is known of in a step.
pub(super) fn tracked(planned: &PlannedInjection) -> Tracked {
    Tracked {
        id: String::new(),
        node: String::new(),
        kind: planned.fault.kind(),
        target: planned.target.to_string(),
        on: planned.target.clone(),
        number: 0,
        fault: planned.fault.clone(),
        hold: Hold::Lasts,
        duration: Duration::ZERO,
        plan: String::new(),
        status: None,
        prepared: None,
        ordered: None,
        revert_asked: None,
        told: Told::default(),
        followed: false,
        came: None,
        amending: false,
        amended: 0,
        let_go: None,
    }
}
