//! What a cut stops, and what it does not.

use std::io::{self, Read, Write};

use faultline_agent::fault::partition::PartitionInjection;
use faultline_proto::{
    fault::{KubeletPath, Partition, PeerSet, PortRange, PortSide, Protocol, Verdict},
    id::FaultId,
};
use faultline_tests::netns::{A4, A6, B4, B6, CONNECT_TIME_MAX, Pair, can_test};

use super::{Injected, LONG, at, cut, peers, resolved, udp_passes};

fn refused_fast(result: &io::Result<std::net::TcpStream>, begun: std::time::Instant) -> bool {
    result.is_err() && begun.elapsed() < CONNECT_TIME_MAX / 2
}

#[test]
fn both_ways_and_both_families_are_cut_and_come_back() {
    if !can_test() {
        return;
    }
    let pair = Pair::new();
    for (a, b) in [(A4, B4), (A6, B6)] {
        pair.a.serve_tcp(at(a, 80));
        pair.b.serve_tcp(at(b, 80));
    }
    let both = peers(&["10.77.0.2", "fd77::2"]);
    let injected = Injected::proven(&pair.a, &cut(Some(both.clone()), Some(both)));
    for (a, b) in [(A4, B4), (A6, B6)] {
        assert!(pair.a.connect(at(b, 80)).is_err(), "{b}");
        assert!(pair.b.connect(at(a, 80)).is_err(), "{a}");
        assert!(!udp_passes(&pair.a, &pair.b, at(b, 53)));
        assert!(!udp_passes(&pair.b, &pair.a, at(a, 53)));
        // The target still talks to itself.
        assert!(pair.a.connect(at(a, 80)).is_ok(), "{a}");
    }
    assert_eq!(injected.revert(), Vec::<String>::new());
    for (a, b) in [(A4, B4), (A6, B6)] {
        assert!(pair.a.connect(at(b, 80)).is_ok(), "{b}");
        assert!(pair.b.connect(at(a, 80)).is_ok(), "{a}");
    }
}

#[test]
fn one_way_cuts_one_way() {
    if !can_test() {
        return;
    }
    let pair = Pair::new();
    let outgoing = cut(Some(peers(&["10.77.0.2"])), None);
    let injected = Injected::proven(&pair.a, &outgoing);
    assert!(!udp_passes(&pair.a, &pair.b, at(B4, 53)));
    assert!(udp_passes(&pair.b, &pair.a, at(A4, 53)));
    injected.revert();

    let incoming = cut(None, Some(peers(&["10.77.0.2"])));
    let injected = Injected::proven(&pair.a, &incoming);
    assert!(udp_passes(&pair.a, &pair.b, at(B4, 53)));
    assert!(!udp_passes(&pair.b, &pair.a, at(A4, 53)));
    // The other family is not among the peers.
    assert!(udp_passes(&pair.b, &pair.a, at(A6, 53)));
    injected.revert();
}

#[test]
fn everything_is_cut_but_the_target_itself() {
    if !can_test() {
        return;
    }
    let pair = Pair::new();
    for (a, b) in [(A4, B4), (A6, B6)] {
        pair.a.serve_tcp(at(a, 80));
        pair.b.serve_tcp(at(b, 80));
    }
    let everything = cut(Some(PeerSet::Everything), Some(PeerSet::Everything));
    let injected = Injected::proven(&pair.a, &everything);
    for (a, b) in [(A4, B4), (A6, B6)] {
        assert!(pair.a.connect(at(b, 80)).is_err(), "{b}");
        assert!(pair.b.connect(at(a, 80)).is_err(), "{a}");
        assert!(pair.a.connect(at(a, 80)).is_ok(), "{a}");
    }
    assert!(udp_passes(&pair.a, &pair.a, at("127.0.0.1".parse().expect("valid"), 53)));
    injected.revert();
    assert!(pair.a.connect(at(B6, 80)).is_ok());
}

#[test]
fn neighbour_discovery_survives_a_cut_of_everything() {
    if !can_test() {
        return;
    }
    let pair = Pair::new();
    let everything = cut(Some(PeerSet::Everything), Some(PeerSet::Everything));
    let injected = Injected::proven(&pair.a, &everything);
    pair.b.run("ip", &["neigh", "flush", "dev", "eth0"]);
    // Nobody answers, but who has the address is found out.
    assert!(!udp_passes(&pair.b, &pair.a, at(A6, 53)));
    let neighbours = pair.b.run("ip", &["-6", "neigh", "show", "fd77::1"]);
    assert!(neighbours.contains("lladdr") && !neighbours.contains("FAILED"), "{neighbours}");
    injected.revert();
}

#[test]
fn ranges_are_cut_up_to_their_edges() {
    if !can_test() {
        return;
    }
    let pair = Pair::new();
    for (n, prefix) in [("192.168.3.255", 32), ("192.168.4.0", 32), ("255.255.255.250", 32)] {
        pair.b.run("ip", &["addr", "add", &format!("{n}/{prefix}"), "dev", "eth0"]);
    }
    pair.a.run("ip", &["route", "add", "default", "via", "10.77.0.2"]);
    let ranges = peers(&["192.168.0.0/23", "192.168.2.0/23", "fd77::/64", "240.0.0.0/4"]);
    let injected = Injected::proven(&pair.a, &cut(Some(ranges), None));
    let passes =
        |address: &str| udp_passes(&pair.a, &pair.b, at(address.parse().expect("valid"), 53));
    assert!(!passes("192.168.3.255"));
    assert!(passes("192.168.4.0"));
    assert!(!passes("fd77::2"));
    assert!(passes("10.77.0.2"));
    // The last range has no end that could be a key.
    let rules = pair.a.run("nft", &["list", "ruleset"]);
    assert!(rules.contains("192.168.0.0/22") && rules.contains("240.0.0.0/4"), "{rules}");
    injected.revert();
}

#[test]
fn only_the_protocol_and_ports_asked_for_are_cut() {
    if !can_test() {
        return;
    }
    let pair = Pair::new();
    for port in [79, 80, 90, 91] {
        pair.b.serve_tcp(at(B4, port));
        pair.a.serve_tcp(at(A4, port));
    }
    let both = peers(&["10.77.0.2"]);
    let ports = vec![PortRange { first: 80, last: 90 }];
    let web = Partition {
        protocol: Protocol::Tcp,
        ports,
        port_side: PortSide::Either,
        ..cut(Some(both.clone()), Some(both))
    };
    let injected = Injected::proven(&pair.a, &web);
    for (port, passes) in [(79, true), (80, false), (90, false), (91, true)] {
        assert_eq!(pair.a.connect(at(B4, port)).is_ok(), passes, "{port}");
        assert_eq!(pair.b.connect(at(A4, port)).is_ok(), passes, "{port}");
    }
    assert!(udp_passes(&pair.a, &pair.b, at(B4, 80)));
    injected.revert();

    // Seen from both ends, answers from that port are cut as well.
    let answers = Partition { ingress: None, ..web.clone() };
    let injected = Injected::proven(&pair.a, &answers);
    assert!(pair.b.connect(at(A4, 80)).is_err());
    assert!(pair.b.connect(at(A4, 79)).is_ok());
    injected.revert();

    // One way, by the destination's port: answers from that port pass.
    let one_way = Partition {
        port_side: PortSide::Destination,
        egress: Some(peers(&["10.77.0.2"])),
        ingress: None,
        ..web
    };
    let injected = Injected::proven(&pair.a, &one_way);
    assert!(pair.a.connect(at(B4, 80)).is_err());
    assert!(pair.b.connect(at(A4, 80)).is_ok());
    injected.revert();
}

#[test]
fn icmp_alone_can_be_cut() {
    if !can_test() {
        return;
    }
    let pair = Pair::new();
    pair.b.serve_tcp(at(B6, 80));
    let both = peers(&["10.77.0.2", "fd77::2"]);
    let icmp = Partition { protocol: Protocol::Icmp, ..cut(Some(both.clone()), Some(both)) };
    let mut injected = Injected::proven(&pair.a, &icmp);
    let evidence = injected.prove();
    assert!(evidence.contains("ICMP echo request to 10.77.0.2 was dropped"), "{evidence}");
    pair.a.run("ip", &["neigh", "flush", "dev", "eth0"]);
    assert!(pair.a.connect(at(B6, 80)).is_ok(), "neighbour discovery must pass");
    injected.revert();
}

#[test]
fn a_reject_is_told_at_once_in_both_directions() {
    if !can_test() {
        return;
    }
    let pair = Pair::new();
    let both = peers(&["10.77.0.2", "fd77::2"]);
    for (a, b) in [(A4, B4), (A6, B6)] {
        pair.a.serve_tcp(at(a, 80));
        pair.b.serve_tcp(at(b, 80));
    }
    let reject = Partition { verdict: Verdict::Reject, ..cut(Some(both.clone()), Some(both)) };
    let mut injected = Injected::proven(&pair.a, &reject);
    let evidence = injected.prove();
    assert!(evidence.contains("was rejected"), "{evidence}");
    for (from, to) in [(&pair.a, B4), (&pair.a, B6), (&pair.b, A4), (&pair.b, A6)] {
        let begun = std::time::Instant::now();
        let result = from.connect(at(to, 80));
        assert!(refused_fast(&result, begun), "{to}: {result:?}");
        let error = result.expect_err("refused").kind();
        assert_eq!(error, io::ErrorKind::ConnectionRefused, "{to}");
    }
    // A datagram from outside is answered: the answer passes the cut of the other direction.
    let socket = pair.b.udp(at(B4, 0));
    socket.connect(at(A4, 53)).expect("a route");
    socket.send(&[1]).expect("sent");
    let answer = socket.recv(&mut [0]).expect_err("prohibited");
    assert_ne!(answer.kind(), io::ErrorKind::WouldBlock, "nothing came back");
    injected.revert();
}

#[test]
fn an_existing_connection_is_cut_and_resumes() {
    if !can_test() {
        return;
    }
    let pair = Pair::new();
    pair.b.serve_tcp(at(B4, 80));
    let mut stream = pair.a.connect(at(B4, 80)).expect("connected");
    stream.set_read_timeout(Some(CONNECT_TIME_MAX)).expect("not zero");
    let mut answer = [0; 3];
    stream.write_all(b"one").expect("sent");
    stream.read_exact(&mut answer).expect("echoed");

    let both = peers(&["10.77.0.2"]);
    let injected = Injected::proven(&pair.a, &cut(Some(both.clone()), Some(both)));
    stream.write_all(b"two").expect("buffered");
    assert!(stream.read(&mut answer).is_err(), "it must not get through");
    injected.revert();

    stream.set_read_timeout(Some(std::time::Duration::from_secs(10))).expect("not zero");
    stream.read_exact(&mut answer).expect("sent again after the revert");
    assert_eq!(&answer, b"two");
}

#[test]
fn the_kubelets_node_is_exempt_unless_it_is_to_be_cut() {
    if !can_test() {
        return;
    }
    let pair = Pair::new();
    pair.a.serve_tcp(at(A4, 80));
    let mut everything = cut(Some(PeerSet::Everything), Some(PeerSet::Everything));
    for (kubelet, passes) in [(KubeletPath::Exempt, true), (KubeletPath::Cut, false)] {
        everything.kubelet = kubelet;
        let id = FaultId::random().expect("random bytes");
        let plan = PartitionInjection::plan(id, &everything, &resolved(&pair.a, vec![B4, B6]));
        let mut injected = Injected::new(plan.expect("planned"), LONG);
        injected.prove();
        assert_eq!(pair.b.connect(at(A4, 80)).is_ok(), passes, "{kubelet:?}");
        injected.revert();
    }
}

#[test]
fn twenty_thousand_peers_are_one_cut() {
    if !can_test() {
        return;
    }
    let pair = Pair::new();
    let v4 = (0..10_000_u32).map(|n| format!("10.{}.{}.1", 128 + n / 250, n % 250));
    let v6 = (0..9_998_u32).map(|n| format!("fd00::{n:x}"));
    let mut all: Vec<String> = v4.chain(v6).collect();
    all.extend(["10.77.0.2".into(), "fd77::2".into()]);
    let all: Vec<&str> = all.iter().map(String::as_str).collect();
    let all = peers(&all);
    let injected = Injected::proven(&pair.a, &cut(Some(all.clone()), Some(all)));
    assert!(!udp_passes(&pair.a, &pair.b, at(B4, 53)));
    assert!(!udp_passes(&pair.b, &pair.a, at(A6, 53)));
    assert_eq!(injected.revert(), Vec::<String>::new());
    assert!(udp_passes(&pair.a, &pair.b, at(B4, 53)));
}
