//! Changing a partition in effect: no packet between what was cut and stays so, the new is cut, the old
//! is free, the lease ends when it would have, and nothing else is touched.

use std::{
    net::IpAddr,
    thread,
    time::{Duration, Instant},
};

use faultline_agent::fault::{AnyInjection, Injection, Refusal};
use faultline_proto::fault::{
    Fault, KubeletPath, Partition, PeerSet, PortRange, PortSide, Protocol, Verdict,
};
use faultline_tests::{
    flood::Flood,
    netns::{A4, B4, B6, Pair, Prober, can_test},
};

use super::{Injected, LONG, at, cut, lease, peers, plan, udp_passes};

/// How often what is in effect is changed under the flood.
const CHANGES: usize = 400;
const FLOOD_PORT: u16 = 9000;

/// Cuts of very different rules and sets that have in common what the flood is cut by.
fn all_cut_the_flood() -> Vec<Partition> {
    let near = peers(&["10.77.0.2", "fd77::2"]);
    let both = |peers: &PeerSet| cut(Some(peers.clone()), Some(peers.clone()));
    let strangers: Vec<String> = (1..200).map(|n| format!("198.18.0.{n}")).collect();
    let mut many: Vec<&str> = strangers.iter().map(String::as_str).collect();
    many.extend(["10.77.0.2", "fd77::2", "203.0.113.0/24"]);
    let ranges = peers(&["10.77.0.0/24", "fd77::/64"]);
    let web = [PortRange { first: 80, last: 90 }, PortRange { first: 9000, last: 9001 }];
    let exempt = Partition { kubelet: KubeletPath::Exempt, ..both(&near) };
    vec![
        both(&near),
        both(&peers(&many)),
        both(&ranges),
        both(&PeerSet::Everything),
        Partition { verdict: Verdict::Reject, ..both(&near) },
        Partition {
            protocol: Protocol::Udp,
            ports: web.to_vec(),
            port_side: PortSide::Destination,
            ..both(&near)
        },
        cut(Some(PeerSet::Everything), Some(near.clone())),
        cut(Some(ranges), Some(peers(&many))),
        exempt,
    ]
}

#[test]
fn no_packet_passes_while_one_cut_becomes_another() {
    if !can_test() {
        return;
    }
    let pair = Pair::new();
    let before = [pair.a.dump(), pair.b.dump()];
    let flood = Flood::start(&pair, FLOOD_PORT);
    assert!(flood.so_far().1 > 0, "without a cut it flows");
    let cuts = all_cut_the_flood();
    // A lease beyond all of it: renewals are not what is tried here.
    let lease = Duration::from_mins(10);
    let mut injected = Injected::new(plan(&pair.a, &cuts[0]).expect("planned"), lease);
    injected.prove();
    let (sent_before, arrived) = flood.so_far();
    let begun = Instant::now();
    for partition in cuts.iter().cycle().skip(1).take(CHANGES) {
        injected.amend(partition).expect("changed");
    }
    let took = begun.elapsed();
    let (sent, arrived_after) = flood.so_far();
    let sent = sent - sent_before;
    println!("{CHANGES} changes in {took:?}, {sent} datagrams sent meanwhile");
    assert!(sent > 1000, "{sent} datagrams are no flood");
    assert_eq!(arrived_after - arrived, 0, "datagrams of {sent} passed");
    injected.prove();
    assert_eq!(injected.revert(), Vec::<String>::new());
    assert!(flood.so_far().1 > arrived_after, "it flows again");
    drop(flood);
    assert_eq!([pair.a.dump(), pair.b.dump()], before);
}

#[test]
fn who_is_added_is_cut_and_who_is_removed_talks() {
    if !can_test() {
        return;
    }
    let pair = Pair::new();
    let others: [IpAddr; 2] = ["10.77.0.3", "fd77::3"].map(|a| a.parse().expect("valid"));
    for (other, prefix) in others.iter().zip([24, 64]) {
        let address = format!("{other}/{prefix}");
        let args = ["addr", "add", &address, "dev", "eth0"];
        let nodad: &[&str] = if other.is_ipv6() { &["nodad"] } else { &[] };
        pair.b.run("ip", &[&args[..], nodad].concat());
    }
    let passes = |address| udp_passes(&pair.a, &pair.b, at(address, 53));
    let first = peers(&["10.77.0.2", "fd77::2"]);
    let mut injected = Injected::proven(&pair.a, &cut(Some(first.clone()), Some(first)));
    assert_eq!([B4, B6].map(passes), [false; 2]);
    assert_eq!(others.map(passes), [true; 2]);

    let second = peers(&["10.77.0.3", "fd77::3"]);
    injected.amend(&cut(Some(second.clone()), Some(second.clone()))).expect("changed");
    assert_eq!([B4, B6].map(passes), [true; 2]);
    assert_eq!(others.map(passes), [false; 2]);
    let evidence = injected.prove();
    assert!(evidence.contains("10.77.0.3"), "the new effect is what is proven: {evidence}");

    // From both directions to one, and to the other.
    injected.amend(&cut(None, Some(second.clone()))).expect("changed");
    assert_eq!(others.map(passes), [true; 2]);
    injected.prove();
    let everything = cut(Some(PeerSet::Everything), None);
    injected.amend(&everything).expect("changed");
    assert_eq!([B4, B6].map(passes), [false; 2]);
    assert!(udp_passes(&pair.b, &pair.a, at(A4, 53)), "the way in is open");

    // By protocol, and how it is told.
    pair.b.serve_tcp(at(B4, 80));
    let tcp = Partition { protocol: Protocol::Tcp, verdict: Verdict::Reject, ..everything };
    injected.amend(&tcp).expect("changed");
    assert!(passes(B4), "only TCP is cut");
    let refused = pair.a.connect(at(B4, 80)).expect_err("cut").kind();
    assert_eq!(refused, std::io::ErrorKind::ConnectionRefused);
    injected.prove();
    assert_eq!(injected.revert(), Vec::<String>::new());
    assert!(pair.a.connect(at(B4, 80)).is_ok());
}

#[test]
fn the_lease_ends_when_it_would_have() {
    if !can_test() {
        return;
    }
    let pair = Pair::new();
    let partition = cut(Some(peers(&["10.77.0.2"])), None);
    let plan = plan(&pair.a, &partition).expect("planned");
    let prober = Prober::start(&pair.a, &pair.b, at(B4, 9000));
    thread::sleep(Duration::from_millis(100));
    let lease_time = Duration::from_millis(1500);
    let begun = Instant::now();
    let mut injected = Injected::new(plan, lease_time);
    let mut sizes = (1..).map(|n| peers(&["10.77.0.2", &format!("198.18.0.{}", n % 200)]));
    while begun.elapsed() < lease_time.mul_f32(0.9) {
        let to = sizes.next().expect("there is no last one");
        injected.amend(&cut(Some(to), None)).expect("changed");
        thread::sleep(Duration::from_millis(20));
    }
    thread::sleep(lease_time.saturating_sub(begun.elapsed()) + Duration::from_millis(400));
    let (gap_begin, gap_end) = prober.longest_gap();
    println!("cut for {:?} with a lease of {lease_time:?}", gap_end - gap_begin);
    assert!(lease::is_near(gap_begin, begun), "no packet passes while it is changed");
    assert!(lease::is_near(gap_end, begun + lease_time), "{:?}", gap_end - begun);
    injected.revert();
}

#[test]
fn a_lease_that_has_ended_is_not_brought_back() {
    if !can_test() {
        return;
    }
    let _alone = lease::ended_tables();
    let pair = Pair::new();
    pair.b.serve_tcp(at(B4, 80));
    let partition = cut(Some(peers(&["10.77.0.2"])), None);
    let other = cut(Some(peers(&["10.77.0.0/24"])), None);
    let injected =
        Injected::new(plan(&pair.a, &partition).expect("planned"), Duration::from_millis(300));
    let in_time = injected.plan.amended(&other, &[]).expect("planned in time");
    thread::sleep(Duration::from_millis(400));
    let refusal = injected.plan.amended(&other, &[]);
    assert!(
        matches!(&refusal, Err(Refusal::NotPossible(why)) if why.contains("lease has ended")),
        "{refusal:?}"
    );
    // Made after the end, it has no effect either.
    drop(in_time.amend().expect("the table is there"));
    assert!(pair.a.connect(at(B4, 80)).is_ok(), "traffic must stay");
    assert_eq!(in_time.revert().expect("reverted"), Vec::<String>::new());
}

#[test]
fn ten_thousand_peers_come_and_go() {
    if !can_test() {
        return;
    }
    let pair = Pair::new();
    let before = pair.a.dump();
    let of = |from: u32| {
        let v4 = (from..from + 5_000).map(|n| format!("10.{}.{}.1", 128 + n / 250, n % 250));
        let v6 = (from..from + 4_998).map(|n| format!("fd00::{n:x}"));
        let mut all: Vec<String> = v4.chain(v6).collect();
        all.extend(["10.77.0.2".into(), "fd77::2".into()]);
        let all: Vec<&str> = all.iter().map(String::as_str).collect();
        peers(&all)
    };
    let [first, second] = [of(0), of(5_000)];
    let mut injected = Injected::proven(&pair.a, &cut(Some(first.clone()), Some(first)));
    injected.amend(&cut(Some(second.clone()), Some(second))).expect("changed");
    injected.prove();
    let listed = pair.a.run("nft", &["list", "ruleset"]);
    for (text, is_there) in [("10.128.1.1", false), ("10.148.1.1", true), ("fd00::1389", true)] {
        let found = listed.contains(&format!("{text},")) || listed.contains(&format!("{text} "));
        assert_eq!(found, is_there, "{text}");
    }
    assert!(!udp_passes(&pair.a, &pair.b, at(B4, 53)));
    assert!(!udp_passes(&pair.a, &pair.b, at(B6, 53)));
    assert_eq!(injected.revert(), Vec::<String>::new());
    assert_eq!(pair.a.dump(), before);
}

#[test]
fn another_partition_and_foreign_tables_are_untouched() {
    if !can_test() {
        return;
    }
    let pair = Pair::new();
    pair.a.nft(
        "table inet foreign {
            set blocked { type ipv4_addr; elements = { 198.51.100.7 } }
            chain output { type filter hook output priority 0; ip daddr @blocked counter drop; }
        }",
    );
    let near = peers(&["10.77.0.2"]);
    let other = Injected::new(
        plan(&pair.a, &cut(Some(peers(&["203.0.113.0/24"])), None)).expect("planned"),
        LONG,
    );
    let changed = plan(&pair.a, &cut(Some(near.clone()), Some(near.clone()))).expect("planned");
    let id = serde_json::to_value(&changed).expect("plain data")["id"].clone();
    let mut changed = Injected::new(changed, LONG);
    changed.prove();
    // All but the table that is changed; what is left of leases changes by itself.
    let rest = || {
        let text = pair.a.run("nft", &["-j", "list", "ruleset"]);
        let mut listed: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        let name = format!("faultline_{}", id.as_str().expect("text"));
        let objects = listed["nftables"].as_array_mut().expect("a list");
        let is_of = |object: &serde_json::Value| {
            let mut inside = object.as_object().into_iter().flat_map(|o| o.values());
            inside.any(|o| o["table"] == name.as_str() || o["name"] == name.as_str())
        };
        assert!(objects.iter().any(is_of), "{text}");
        objects.retain(|object| !is_of(object));
        without_expiry(listed).to_string()
    };
    let before = rest();
    assert!(before.contains("203.0.113.0") && before.contains("handle"), "{before}");
    for partition in all_cut_the_flood() {
        changed.amend(&partition).expect("changed");
        assert_eq!(rest(), before);
    }
    changed.revert();
    other.revert();
}

fn without_expiry(mut value: serde_json::Value) -> serde_json::Value {
    match &mut value {
        serde_json::Value::Object(fields) => {
            fields.remove("expires");
            for field in fields.values_mut() {
                *field = without_expiry(field.take());
            }
        }
        serde_json::Value::Array(items) => {
            for item in items {
                *item = without_expiry(item.take());
            }
        }
        _ => {}
    }
    value
}

#[test]
fn what_somebody_did_to_the_table_is_not_overwritten() {
    if !can_test() {
        return;
    }
    let pair = Pair::new();
    let injected = Injected::proven(&pair.a, &cut(Some(peers(&["10.77.0.2"])), None));
    let other = cut(Some(peers(&["10.77.0.0/24"])), None);
    let table = pair.a.run("nft", &["list", "tables", "inet"]);
    let table = table.trim().strip_prefix("table ").expect("one table").to_owned();
    let planned = injected.plan.amended(&other, &[]).expect("planned");
    pair.a.nft(&format!("add rule {table} output_cut counter"));
    let dump = without_lease(&pair);
    let refusal = injected.plan.amended(&other, &[]);
    assert!(
        matches!(&refusal, Err(Refusal::Foreign { what }) if what.contains("rules instead of")),
        "{refusal:?}"
    );
    assert_eq!(without_lease(&pair), dump, "a plan touches nothing");
    // Somebody was between the plan and the change: all of it is refused, and the old stays.
    pair.a.nft(&format!(
        "add chain {table} theirs; add rule {table} theirs ip daddr @output_peers4 drop"
    ));
    let dump = without_lease(&pair);
    planned.amend().err().expect("a set is in use");
    assert_eq!(without_lease(&pair), dump);
    assert!(!udp_passes(&pair.a, &pair.b, at(B4, 53)), "what was in effect still is");
    let notes = planned.revert().expect("reverted");
    assert_eq!(notes.len(), 2, "{notes:?}");
    assert_eq!(pair.a.run("nft", &["list", "ruleset"]), "");

    pair.a.nft(&format!("table {table} {{ chain theirs {{ }}; }}"));
    let refusal = injected.plan.amended(&other, &[]);
    assert!(matches!(refusal, Err(Refusal::Foreign { .. })), "{refusal:?}");
    pair.a.nft(&format!("delete table {table}"));
    let refusal = injected.plan.amended(&other, &[]);
    assert!(matches!(refusal, Err(Refusal::NotPossible(_))), "{refusal:?}");
}

/// The ruleset with handles, but for what is left of leases.
pub(super) fn without_lease(pair: &Pair) -> serde_json::Value {
    let text = pair.a.run("nft", &["-j", "list", "ruleset"]);
    without_expiry(serde_json::from_str(&text).expect("JSON"))
}

#[test]
fn what_cannot_become_another_is_refused() {
    if !can_test() {
        return;
    }
    let mut pair = Pair::new();
    let partition = cut(Some(peers(&["10.77.0.2"])), None);
    let injected = Injected::proven(&pair.a, &partition);
    let dump = without_lease(&pair);
    let exempt = Partition { kubelet: KubeletPath::Exempt, ..partition.clone() };
    let refusal = injected.plan.amended(&exempt, &[B4]);
    assert!(matches!(refusal, Err(Refusal::NotPossible(_))), "nobody is cut: {refusal:?}");
    let kill = r#"{ "kill": { "signal": 9, "processes": "main", "every": null } }"#;
    let kill: Fault = serde_json::from_str(kill).expect("a fault");
    let refusal = AnyInjection::Partition(injected.plan.clone()).amended(&kill);
    assert!(
        matches!(&refusal, Err(Refusal::NotPossible(why)) if why.contains("cannot become a kill")),
        "{refusal:?}"
    );
    assert_eq!(without_lease(&pair), dump);
    pair.a.end_process();
    let refusal = injected.plan.amended(&partition, &[]);
    assert!(matches!(refusal, Err(Refusal::TargetGone { .. })), "{refusal:?}");
    injected.revert();
}
