//! Taking it back: complete, repeatable, and nothing foreign is touched.

use std::{collections::BTreeSet, time::Duration};

use faultline_agent::{
    fault::{
        AnyInjection, Injection, Observation, Refusal, Wake,
        partition::{PartitionInjection, found_in, remove_from},
        sweep_tables,
    },
    kernel::{KernelError, clock, netns::NetNs},
};
use faultline_proto::{
    fault::{KubeletPath, PeerSet},
    id::FaultId,
};
use faultline_tests::netns::{B4, Pair, can_test};

use super::{Injected, LONG, at, cut, peers, plan, resolved};

/// A ruleset of somebody else's, with values that a careless deletion or a rebuild would lose.
const FOREIGN: &str = "
    table inet foreign {
        counter seen { packets 7 bytes 700 }
        set blocked { type ipv4_addr; flags interval; elements = { 198.51.100.0/24 } }
        chain unused { ip saddr @blocked counter packets 3 bytes 300 drop; }
    }
    table ip faultline { chain unused { }; }
    table inet faultline_not_an_id { chain unused { }; }
";

#[test]
fn revert_leaves_byte_identical_dumps() {
    if !can_test() {
        return;
    }
    let pair = Pair::new();
    pair.a.nft(FOREIGN);
    let before = [pair.a.dump(), pair.b.dump()];
    let both = peers(&["10.77.0.2", "10.99.0.0/16", "fd77::2", "fd99::/64"]);
    let injected = Injected::proven(&pair.a, &cut(Some(both.clone()), Some(both)));
    assert_ne!(pair.a.dump(), before[0]);
    let plan = injected.plan.clone();
    assert_eq!(injected.revert(), Vec::<String>::new());
    assert_eq!([pair.a.dump(), pair.b.dump()], before);
    // Twice, and by a plan that was read back from disk.
    assert_eq!(plan.revert().expect("again"), Vec::<String>::new());
    assert_eq!([pair.a.dump(), pair.b.dump()], before);
}

#[test]
fn revert_without_inject_and_from_the_journal_is_fine() {
    if !can_test() {
        return;
    }
    let pair = Pair::new();
    let before = pair.a.dump();
    let plan = plan(&pair.a, &cut(Some(PeerSet::Everything), None)).expect("planned");
    assert_eq!(pair.a.dump(), before, "a plan touches nothing");
    assert_eq!(plan.revert().expect("nothing to do"), Vec::<String>::new());

    let written = serde_json::to_vec(&AnyInjection::Partition(plan)).expect("plain data");
    let read: AnyInjection = serde_json::from_slice(&written).expect("plain data");
    let mut live = read.as_injection().inject(clock::now().after(LONG)).expect("injected");
    assert!(matches!(live.prove().expect("asked"), Observation::Proven(_)));
    drop(live);
    // Another process reads the same.
    let read: AnyInjection = serde_json::from_slice(&written).expect("plain data");
    let read = read.as_injection();
    assert_eq!(read.residue().expect("readable").len(), 1);
    assert_eq!(read.revert().expect("reverted"), Vec::<String>::new());
    assert_eq!(read.residue().expect("readable"), Vec::<String>::new());
    assert_eq!(pair.a.dump(), before);
}

#[test]
fn a_target_that_has_gone_is_no_failure() {
    if !can_test() {
        return;
    }
    let mut pair = Pair::new();
    let everything = cut(Some(PeerSet::Everything), Some(PeerSet::Everything));
    let never = plan(&pair.a, &everything).expect("planned");
    let mut injected = Injected::proven(&pair.a, &everything);
    let now = clock::now();
    assert!(matches!(injected.live.wake(now).expect("looked"), Wake::At(later) if later > now));
    let written = serde_json::to_vec(&injected.plan).expect("plain data");
    pair.a.end_process();
    assert_eq!(injected.live.wake(now).expect("looked"), Wake::TargetGone);
    let error = never.inject(clock::now().after(LONG)).err().expect("nothing to inject into");
    assert!(matches!(error, KernelError::Gone { .. }), "{error}");
    injected.revert();
    // Nobody remembers a socket inside.
    drop(pair.a);
    let read: PartitionInjection = serde_json::from_slice(&written).expect("plain data");
    assert_eq!(read.revert().expect("nothing to do"), Vec::<String>::new());
    assert_eq!(read.residue().expect("nothing there"), Vec::<String>::new());
}

#[test]
fn a_foreign_table_of_the_same_name_is_left_alone() {
    if !can_test() {
        return;
    }
    let pair = Pair::new();
    let everything = cut(Some(PeerSet::Everything), None);
    let id = FaultId::random().expect("random bytes");
    let late = PartitionInjection::plan(id, &everything, &resolved(&pair.a, Vec::new()));
    let late = late.expect("planned");
    pair.a.nft(&format!("table inet {} {{ chain theirs {{ }}; }}", id.object_name()));
    let before = pair.a.dump();

    let refusal = PartitionInjection::plan(id, &everything, &resolved(&pair.a, Vec::new()));
    assert!(matches!(refusal, Err(Refusal::Foreign { .. })), "{refusal:?}");
    let error = late.inject(clock::now().after(LONG)).err().expect("the name is taken");
    assert!(matches!(error, KernelError::Netlink { .. }), "{error}");
    let notes = late.revert().expect("nothing of ours is there");
    assert!(notes.len() == 1 && notes[0].contains("not Faultline's"), "{notes:?}");
    assert_eq!(late.residue().expect("readable"), Vec::<String>::new());
    let net_ns = NetNs::of_process(pair.a.pid()).expect("it has a process");
    assert_eq!(found_in(&net_ns).expect("readable"), []);
    assert_eq!(pair.a.dump(), before);
}

#[test]
fn what_others_put_into_our_table_is_told() {
    if !can_test() {
        return;
    }
    let pair = Pair::new();
    let injected = Injected::proven(&pair.a, &cut(Some(peers(&["10.77.0.2"])), None));
    let table = pair.a.run("nft", &["list", "tables", "inet"]);
    let table = table.trim().strip_prefix("table ").expect("one table").to_owned();
    pair.a.nft(&format!("add chain {table} theirs; add rule {table} output accept"));
    let notes = injected.revert();
    assert_eq!(notes.len(), 2, "{notes:?}");
    assert_eq!(pair.a.run("nft", &["list", "ruleset"]), "");
}

#[test]
fn the_sweep_finds_and_removes_what_the_journal_lost() {
    if !can_test() {
        return;
    }
    let pair = Pair::new();
    pair.a.nft(FOREIGN);
    let before = pair.a.dump();
    let injected = Injected::proven(&pair.a, &cut(Some(peers(&["10.77.0.2"])), None));
    let all = NetNs::all().expect("looked at");
    let own = NetNs::of_process(pair.a.pid()).expect("it has a process");
    let net_ns = all.iter().find(|net_ns| net_ns.id() == own.id()).expect("found among all");
    let found = found_in(net_ns).expect("readable");
    assert_eq!(found.len(), 1);
    assert_eq!(remove_from(net_ns, found[0].fault).expect("removed"), Vec::<String>::new());
    assert_eq!(remove_from(net_ns, found[0].fault).expect("again"), Vec::<String>::new());
    assert_eq!(pair.a.dump(), before);
    drop(injected);
}

#[test]
fn what_cannot_be_done_is_refused_before_anything_is_touched() {
    if !can_test() {
        return;
    }
    let pair = Pair::new();
    let before = pair.a.dump();
    let id = FaultId::random().expect("random bytes");
    let mut host = resolved(&pair.a, Vec::new());
    host.host_network = true;
    let everything = cut(Some(PeerSet::Everything), None);
    let refusal = PartitionInjection::plan(id, &everything, &host);
    assert!(matches!(refusal, Err(Refusal::NotPossible(_))), "{refusal:?}");

    let mut node_only = cut(Some(peers(&["10.77.0.2"])), None);
    node_only.kubelet = KubeletPath::Exempt;
    let refusal = PartitionInjection::plan(id, &node_only, &resolved(&pair.a, vec![B4]));
    assert!(matches!(refusal, Err(Refusal::NotPossible(_))), "{refusal:?}");
    assert_eq!(pair.a.dump(), before);

    let plan = PartitionInjection::plan(id, &everything, &resolved(&pair.a, vec![]));
    let injected = Injected::new(plan.expect("planned"), LONG);
    let refusal = PartitionInjection::plan(id, &everything, &resolved(&pair.a, vec![]));
    assert!(matches!(refusal, Err(Refusal::Conflict { with, .. }) if with == id), "{refusal:?}");
    injected.revert();
    pair.b.serve_tcp(at(B4, 80));
    assert!(pair.a.connect(at(B4, 80)).is_ok());
}

#[test]
fn a_sweep_leaves_to_its_lease_what_may_be_another_agents() {
    if !can_test() {
        return;
    }
    let pair = Pair::new();
    let inject = |lease| {
        Injected::new(
            plan(&pair.a, &cut(Some(peers(&["10.77.0.2"])), None)).expect("planned"),
            lease,
        )
    };
    let net_ns = NetNs::of_process(pair.a.pid()).expect("it has a process");
    let found = || found_in(&net_ns).expect("readable");
    let nothing = BTreeSet::new();
    let kept = inject(LONG);
    let [table] = found()[..] else { panic!("one table") };
    assert!(table.is_in_effect);
    let swept = sweep_tables(&nothing, &nothing);
    let says = |texts: &[String]| texts.iter().any(|t| t.contains(&table.fault.to_string()));
    assert!(says(&swept.in_effect) && !says(&swept.removed), "{swept:?}");
    assert_eq!(found(), [table]);
    // What this agent knows to be its own goes at once,
    let swept = sweep_tables(&nothing, &BTreeSet::from([table.fault]));
    assert!(says(&swept.removed), "{swept:?}");
    assert_eq!(found(), []);
    // and so does what no lease keeps any more.
    let ended = inject(Duration::from_millis(500));
    std::thread::sleep(Duration::from_millis(800));
    assert!(found().iter().all(|table| !table.is_in_effect), "{:?}", found());
    sweep_tables(&nothing, &nothing);
    assert_eq!(found(), []);
    kept.revert();
    ended.revert();
}
