//! What a partition comes to, and both of its forms.

use std::{collections::BTreeMap, net::IpAddr};

use super::*;
use crate::{
    fault::{Expanded, Fault, Groups},
    yaml::{self, Problems},
};

fn spec(text: &str) -> Result<Spec, Vec<String>> {
    let documents = yaml::parse(text).expect("YAML");
    let mut problems = Problems::new();
    let spec = Spec::decode(&documents[0], &mut problems);
    let list: Vec<String> = problems.into_sorted().into_iter().map(|p| p.message).collect();
    if list.is_empty() { Ok(spec.expect("no problem, so a spec")) } else { Err(list) }
}

fn groups() -> Groups {
    let member = |pod: usize| Member4::member(pod);
    Groups(BTreeMap::from([
        ("a".into(), vec![member(1), member(2)]),
        ("b".into(), vec![member(2), member(3)]),
        ("one".into(), vec![member(1)]),
    ]))
}

struct Member4;
impl Member4 {
    fn member(pod: usize) -> super::super::Member {
        let last = u8::try_from(pod).expect("small");
        super::super::Member { pod, addresses: vec![IpAddr::from([10, 0, 0, last])] }
    }
}

fn cut(expanded: &[Expanded], pod: usize) -> &Partition {
    let of_pod = expanded.iter().find(|e| e.pod == pod).expect("the pod is cut");
    let Fault::Partition(partition) = &of_pod.fault else { panic!("a partition") };
    partition
}

fn hosts(last: &[u8]) -> Option<PeerSet> {
    let cidrs: Vec<Cidr> = last.iter().map(|l| Cidr::host([10, 0, 0, *l].into())).collect();
    (!cidrs.is_empty()).then_some(PeerSet::Cidrs(cidrs))
}

#[test]
fn between_cuts_both_ways_at_both_ends_and_nobody_from_itself() {
    let expanded = spec("between: [a, b]").expect("valid").expand(&groups()).expect("expands");
    assert_eq!(expanded.len(), 3);
    assert_eq!(cut(&expanded, 1).egress, hosts(&[2, 3]));
    assert_eq!(cut(&expanded, 1).ingress, hosts(&[2, 3]));
    assert_eq!(cut(&expanded, 3).egress, hosts(&[1, 2]));
}

#[test]
fn one_way_cuts_egress_at_one_end_and_ingress_at_the_other() {
    let expanded = spec("{from: one, to: b}").expect("valid").expand(&groups()).expect("expands");
    assert_eq!((&cut(&expanded, 1).egress, &cut(&expanded, 1).ingress), (&hosts(&[2, 3]), &None));
    assert_eq!((&cut(&expanded, 3).egress, &cut(&expanded, 3).ingress), (&None, &hosts(&[1])));
}

#[test]
fn mistakes_are_all_reported() {
    let text = "between: [a, 10.0.0.1/8]\nports: [70000, 80]\nprotcol: tcp\nverdict: dorp\n";
    let messages = spec(text).expect_err("mistakes");
    assert_eq!(messages.len(), 5, "{messages:#?}");
    assert!(spec("between: [10.0.0.0/8, everything]").is_err());
    assert!(spec("between: [a]").is_err());
    assert!(spec("{from: a}").is_err());
    assert!(spec("{between: [a, b], from: a}").is_err());
}

#[test]
fn the_wire_form_is_the_same_and_is_checked_again() {
    let text = "{between: [a, everything], protocol: tcp, ports: [81, 80, 90-99], verdict: reject, kubelet: cut}";
    let expanded = spec(text).expect("valid").expand(&groups()).expect("expands");
    let partition = cut(&expanded, 1).clone();
    assert_eq!(partition.ports[0], PortRange { first: 80, last: 81 });
    let wire = pb::Partition::from(partition.clone());
    assert_eq!(Partition::try_from(wire.clone()), Ok(partition));
    let broken = |change: fn(&mut pb::Partition)| {
        let mut wire = wire.clone();
        change(&mut wire);
        Partition::try_from(wire).expect_err("broken").field
    };
    assert_eq!(broken(|w| w.protocol = 99), "protocol");
    assert_eq!(broken(|w| w.verdict = 0), "verdict");
    assert_eq!(broken(|w| w.ports[0].last = 70_000), "ports[0].last");
    assert_eq!(broken(|w| w.protocol = pb::Protocol::Icmp.into()), "ports");
    assert_eq!(broken(|w| (w.egress, w.ingress) = (None, None)), "egress");
    let empty = pb::PeerSet { everything: false, cidrs: Vec::new() };
    assert_eq!(PeerSet::try_from(empty).expect_err("no peers").field, "cidrs");
}
