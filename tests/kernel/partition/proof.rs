//! The proof: quick where the cut is in effect, and never there where it is not.

use std::{thread, time::Duration};

use faultline_agent::fault::Observation;
use faultline_proto::fault::{Partition, PeerSet, PortRange, Protocol};
use faultline_tests::netns::{B4, Namespace, Pair, can_test};

use super::{Injected, LONG, at, cut, peers, plan};

/// Looks for a while; it must never be said that the cut is proven.
fn never_proven(injected: &mut Injected) -> String {
    let mut why = String::new();
    for _ in 0..20 {
        match injected.live.prove().expect("the kernel can be asked") {
            Observation::Proven(evidence) => panic!("proven: {evidence}"),
            Observation::NotYet(problem) => why = problem,
        }
        thread::sleep(Duration::from_millis(1));
    }
    why
}

#[test]
fn evidence_names_what_was_tried_and_what_was_counted() {
    if !can_test() {
        return;
    }
    let pair = Pair::new();
    let both = peers(&["10.77.0.2"]);
    let mut tcp = Injected::proven(&pair.a, &cut(Some(both.clone()), Some(both.clone())));
    assert_eq!(
        tcp.prove(),
        "a TCP connection to 10.77.0.2:9 was dropped, rule counter of output +1; a TCP packet to \
         port 9 that came as if from 10.77.0.2 was dropped, rule counter of input +1"
    );
    tcp.revert();
    let dns = Partition {
        protocol: Protocol::Udp,
        ports: vec![PortRange { first: 53, last: 53 }],
        ..cut(Some(both), None)
    };
    let mut udp = Injected::proven(&pair.a, &dns);
    assert_eq!(
        udp.prove(),
        "a UDP datagram to 10.77.0.2:53 was dropped, rule counter of output +1"
    );
    udp.revert();
}

#[test]
fn it_is_there_at_the_first_look() {
    if !can_test() {
        return;
    }
    let pair = Pair::new();
    for peer in [peers(&["10.77.0.2"]), peers(&["fd77::2"]), PeerSet::Everything] {
        let partition = cut(Some(peer.clone()), Some(peer.clone()));
        let mut injected = Injected::new(plan(&pair.a, &partition).expect("planned"), LONG);
        let observation = injected.live.prove().expect("the kernel can be asked");
        assert!(matches!(observation, Observation::Proven(_)), "{peer:?}: {observation:?}");
        injected.revert();
    }
}

#[test]
fn it_fails_when_the_rules_are_not_in_effect() {
    if !can_test() {
        return;
    }
    let pair = Pair::new();
    pair.b.serve_tcp(at(B4, 9));
    let both = peers(&["10.77.0.2"]);
    let partition = cut(Some(both.clone()), Some(both));
    let inject = || Injected::new(plan(&pair.a, &partition).expect("planned"), LONG);
    let table = || {
        let tables = pair.a.run("nft", &["list", "tables", "inet"]);
        tables.trim().strip_prefix("table ").expect("one table").to_owned()
    };

    // The lease has no elements: the rules are there and do nothing.
    let mut injected = inject();
    pair.a.nft(&format!("flush set {} lease", table()));
    let why = never_proven(&mut injected);
    assert!(why.contains("not counted"), "{why}");
    injected.revert();

    // The table has gone.
    let mut injected = inject();
    pair.a.nft(&format!("delete table {}", table()));
    let why = never_proven(&mut injected);
    assert!(why.contains("not in the kernel"), "{why}");
    injected.revert();

    // Somebody else drops the packets: the target is cut, but not by the fault.
    pair.a.nft(
        "table inet foreign {
            chain output { type filter hook output priority -400; tcp dport 9 drop; }
        }",
    );
    let mut injected = Injected::new(plan(&pair.a, &partition).expect("planned"), LONG);
    never_proven(&mut injected);
    injected.revert();
}

#[test]
fn own_addresses_among_the_peers_are_not_what_is_tried() {
    if !can_test() {
        return;
    }
    let pair = Pair::new();
    pair.a.run("ip", &["addr", "add", "10.66.0.1/24", "dev", "lo"]);
    let own_first = peers(&["10.66.0.1", "10.77.0.1", "10.77.0.2"]);
    let mut injected = Injected::proven(&pair.a, &cut(Some(own_first), None));
    let evidence = injected.prove();
    assert!(evidence.contains("10.77.0.2:9"), "{evidence}");
    injected.revert();
}

#[test]
fn without_a_way_to_any_peer_it_says_so() {
    if !can_test() {
        return;
    }
    let alone = Namespace::new();
    let plan = plan(&alone, &cut(Some(PeerSet::Everything), None)).expect("planned");
    let mut injected = Injected::new(plan, LONG);
    let why = never_proven(&mut injected);
    assert!(why.contains("there is no route"), "{why}");
    injected.revert();
}

#[test]
fn incoming_traffic_alone_is_proven_without_any_address() {
    if !can_test() {
        return;
    }
    let alone = Namespace::new();
    for (peer, protocol) in [
        (PeerSet::Everything, Protocol::Any),
        (peers(&["203.0.113.0/24"]), Protocol::Udp),
        (peers(&["2001:db8::/32"]), Protocol::Icmp),
    ] {
        let partition = Partition { protocol, ..cut(None, Some(peer)) };
        let mut injected = Injected::new(plan(&alone, &partition).expect("planned"), LONG);
        injected.prove();
        injected.revert();
    }
}
