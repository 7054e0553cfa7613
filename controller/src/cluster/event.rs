//! Kubernetes Events of a run: what is said of a pod or a node, and when. Pure.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::core::v1::{Event, EventSource, ObjectReference},
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time},
    jiff::Timestamp,
};

use super::fault::{API_SERVER, CHANGED, ObjectKind};
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
    /// Something else in a namespace: its namespace, its kind and its name.
    Object(String, ObjectKind, String),
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
    about: Option<About>,
    /// The node whose agent does it, where one does.
    node: Option<String>,
    plan: String,
    /// It is over at once, and there is nothing to revert.
    is_instant: bool,
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
                let about = match about(&prepared.target, &prepared.node) {
                    Some(About::Pod(namespace, name, _)) => {
                        let uid = uid_of(&namespace, &name);
                        Some(About::Pod(namespace, name, uid))
                    }
                    other => other,
                };
                let fault = Fault {
                    kind: prepared.kind.clone(),
                    about,
                    node: Some(prepared.node.clone()).filter(|node| node != API_SERVER),
                    plan: prepared.plan.clone(),
                    is_instant: prepared.lasts_ms <= 0.0,
                };
                self.faults.insert(prepared.fault.clone(), fault);
                continue;
            }
            if let journal::Event::Verdict(report) = event {
                said.extend(self.verdict(report));
                continue;
            }
            let Some((id, reason, is_warning, what)) = told(event) else { continue };
            let Some(fault) = self.faults.get(id) else { continue };
            if fault.is_instant && reason == REVERTED {
                continue;
            }
            if let Some(about) = &fault.about {
                let (kind, run) = (&fault.kind, &self.run);
                let plan = if reason == INJECTED { format!(": {}", fault.plan) } else { what };
                let message = format!("{kind} {} by {run}{plan}", verb(reason));
                said.push(Said { about: about.clone(), reason, is_warning, message });
            }
            if let Some(node) = &fault.node {
                let of_node = nodes.entry((node.clone(), reason)).or_default();
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
                let node = fault.node.clone().map(About::Node);
                fault.about.clone().into_iter().chain(node)
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

/// What a target is: `namespace/pod`, `namespace/pod[container]`, and of faults through the API server also
/// `namespace/deployment/name` and `node/name`.
fn about(target: &str, node: &str) -> Option<About> {
    let target = target.split('[').next()?;
    match target.split('/').collect::<Vec<_>>().as_slice() {
        ["node", name] if node == API_SERVER => Some(About::Node((*name).to_owned())),
        [namespace, name] => Some(About::Pod((*namespace).into(), (*name).into(), None)),
        [namespace, kind, name] => {
            let kind = *CHANGED.iter().find(|one| one.word() == *kind)?;
            Some(About::Object((*namespace).into(), kind, (*name).into()))
        }
        _ => None,
    }
}

/// An Event as Kubernetes has it; `number` tells those of a run apart.
pub(super) fn event(said: &Said, run_id: &str, number: usize, now: Timestamp) -> Event {
    let (namespace, object) = reference(&said.about);
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

/// What an Event is about as Kubernetes has it, and the namespace that the Event is in.
fn reference(about: &About) -> (String, ObjectReference) {
    let (namespace, kind, name, uid) = match about {
        About::Pod(namespace, name, uid) => (Some(namespace), ObjectKind::Pod, name, uid.clone()),
        About::Object(namespace, kind, name) => (Some(namespace), *kind, name, None),
        // Its name for a uid, as the kubelet has it and `kubectl describe node` looks for it.
        About::Node(name) => (None, ObjectKind::Node, name, Some(name.clone())),
    };
    let resource = kind.api_resource();
    let object = ObjectReference {
        api_version: Some(resource.api_version),
        kind: Some(resource.kind),
        name: Some(name.clone()),
        namespace: namespace.cloned(),
        uid,
        ..ObjectReference::default()
    };
    (namespace.map_or(NODES_NAMESPACE, String::as_str).to_owned(), object)
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
    fn what_goes_through_the_api_server_is_of_no_agent() {
        let of = |target| about(target, API_SERVER);
        assert_eq!(of("node/n1"), Some(About::Node("n1".into())));
        let scaled = About::Object("shop".into(), ObjectKind::Deployment, "api".into());
        assert_eq!(reference(&scaled).1.api_version.as_deref(), Some("apps/v1"));
        assert_eq!(of("shop/deployment/api"), Some(scaled));
        assert_eq!(about("node/n1", "n2"), Some(About::Pod("node".into(), "n1".into(), None)));
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
