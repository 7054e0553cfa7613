//! Probes that agents make from pods, one of which is made anew under another name: from where they go on, what is
//! called a gap, and that an assertion on such a probe is one on each pod that it is made from.

use std::{
    collections::BTreeMap,
    fs,
    sync::{Arc, PoisonError},
    time::Duration,
};

use faultline::{
    place::{Place, Pod, inventory::Inventory},
    report::{Console, MoveReport, Outcome, Output, ProbeReport, Report, Verdict},
    run::{Interrupt, run},
};
use faultline_tests::{
    fake_agent::{FakeAgent, Flaw},
    pki::Authority,
    sim::{experiment, place, pod},
};

/// A pod of the Deployment that is observed from.
fn api(name: &str, node: &str, number: u8) -> Pod {
    Pod { owner: Some("deployment/api".into()), ..pod(name, node, number) }
}

/// A pod that is cut off, and that nobody observes from.
fn db() -> Pod {
    let labels = BTreeMap::from([("app".into(), "db".into())]);
    Pod { labels, ..pod("db-0", "node2", 9) }
}

/// Those on the first two of three nodes.
fn at_first() -> Vec<Pod> {
    vec![api("api-a", "node1", 1), api("api-b", "node2", 2), db()]
}

/// Cuts `db` off while it is tried from every `api`, and does something in the middle, with the agents and with what
/// writes the pods anew. With that, what the agents were asked to try: the uids of the pods, by node.
async fn observed(
    flaws: [Flaw; 3],
    during: &str,
    middle: impl FnOnce(&[FakeAgent], &dyn Fn(Vec<Pod>)),
) -> (Report, Vec<Vec<String>>) {
    let authority = Authority::new().expect("an authority");
    let mut agents = Vec::new();
    for (i, flaw) in (1..).zip(flaws) {
        let node = format!("node{i}");
        agents.push(FakeAgent::start(&authority, &node, flaw).await.expect("an agent"));
    }
    let endpoints = agents.iter().map(|agent| agent.endpoint.clone()).collect();
    let credentials = authority.controller().expect("a certificate");
    let (place, _dir) = place(at_first(), endpoints, &credentials).expect("a place");
    let Place::Inventory(inventory) = place.as_ref() else { panic!("it is an inventory") };
    let write = |pods| {
        let text = serde_json::to_string(&Inventory { pods, ..inventory.clone() });
        let draft = inventory.file.with_extension("new");
        fs::write(&draft, text.expect("plain data")).expect("written");
        fs::rename(draft, &inventory.file).expect("replaced");
    };
    write(at_first());
    let experiment = experiment(&format!(
        "targets:
    api: {{ labels: {{ app: api }} }}
    db: {{ labels: {{ app: db }} }}
  probes:
    - {{ name: seen, from: api, tcp: {{ address: \"10.244.9.2:1\" }}, every: 20ms, {during} }}
  method:
    - partition: {{ between: [db, everything] }}
      for: 4s
  assertions:
    - {{ errors: \"<= 0\", probe: seen }}"
    ));
    let (console, interrupt) = (Console::new(Output::Json), Interrupt::default());
    let running = run(&experiment, &place, &console, &interrupt);
    let changing = async {
        while FakeAgent::count(&agents[1].calls.commits) == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        tokio::time::sleep(Duration::from_millis(300)).await;
        middle(&agents, &write);
    };
    let report = tokio::join!(running, changing).0;
    let asked = agents.iter().map(|agent| {
        let observed = Arc::clone(&agent.calls);
        let observed = observed.observed.lock().unwrap_or_else(PoisonError::into_inner);
        let uid = |target: &faultline_proto::pb::Target| target.pod_uid.clone();
        observed.iter().filter_map(|request| request.target.as_ref().map(uid)).collect()
    });
    let asked = asked.collect();
    (report, asked)
}

fn uid(number: u8) -> String {
    pod("", "", number).uid
}

fn probe<'r>(report: &'r Report, name: &str) -> &'r ProbeReport {
    let found = report.probes.iter().find(|probe| probe.name == name);
    found.unwrap_or_else(|| panic!("no {name}: {report:#?}"))
}

#[tokio::test]
async fn a_probe_goes_on_from_the_pod_that_its_own_was_replaced_by() {
    let during = "during: { success: \">= 99%\" }";
    let (report, asked) = observed([Flaw::None; 3], during, |agents, write| {
        write(vec![api("api-b", "node2", 2), api("api-c", "node3", 3), db()]);
        agents[0].lose_target(&uid(1));
    })
    .await;
    assert_eq!(report.verdict, Verdict::Held, "{report:#?}");
    // From each pod once, and from nobody twice.
    assert_eq!(asked, [vec![uid(1)], vec![uid(2)], vec![uid(3)]]);
    assert_eq!(report.probes.len(), 2);
    let moved = probe(&report, "seen@shop/api-a");
    let [MoveReport { pod, instead_of, since_ms }] = moved.moves.as_slice() else {
        panic!("{moved:#?}")
    };
    assert_eq!((pod.as_str(), instead_of.as_str()), ("shop/api-c", "shop/api-a"));
    let unobserved: u64 = moved.during.unobserved.values().sum();
    assert!(*since_ms > 1_000.0 && unobserved > 3, "what was between is a gap: {moved:#?}");
    assert!(moved.during.failures.is_empty(), "{moved:#?}");
    assert!(moved.during.attempts > 100, "it went on: {moved:#?}");
    let stayed = probe(&report, "seen@shop/api-b");
    assert_eq!(stayed.moves, []);
    let [asserted] = report.assertions.as_slice() else { panic!("{report:#?}") };
    assert_eq!((asserted.outcome, asserted.was.as_str()), (Outcome::Held, "was 0"));
}

#[tokio::test]
async fn where_nobody_came_in_its_place_nothing_is_observed_and_nobody_else_is_taken() {
    let during = "during: { success: \">= 99%\" }";
    let (report, asked) = observed([Flaw::None; 3], during, |agents, write| {
        write(vec![api("api-b", "node2", 2), pod("api-c", "node3", 3), db()]);
        agents[0].lose_target(&uid(1));
    })
    .await;
    assert_eq!(asked, [vec![uid(1)], vec![uid(2)], vec![]], "nobody knows who made api-c");
    assert_eq!(report.verdict, Verdict::Deviated, "{report:#?}");
    let is_unknown = |reason: &String| reason.contains("observed nothing in");
    assert!(report.reasons.iter().all(is_unknown), "{report:#?}");
    let lost = probe(&report, "seen@shop/api-a");
    assert_eq!(lost.moves, []);
    assert!(lost.during.failures.is_empty(), "{lost:#?}");
}

#[tokio::test]
async fn an_assertion_on_a_probe_is_one_on_each_pod_that_it_is_made_from() {
    let flaws = [Flaw::None, Flaw::SeesFailures, Flaw::None];
    let (report, _) = observed(flaws, "timeout: 1s", |_, _| {}).await;
    assert_eq!(report.verdict, Verdict::Deviated, "{report:#?}");
    let [asserted] = report.assertions.as_slice() else { panic!("{report:#?}") };
    assert_eq!(asserted.outcome, Outcome::Deviated);
    assert_eq!(asserted.probe.as_deref(), Some("seen@shop/api-b"));
}
