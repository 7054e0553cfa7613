//! Changing a partition as a whole agent does it: all or none is planned, the journal comes first, the
//! effect is proven anew, and an agent that dies at any step leaves what the next one takes back.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    os::unix::process::ExitStatusExt,
    path::Path,
    process::{Child, Command, Stdio},
    sync::MutexGuard,
};

use faultline_agent::{
    failpoint::{self, Step},
    fault::Refusal,
    journal::{Journal, Record},
    supervisor::AmendError,
};
use faultline_proto::{
    fault::Fault,
    id::FaultId,
    status::{Proof, State},
    target::Target,
};
use faultline_tests::{
    netns::{B4, Pair, can_test},
    process::one_at_a_time,
    supervised::{Supervised, pod},
};
use nix::sys::signal::Signal;
use tempfile::TempDir;

use super::{LONG, amend::without_lease, at, cut, lease, peers, udp_passes};

/// A peer that nobody has, beside the one that is there.
const STRANGER: &str = "10.77.0.9";

/// A pair, the directories of an agent whose pod is the first of it, and nobody else who sweeps.
struct Node {
    pair: Pair,
    dir: TempDir,
    target: Target,
    _alone: [MutexGuard<'static, ()>; 2],
}

impl Node {
    fn new() -> Self {
        let alone = [one_at_a_time(), lease::ended_tables()];
        let (pair, dir) = (Pair::new(), tempfile::tempdir().expect("a directory"));
        let target = pod(&dir.path().join("pods"), "api-1", 1, &pair.a);
        Self { pair, dir, target, _alone: alone }
    }

    fn start(&self) -> Supervised {
        Supervised::start(&self.dir.path().join("state"), &self.dir.path().join("pods"))
    }

    /// What the journal holds now.
    fn records(&self) -> Vec<Record> {
        let (_, found) = Journal::open(&self.dir.path().join("state/journal")).expect("opened");
        assert!(found.unreadable.is_empty(), "{:?}", found.unreadable);
        found.records.iter().map(|journalled| journalled.record().clone()).collect()
    }

    fn b_is_cut(&self) -> bool {
        !udp_passes(&self.pair.a, &self.pair.b, at(B4, 53))
    }
}

/// A cut of the way out to these.
fn to(cidrs: &[&str]) -> Fault {
    Fault::Partition(cut(Some(peers(cidrs)), None))
}

fn kill() -> Fault {
    let kill = r#"{ "kill": { "signal": 9, "processes": "main", "every": null } }"#;
    serde_json::from_str(kill).expect("a fault")
}

#[test]
fn a_change_is_proven_anew_and_keeps_lease_and_deadline() {
    if !can_test() {
        return;
    }
    let node = Node::new();
    let before = node.pair.a.dump();
    let agent = node.start();
    let first = agent.inject(&node.target, to(&["10.77.0.2"]), LONG);
    assert_eq!(first.proof, Proof::Proven, "{first:?}");
    let other = to(&[STRANGER]);
    let answer = agent.amend(&[(first.fault_id, other.clone())]).expect("changed");
    let [second] = &answer[..] else { panic!("{answer:?}") };
    assert_eq!((second.state, second.proof), (State::Active, Proof::Proven), "{second:?}");
    assert!(second.evidence.contains(STRANGER), "{second:?}");
    assert!(second.proven > first.proven, "seen after it was changed");
    assert_eq!(
        (second.lease_end, second.deadline, second.committed),
        (first.lease_end, first.deadline, first.committed)
    );
    assert!(!node.b_is_cut());
    let records = node.records();
    assert_eq!(records.len(), 1);
    assert_eq!((records[0].fault_id, &records[0].fault), (first.fault_id, &other));

    // The same again: nothing is done.
    let journal = || fs::read_dir(node.dir.path().join("state/journal")).expect("read").flatten();
    let file = journal().next().expect("a record").path();
    let state = || (fs::metadata(&file).and_then(|m| m.modified()), without_lease(&node.pair));
    let (written, rules) = state();
    assert_eq!(agent.amend(&[(first.fault_id, other)]).expect("the same"), answer);
    let (written_after, rules_after) = state();
    assert_eq!(written_after.expect("there"), written.expect("there"));
    assert_eq!(rules_after, rules);

    let reverted = agent.revert();
    assert_eq!(reverted[0].state, State::Reverted);
    assert_eq!(reverted[0].changed_by_others, Vec::<String>::new());
    assert_eq!(journal().count(), 0);
    assert_eq!(node.pair.a.dump(), before);
}

#[test]
fn none_is_changed_where_one_is_refused() {
    if !can_test() {
        return;
    }
    let node = Node::new();
    let agent = node.start();
    let id = agent.inject(&node.target, to(&["10.77.0.2"]), LONG).fault_id;
    let second = agent.inject(&node.target, to(&["10.77.0.0/24"]), LONG).fault_id;
    let prepared = agent.prepare(&node.target, to(&["10.77.0.3"]), LONG);
    let unknown = FaultId::random().expect("random bytes");
    let rules = without_lease(&node.pair);
    let (statuses, records) = (agent.list(), node.records().len());
    let refused =
        |id_and_fault| agent.amend(&[(id, to(&[STRANGER])), id_and_fault]).expect_err("refused");
    let error = refused((unknown, to(&[STRANGER])));
    assert!(matches!(error, AmendError::Unknown(which) if which == unknown), "{error:?}");
    let error = refused((prepared, to(&[STRANGER])));
    assert!(matches!(error, AmendError::NotAllowed { id, .. } if id == prepared), "{error:?}");
    let error = refused((second, kill()));
    assert!(
        matches!(error, AmendError::Refused { id, source: Refusal::NotPossible(_), .. } if id == second),
        "{error:?}"
    );
    assert_eq!(without_lease(&node.pair), rules);
    assert_eq!((agent.list(), node.records().len()), (statuses, records));
    // Each by itself can be changed, and one that is over is not known any more.
    let both = [(id, to(&[STRANGER])), (second, to(&["10.77.0.8"]))];
    let answer = agent.amend(&both).expect("changed");
    assert!(answer.iter().all(|status| status.proof == Proof::Proven), "{answer:?}");
    assert!(!node.b_is_cut());
    agent.revert();
    let error = agent.amend(&both).expect_err("over");
    assert!(matches!(error, AmendError::Unknown(which) if which == id), "{error:?}");
}

#[test]
fn what_the_kernel_does_not_make_leaves_the_old_in_effect() {
    if !can_test() {
        return;
    }
    let node = Node::new();
    let agent = node.start();
    let first = to(&["10.77.0.2"]);
    let id = agent.inject(&node.target, first.clone(), LONG).fault_id;
    // As many things as before, but not the same: the transaction finds a set missing.
    let table = format!("inet {}", id.object_name());
    node.pair.a.nft(&format!(
        "flush chain {table} output_peers; delete set {table} output_peers4;
         add set {table} theirs {{ type ipv4_addr; }};
         add rule {table} output_peers ip daddr 10.77.0.2 goto output_cut"
    ));
    let rules = without_lease(&node.pair);
    let error = agent.amend(&[(id, to(&[STRANGER]))]).expect_err("not made");
    assert!(matches!(error, AmendError::NotMade { id: which, .. } if which == id), "{error:?}");
    assert!(error.to_string().contains("what was in effect still is"), "{error}");
    assert_eq!(without_lease(&node.pair), rules);
    assert!(node.b_is_cut());
    let status = &agent.list()[0];
    assert_eq!((status.state, status.proof), (State::Active, Proof::Proven));
    assert!(status.failure.contains("could not be changed"), "{status:?}");
    assert_eq!(node.records()[0].fault, first, "the journal says so too");
    agent.revert();
    assert_eq!(node.pair.a.run("nft", &["list", "ruleset"]), "");
}

#[test]
fn a_new_effect_that_is_not_seen_is_not_called_proven() {
    if !can_test() {
        return;
    }
    let node = Node::new();
    let agent = node.start();
    let id = agent.inject(&node.target, to(&["10.77.0.2"]), LONG).fault_id;
    let answer = agent.amend(&[(id, to(&["203.0.113.7"]))]).expect("changed");
    assert_eq!((answer[0].state, answer[0].proof), (State::Active, Proof::Failed), "{answer:?}");
    assert!(answer[0].evidence.contains("no route"), "{answer:?}");
    assert_eq!(answer[0].proven, None);
    let answer = agent.amend(&[(id, to(&["10.77.0.2"]))]).expect("changed back");
    assert_eq!(answer[0].proof, Proof::Proven);
    agent.revert();
}

/// An agent in a process of its own, which dies at a step of its first change.
struct Doomed {
    process: Child,
    says: BufReader<std::process::ChildStdout>,
}

impl Doomed {
    fn start(node: &Node) -> Self {
        let mut process = Command::new(env!("CARGO_BIN_EXE_helper"))
            .arg("supervise")
            .args([node.dir.path().join("state"), node.dir.path().join("pods")])
            .env(failpoint::VARIABLE, "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("it can be executed");
        let says = BufReader::new(process.stdout.take().expect("piped"));
        Self { process, says }
    }

    fn tell(&mut self, text: &str) {
        writeln!(self.process.stdin.as_mut().expect("piped"), "{text}").expect("it listens");
    }

    fn hear(&mut self) -> String {
        let mut line = String::new();
        self.says.read_line(&mut line).expect("it speaks");
        line.trim().to_owned()
    }
}

fn json(fault: &Fault) -> String {
    serde_json::to_string(fault).expect("plain data")
}

fn arm(state_dir: &Path, step: Step) {
    let dir = state_dir.join(failpoint::DIRECTORY);
    fs::create_dir_all(&dir).expect("a directory");
    fs::write(dir.join(step.name), "").expect("written");
}

#[test]
fn an_agent_that_dies_in_a_change_leaves_what_its_journal_takes_back() {
    if !can_test() {
        return;
    }
    // At each step: whether the new one is journalled, and whether it is in effect.
    for (step, is_journalled, is_made) in [
        (failpoint::BEFORE_AMEND, false, false),
        (failpoint::RECORD_WRITTEN, false, false),
        (failpoint::AMEND_JOURNALLED, true, false),
        (failpoint::AMEND_READY, true, false),
        (failpoint::AMENDED, true, true),
    ] {
        let node = Node::new();
        let before = node.pair.a.dump();
        let mut agent = Doomed::start(&node);
        agent.tell(&serde_json::to_string(&node.target).expect("plain data"));
        agent.tell(&json(&to(&["10.77.0.2"])));
        let id = agent.hear();
        assert!(node.b_is_cut());
        arm(&node.dir.path().join("state"), step);
        let other = to(&[STRANGER, "203.0.113.0/24"]);
        agent.tell(&json(&other));
        assert_eq!(agent.hear(), "", "{}: it dies", step.name);
        let ended = agent.process.wait().expect("our child");
        assert_eq!(ended.signal(), Some(Signal::SIGABRT as i32), "{}", step.name);
        assert_eq!(node.b_is_cut(), !is_made, "{}", step.name);
        let rules = node.pair.a.run("nft", &["list", "ruleset"]);
        let is_there = rules.contains("203.0.113.0/24");
        assert_eq!(is_there, is_made || step == failpoint::AMEND_READY, "{}: {rules}", step.name);

        // The next one.
        let records = node.records();
        let [record] = &records[..] else { panic!("{}: {records:?}", step.name) };
        assert_eq!(record.fault_id.to_string(), id);
        assert_eq!(record.fault == other, is_journalled, "{}", step.name);
        let injection = record.injection.as_injection();
        assert_eq!(injection.residue().expect("readable").len(), 1);
        let notes = injection.revert().expect("reverted");
        assert_eq!(notes, Vec::<String>::new(), "{}: nobody else was there", step.name);
        assert_eq!(injection.residue().expect("readable"), Vec::<String>::new());
        assert_eq!(injection.revert().expect("again"), Vec::<String>::new());
        assert_eq!(node.pair.a.dump(), before, "{}", step.name);
        assert!(!node.b_is_cut());
    }
}
