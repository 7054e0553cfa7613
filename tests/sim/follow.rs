//! Targets that come and go while a partition is in effect: what the agents are asked, what is called a
//! deviation, and what is reported. The pods are those of an inventory that is written anew meanwhile.

use std::{
    fs,
    net::IpAddr,
    path::PathBuf,
    sync::{Arc, PoisonError},
    time::Duration,
};

use faultline::{
    place::{Place, Pod, inventory::Inventory},
    report::{Console, Output, Report, Verdict},
    run::{Interrupt, run},
};
use faultline_proto::{fault::Fault, pb};
use faultline_tests::{
    fake_agent::{FakeAgent, Flaw},
    pki::Authority,
    sim::{experiment, place, pod},
};

/// Three nodes; `api-1` on the first and `db-1` on the second, and nobody on the third.
struct Cluster {
    agents: Vec<FakeAgent>,
    place: Arc<Place>,
    inventory: Inventory,
    _dir: tempfile::TempDir,
}

fn db(node: &str, number: u8) -> Pod {
    let mut pod = pod("db-1", node, number);
    pod.labels.insert("app".into(), "db".into());
    pod
}

impl Cluster {
    async fn new(flaws: [Flaw; 3]) -> Self {
        let authority = Authority::new().expect("an authority");
        let mut agents = Vec::new();
        for (i, flaw) in (1..).zip(flaws) {
            let node = format!("node{i}");
            agents.push(FakeAgent::start(&authority, &node, flaw).await.expect("an agent"));
        }
        let endpoints: Vec<_> = agents.iter().map(|agent| agent.endpoint.clone()).collect();
        let credentials = authority.controller().expect("a certificate");
        let pods = vec![pod("api-1", "node1", 1), db("node2", 2)];
        let (place, dir) = place(pods, endpoints, &credentials).expect("a place");
        let Place::Inventory(inventory) = place.as_ref() else { panic!("it is an inventory") };
        let inventory = inventory.clone();
        let cluster = Self { agents, place, inventory, _dir: dir };
        cluster.write(cluster.inventory.pods.clone());
        cluster
    }

    /// Writes the inventory anew, with these pods.
    fn write(&self, pods: Vec<Pod>) {
        write(&self.inventory, pods);
    }

    /// Cuts api from db for two seconds, and does something in the middle.
    async fn cut(&self, follow: &str, more: &str, middle: impl FnOnce(&Self)) -> Report {
        let experiment = experiment(&format!(
            "lease: 500ms
  targets:
    api: {{ labels: {{ app: api }}, follow: {follow} }}
    db: {{ labels: {{ app: db }}, follow: {follow} }}
  {more}
  method:
    - partition: {{ between: [api, db] }}
      for: 2s"
        ));
        let (console, interrupt) = (Console::new(Output::Json), Interrupt::default());
        let running = run(&experiment, &self.place, &console, &interrupt);
        let changing = async {
            while self.commits(0) == 0 || self.commits(1) == 0 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
            middle(self);
        };
        tokio::join!(running, changing).0
    }

    fn commits(&self, agent: usize) -> u32 {
        FakeAgent::count(&self.agents[agent].calls.commits)
    }

    /// Whom the last amendment on an agent cuts its target from.
    fn amended(&self, agent: usize) -> Option<Vec<String>> {
        let calls = &self.agents[agent].calls;
        let amended = calls.amended.lock().unwrap_or_else(PoisonError::into_inner);
        amended.last().map(|amendment| peers(amendment.fault.clone()))
    }

    /// Whom the last injection on an agent cuts its target from, and the target's uid.
    fn injected(&self, agent: usize) -> Option<(Vec<String>, String)> {
        let calls = &self.agents[agent].calls;
        let prepared = calls.prepared.lock().unwrap_or_else(PoisonError::into_inner);
        let last = prepared.last()?.clone();
        Some((peers(last.fault), last.target?.pod_uid))
    }
}

fn write(inventory: &Inventory, pods: Vec<Pod>) {
    let file: PathBuf = inventory.file.clone();
    let text = serde_json::to_string(&Inventory { pods, ..inventory.clone() });
    let draft = file.with_extension("new");
    fs::write(&draft, text.expect("plain data")).expect("written");
    fs::rename(draft, file).expect("replaced");
}

fn peers(fault: Option<pb::Fault>) -> Vec<String> {
    let fault = Fault::try_from(fault.expect("a fault")).expect("valid");
    let text = format!("{fault:?}");
    let addresses = (1..=9_u8).map(|i| IpAddr::from([10, 244, i, 2]).to_string());
    addresses.filter(|address| text.contains(address.as_str())).collect()
}

fn recreated() -> Vec<Pod> {
    vec![pod("api-1", "node1", 1), db("node3", 3)]
}

fn uid(number: u8) -> String {
    pod("", "", number).uid
}

#[tokio::test]
async fn a_recreated_pod_is_cut_wherever_it_comes_back_and_its_peers_from_it() {
    for policy in ["recreated", "all-matching"] {
        let cluster = Cluster::new([Flaw::None; 3]).await;
        let report = cluster
            .cut(policy, "blastRadius: { maxTargets: 2 }", |cluster| cluster.write(recreated()))
            .await;
        assert_eq!(report.verdict, Verdict::Held, "{policy}: {report:#?}");
        assert_eq!(cluster.injected(2), Some((vec!["10.244.1.2".into()], uid(3))));
        assert_eq!(cluster.amended(0), Some(vec!["10.244.3.2".into()]));
        assert_eq!(cluster.amended(1), None);
        assert_eq!(report.injections.len(), 3);
        assert!(report.injections.iter().all(|injection| injection.state == "reverted"));
        let new = report.injections.iter().find(|i| i.node == "node3").expect("the new one");
        let follow = new.follow.as_ref().expect("it was followed");
        assert_eq!(follow.instead_of.as_deref(), Some("shop/db-1"), "{policy}");
        assert!(follow.seen_ms > 0.0 && follow.time_to_effect_ms.is_some(), "{follow:?}");
        let old = report.injections.iter().find(|i| i.node == "node2").expect("the old one");
        assert_eq!(old.let_go.as_deref(), Some("its pod has gone"));
        let api = report.injections.iter().find(|i| i.node == "node1").expect("the peer");
        assert_eq!((api.changes, api.let_go.as_deref()), (1, None));
        let renewals = FakeAgent::count(&cluster.agents[2].calls.renewals);
        assert!(renewals >= 2, "its lease is renewed: {renewals}");
    }
}

#[tokio::test]
async fn one_that_is_kept_is_let_go_with_its_pod_and_that_is_told() {
    let cluster = Cluster::new([Flaw::None; 3]).await;
    let report = cluster
        .cut("keep", "", |cluster| {
            cluster.write(recreated());
            cluster.agents[1].lose_target(&uid(2));
        })
        .await;
    assert_eq!(report.verdict, Verdict::Deviated, "{report:#?}");
    assert!(report.reasons[0].contains("its target has gone"), "{:?}", report.reasons);
    assert_eq!((cluster.injected(2), cluster.amended(0)), (None, None));
    assert_eq!(report.injections.len(), 2);
}

#[tokio::test]
async fn an_agent_that_sees_first_that_a_followed_target_has_gone_is_no_deviation() {
    let cluster = Cluster::new([Flaw::None; 3]).await;
    let report = cluster
        .cut("recreated", "", |cluster| {
            cluster.agents[1].lose_target(&uid(2));
            // After a few renewals, by which the run hears of it.
            let inventory = cluster.inventory.clone();
            std::thread::spawn(move || {
                std::thread::sleep(Duration::from_millis(700));
                write(&inventory, vec![pod("api-1", "node1", 1)]);
            });
        })
        .await;
    assert_eq!(report.verdict, Verdict::Held, "{report:#?}");
    let old = report.injections.iter().find(|i| i.node == "node2").expect("the old one");
    assert_eq!(old.let_go.as_deref(), Some("its target has gone"));
    assert_eq!(cluster.amended(0), None, "its address stays cut until somebody takes its place");
}

#[tokio::test]
async fn a_followed_target_that_has_gone_for_its_agent_alone_is_a_deviation() {
    let cluster = Cluster::new([Flaw::None; 3]).await;
    let report =
        cluster.cut("recreated", "", |cluster| cluster.agents[1].lose_target(&uid(2))).await;
    assert_eq!(report.verdict, Verdict::Deviated, "{report:#?}");
    assert!(report.reasons[0].contains("which is still there"), "{:?}", report.reasons);
}

#[tokio::test]
async fn who_joins_is_cut_and_who_leaves_is_let_go() {
    let cluster = Cluster::new([Flaw::None; 3]).await;
    let report = cluster
        .cut("all-matching", "", |cluster| {
            let mut left = db("node2", 2);
            left.labels.insert("app".into(), "retired".into());
            let mut new = db("node3", 3);
            new.name = "db-2".into();
            cluster.write(vec![pod("api-1", "node1", 1), left, new]);
        })
        .await;
    assert_eq!(report.verdict, Verdict::Held, "{report:#?}");
    assert_eq!(cluster.injected(2), Some((vec!["10.244.1.2".into()], uid(3))));
    assert_eq!(cluster.amended(0), Some(vec!["10.244.3.2".into()]));
    let old = report.injections.iter().find(|i| i.node == "node2").expect("the old one");
    assert_eq!(old.let_go.as_deref(), Some("it is no longer meant"));
}

#[tokio::test]
async fn nobody_is_followed_beyond_the_blast_radius() {
    let cluster = Cluster::new([Flaw::None; 3]).await;
    let report = cluster
        .cut("all-matching", "blastRadius: { maxTargets: 2 }", |cluster| {
            let mut new = db("node3", 3);
            new.name = "db-2".into();
            cluster.write(vec![pod("api-1", "node1", 1), db("node2", 2), new]);
        })
        .await;
    assert_eq!(report.verdict, Verdict::Held, "{report:#?}");
    assert_eq!((cluster.injected(2), cluster.amended(0)), (None, None));
    let [text] = report.not_followed.as_slice() else { panic!("{report:#?}") };
    assert!(text.contains("shop/db-2") && text.contains("`maxTargets` allows 2"), "{text}");
}

#[tokio::test]
async fn what_could_not_be_followed_is_a_deviation_with_its_reason() {
    for (flaws, said) in [
        ([Flaw::CannotAmend, Flaw::None, Flaw::None], "the fake cannot amend"),
        ([Flaw::AmendsInVain, Flaw::None, Flaw::None], "the change had no effect"),
        ([Flaw::None, Flaw::None, Flaw::RefusesPrepare], "the disk is full"),
        ([Flaw::None, Flaw::None, Flaw::NoEffect], "had no effect"),
    ] {
        let cluster = Cluster::new(flaws).await;
        let report = cluster.cut("recreated", "", |cluster| cluster.write(recreated())).await;
        assert_eq!(report.verdict, Verdict::Deviated, "{said}: {report:#?}");
        let told = report.reasons.iter().filter(|reason| reason.contains(said)).count();
        assert_eq!(told, 1, "{said}: {:?}", report.reasons);
        assert_eq!(report.residue, Vec::<String>::new());
    }
}

#[tokio::test]
async fn an_agent_that_hangs_over_a_new_target_holds_up_nothing() {
    let cluster = Cluster::new([Flaw::None, Flaw::None, Flaw::HangsAtCommit]).await;
    let began = std::time::Instant::now();
    let report = cluster.cut("recreated", "", |cluster| cluster.write(recreated())).await;
    assert!(began.elapsed() < Duration::from_secs(8), "{:?}", began.elapsed());
    assert_eq!(report.verdict, Verdict::Deviated, "{report:#?}");
    assert!(report.reasons[0].contains("had not answered"), "{:?}", report.reasons);
    let api = report.injections.iter().find(|i| i.node == "node1").expect("the peer");
    assert!(api.lasted_ms.is_some_and(|ms| ms < 3_500.0), "{api:?}");
}
