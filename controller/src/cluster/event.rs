//! Kubernetes Events of a run: what is said of a pod or a node, and when. Pure.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::core::v1::{Event, EventSource, ObjectReference},
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time},
    jiff::Timestamp,
};

use crate::report::{Verdict, clean, journal};

/// Who reports, as Events name it.
const COMPONENT: &str = "faultline";
/// The longest message of an Event that a server takes.
const MESSAGE_BYTES_MAX: usize = 1024;
/// Where Events of nodes are, which have no namespace.
const NODES_NAMESPACE: &str = "default";

/// What an Event is about.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum About {
    /// A pod, by namespace, name and its uid if that is known.
    Pod(String, String, Option<String>),
    /// A node.
    Node(String),
}

/// Something to be said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Said {
    pub(super) about: About,
    pub(super) reason: &'static str,
    pub(super) is_warning: bool,
    pub(super) message: String,
}

/// A fault that was prepared.
#[derive(Debug, Clone)]
struct Fault {
    kind: String,
    pod: Option<About>,
    node: String,
    plan: String,
}

/// From what happens in a run to what is said of pods and nodes.
#[derive(Debug)]
pub(super) struct Narrator {
    /// `run 1f0c… of experiment quickstart`.
    run: String,
    faults: BTreeMap<String, Fault>,
}

impl Narrator {
    pub(super) fn new(run_id: &str, experiment: &str) -> Self {
        Self { run: format!("run {run_id} of experiment {experiment}"), faults: BTreeMap::new() }
    }

    /// What is to be said of some events that came together: of each pod that it is about, and once of each node.
    pub(super) fn tell(
        &mut self,
        events: &[journal::Event],
        uid_of: impl Fn(&str, &str) -> Option<String>,
    ) -> Vec<Said> {
        let mut said = Vec::new();
        let mut nodes: BTreeMap<(String, &'static str), (bool, Vec<String>)> = BTreeMap::new();
        for event in events {
            if let journal::Event::Prepared(prepared) = event {
                let pod = pod_of(&prepared.target);
                let pod = pod.map(|(namespace, name)| {
                    let uid = uid_of(&namespace, &name);
                    About::Pod(namespace, name, uid)
                });
                let (kind, node) = (prepared.kind.clone(), prepared.node.clone());
                let fault = Fault { kind, pod, node, plan: prepared.plan.clone() };
                self.faults.insert(prepared.fault.clone(), fault);
                continue;
            }
            if let journal::Event::Verdict(report) = event {
                said.extend(self.verdict(report));
                continue;
            }
            let Some((id, reason, is_warning, what)) = told(event) else { continue };
            let Some(fault) = self.faults.get(id) else { continue };
            if let Some(about) = &fault.pod {
                let (kind, run) = (&fault.kind, &self.run);
                let plan = if reason == INJECTED { format!(": {}", fault.plan) } else { what };
                let message = format!("{kind} {} by {run}{plan}", verb(reason));
                said.push(Said { about: about.clone(), reason, is_warning, message });
            }
            if !fault.node.is_empty() {
                let of_node = nodes.entry((fault.node.clone(), reason)).or_default();
                of_node.0 |= is_warning;
                of_node.1.push(fault.kind.clone());
            }
        }
        said.extend(nodes.into_iter().map(|((node, reason), (is_warning, kinds))| {
            let message = format!("{} {} by {}", counted_kinds(&kinds), verb(reason), self.run);
            Said { about: About::Node(node), reason, is_warning, message }
        }));
        said
    }

    /// What the run came to, of everybody who was hit.
    fn verdict(&self, report: &crate::report::Report) -> Vec<Said> {
        let (reason, is_warning) = match report.verdict {
            Verdict::Held => ("ExperimentHeld", false),
            Verdict::Residue => ("FaultResidue", true),
            Verdict::Interrupted => ("ExperimentInterrupted", true),
            Verdict::Refused => ("ExperimentRefused", true),
            Verdict::Deviated | Verdict::Unfinished => ("ExperimentDeviated", true),
        };
        let why = report.reasons.first().map_or(String::new(), |why| format!(": {why}"));
        let message = format!("{} ended{why}", self.run);
        let mut everybody: Vec<About> = self
            .faults
            .values()
            .flat_map(|fault| {
                let node = (!fault.node.is_empty()).then(|| About::Node(fault.node.clone()));
                fault.pod.clone().into_iter().chain(node)
            })
            .collect();
        everybody.sort();
        everybody.dedup();
        let say = |about| Said { about, reason, is_warning, message: message.clone() };
        everybody.into_iter().map(say).collect()
    }
}

const INJECTED: &str = "FaultInjected";
const IN_EFFECT: &str = "FaultInEffect";
const REVERTED: &str = "FaultReverted";
const WITHOUT_EFFECT: &str = "FaultWithoutEffect";

fn verb(reason: &str) -> &'static str {
    match reason {
        INJECTED => "injected",
        IN_EFFECT => "seen to act, injected",
        REVERTED => "reverted and proven to be, injected",
        _ => "without the effect that it should have, injected",
    }
}

/// The fault that an event is about, the reason, whether it is a warning, and what to say besides.
fn told(event: &journal::Event) -> Option<(&String, &'static str, bool, String)> {
    Some(match event {
        journal::Event::Committed { fault, .. } => (fault, INJECTED, true, String::new()),
        journal::Event::Proven { fault, evidence, .. } => {
            (fault, IN_EFFECT, true, format!(": {evidence}"))
        }
        journal::Event::Reverted { fault, reason, .. } => {
            let why = reason.as_ref().map_or(String::new(), |why| format!(" ({why})"));
            (fault, REVERTED, false, why)
        }
        journal::Event::NoEffect { fault, why } => {
            (fault, WITHOUT_EFFECT, true, format!(": {why}"))
        }
        _ => return None,
    })
}

/// `partition`, or `3 of partition`.
fn counted_kinds(kinds: &[String]) -> String {
    let mut counts: BTreeMap<&String, usize> = BTreeMap::new();
    for kind in kinds {
        *counts.entry(kind).or_default() += 1;
    }
    let shown = counts.iter().map(|(kind, count)| match count {
        1 => (*kind).clone(),
        count => format!("{kind} on {count} pods"),
    });
    shown.collect::<Vec<_>>().join(", ")
}

/// The namespace and the name in `namespace/pod` or `namespace/pod[container]`.
fn pod_of(target: &str) -> Option<(String, String)> {
    let pod = target.split('[').next()?;
    let (namespace, name) = pod.split_once('/')?;
    Some((namespace.to_owned(), name.to_owned()))
}

/// An Event as Kubernetes has it; `number` tells those of a run apart.
pub(super) fn event(said: &Said, run_id: &str, number: usize, now: Timestamp) -> Event {
    let (namespace, object) = match &said.about {
        About::Pod(namespace, name, uid) => (
            namespace.clone(),
            ObjectReference {
                api_version: Some("v1".into()),
                kind: Some("Pod".into()),
                name: Some(name.clone()),
                namespace: Some(namespace.clone()),
                uid: uid.clone(),
                ..ObjectReference::default()
            },
        ),
        About::Node(name) => (
            NODES_NAMESPACE.to_owned(),
            ObjectReference {
                api_version: Some("v1".into()),
                kind: Some("Node".into()),
                name: Some(name.clone()),
                // As the kubelet has it, and `kubectl describe node` looks for it.
                uid: Some(name.clone()),
                ..ObjectReference::default()
            },
        ),
    };
    let mut message = clean(&said.message);
    if message.len() > MESSAGE_BYTES_MAX {
        let end = (0..=MESSAGE_BYTES_MAX - 4).rev().find(|at| message.is_char_boundary(*at));
        message.truncate(end.unwrap_or(0));
        message.push('…');
    }
    Event {
        metadata: ObjectMeta {
            name: Some(format!("faultline.{run_id}.{number}")),
            namespace: Some(namespace),
            ..ObjectMeta::default()
        },
        involved_object: object,
        reason: Some(said.reason.into()),
        message: Some(message),
        type_: Some(if said.is_warning { "Warning" } else { "Normal" }.into()),
        source: Some(EventSource { component: Some(COMPONENT.into()), host: None }),
        reporting_component: Some(COMPONENT.into()),
        reporting_instance: Some(run_id.into()),
        first_timestamp: Some(Time(now)),
        last_timestamp: Some(Time(now)),
        count: Some(1),
        ..Event::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::journal::{Event as Told, Prepared};

    fn prepared(fault: &str, target: &str) -> Told {
        Told::Prepared(Box::new(Prepared {
            fault: fault.into(),
            kind: "partition".into(),
            node: "n1".into(),
            target: target.into(),
            plan: "cut it".into(),
            lasts_ms: 1.0,
            deadline_ms: 2.0,
        }))
    }

    #[test]
    fn each_pod_is_told_of_and_each_node_once() {
        let mut narrator = Narrator::new("a1", "cut");
        let committed = |fault: &str| Told::Committed { fault: fault.into(), injected_ms: 3.0 };
        let events = [
            prepared("1", "shop/api-0"),
            prepared("2", "shop/api-1[main]"),
            committed("1"),
            committed("2"),
            committed("9"),
        ];
        let said = narrator.tell(&events, |_, name| Some(format!("uid-{name}")));
        let of: Vec<_> = said.iter().map(|one| (one.about.clone(), one.message.as_str())).collect();
        let pod = |name: &str| About::Pod("shop".into(), name.into(), Some(format!("uid-{name}")));
        let injected = "partition injected by run a1 of experiment cut: cut it";
        assert_eq!(
            of,
            [
                (pod("api-0"), injected),
                (pod("api-1"), injected),
                (
                    About::Node("n1".into()),
                    "partition on 2 pods injected by run a1 of experiment cut"
                ),
            ]
        );
        let reverted = Told::Reverted { fault: "1".into(), reverted_ms: None, reason: None };
        let said = narrator.tell(&[reverted], |_, _| None);
        assert_eq!((said.len(), said[0].reason, said[0].is_warning), (2, REVERTED, false));
    }

    #[test]
    fn an_event_is_found_by_describe_and_is_not_too_long() {
        let said = Said {
            about: About::Node("n1".into()),
            reason: INJECTED,
            is_warning: true,
            message: "ä".repeat(2000),
        };
        let event = event(&said, "a1", 7, Timestamp::UNIX_EPOCH);
        assert_eq!(event.involved_object.uid.as_deref(), Some("n1"));
        assert_eq!(event.metadata.namespace.as_deref(), Some("default"));
        assert!(event.message.is_some_and(|text| text.len() <= MESSAGE_BYTES_MAX));
    }
}
