//! What is asked outside of a run, of agents of which some do not answer.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use faultline::{agents::Fleet, ops, place::Place};
use faultline_proto::{
    id::{FaultId, RunId},
    limits::LEASE_MAX,
    pb,
};
use faultline_tests::{
    fake_agent::{FakeAgent, Flaw},
    pki::Authority,
    sim::place,
};

const FAULT: &str = "00000000000000a1";

/// Injects one fault on a node, as another controller would have.
async fn inject(place: &Place, node: &str) {
    let credentials = place.credentials().await.expect("readable");
    let (fleet, _) = Fleet::connect_some(&place.agents(), &credentials).await;
    let injection = pb::Injection { fault_id: FAULT.into(), ..pb::Injection::default() };
    let injections = BTreeMap::from([(node.to_owned(), vec![injection])]);
    fleet.prepare(RunId::from_bits(1), &injections.into(), false).await.expect("prepared");
    let ids = BTreeMap::from([(node.to_owned(), vec![FAULT.to_owned()])]);
    for (node, answer) in fleet.commit(&ids).await {
        answer.unwrap_or_else(|e| panic!("{node}: {e}"));
    }
}

#[tokio::test]
async fn a_halt_says_of_silent_nodes_until_when_their_faults_last() {
    let authority = Authority::new().expect("an authority");
    let start = |node, flaw| FakeAgent::start(&authority, node, flaw);
    let (alive, dead) = (start("node1", Flaw::None).await, start("node2", Flaw::None).await);
    let silent = start("node3", Flaw::HangsAtHalt).await;
    let empty = start("node4", Flaw::HangsAtHalt).await;
    let agents = [alive, dead, silent, empty].map(|agent| agent.expect("an agent"));
    let endpoints = agents.iter().map(|agent| agent.endpoint.clone()).collect();
    let credentials = authority.controller().expect("a certificate");
    let (place, _dir) = place(Vec::new(), endpoints, &credentials).expect("a place");
    inject(&place, "node3").await;
    let [_alive, dead, _silent, _empty] = agents;
    drop(dead);

    let began = Instant::now();
    let overview = ops::halt(&place, "enough").await.expect("asked");
    assert!(began.elapsed() < Duration::from_secs(20), "nobody is held up for long");
    let halted: Vec<&str> = overview.halted.iter().map(|halted| halted.node.as_str()).collect();
    assert_eq!(halted, ["node1"]);
    assert!(!overview.is_complete() && overview.refused.is_empty());
    let ends: BTreeMap<&str, _> =
        overview.unreachable.iter().map(|u| (u.node.as_str(), u.faults_end)).collect();
    assert_eq!(ends.keys().copied().collect::<Vec<_>>(), ["node2", "node3", "node4"]);
    let unknown = ends["node2"].expect("it may hold something");
    let longest = Duration::from_secs_f64(unknown.in_ms / 1e3);
    assert_eq!((unknown.is_known, longest), (false, LEASE_MAX));
    // The fake's lease of a second is over by the time that the halt is given up.
    let known = ends["node3"].expect("it holds something");
    assert!(known.is_known && known.in_ms < 1_000.0, "{known:?}");
    assert_eq!(ends["node4"], None, "it said that it holds nothing");
    assert!(overview.unreachable.iter().all(|unreachable| unreachable.needs_halt));
    let text = overview.text();
    assert!(text.contains("at the latest, if nobody renews it"), "{text}");
    assert!(text.contains("it held no fault when it was last asked"), "{text}");
    assert!(text.contains("halt again when it is back"), "{text}");
    let json = serde_json::to_value(&overview).expect("plain data");
    let first = &json["unreachable"].as_array().expect("a list")[0];
    assert_eq!(first["faultsEnd"]["isKnown"], false, "{json}");
    assert!(first["faultsEnd"]["atUnixMs"].as_u64().is_some_and(|at| at > 0), "{json}");

    let overview = ops::ps(&place).await.expect("asked");
    assert!(!overview.is_complete());
    assert_eq!(overview.unreachable.len(), 1, "the dead one: the others list");
    let resumed = ops::resume(&place, &[]).await.expect("asked");
    assert_eq!(resumed.resumed, ["node1", "node3", "node4"]);
    assert_eq!(resumed.not_resumed[0].node, "node2");
    // An id may be one of the node that cannot be asked: that is said.
    let id: FaultId = FAULT.parse().expect("an id");
    let unknown = ops::resume(&place, &[id]).await.expect_err("not stuck").to_string();
    assert!(unknown.contains(FAULT) && unknown.contains("node2 could not be asked"), "{unknown}");
}
