//! Faults through the API server: what each kind is, as people write it, what it changes and what is seen of it.
//!
//! A kind is one file: its YAML form with positions, what it is on, what it plans, how its effect is proven. What
//! all of them share is here and beside: the record that takes a change back (`undo`), who does it at the API
//! server ([`Injector`]), and how an object is restored, whoever does it (`restore`).

mod access;
mod commit;
mod cordon;
mod drain;
mod error;
mod find;
mod held;
mod hold;
mod image_pull;
mod injector;
mod look;
mod nodes;
mod object;
mod permissions;
mod pod_delete;
mod restore;
mod rollout_restart;
mod scale;
mod sweep;
mod taint;
mod template;
mod trust;
mod undo;
mod unschedulable;

use std::time::Duration;

use faultline_proto::{
    fault::{Counted, Family, FieldInfo, Hold},
    yaml::{Node, Problems, Spanned},
};
use serde_json::Value;

pub use commit::DEADLINE_SLACK;
pub use error::FaultError;
pub use find::{Bearer, find, look_again};
pub use injector::{API_SERVER, ENDED_BY_OTHERS, Injection, Injector};
pub use look::{Look, Sight};
pub use object::{CHANGED, Object, ObjectKind};
pub use permissions::{PERMISSIONS, Permission};
pub use restore::{TakenBack, take_back};
pub use undo::{ANNOTATION, Change, LABEL, RESTORED, Undo};

use crate::place::Pod;

/// A kind of fault through the API server, for help texts and for `faultline inject KIND`.
#[derive(Debug, Clone, Copy)]
pub struct KindInfo {
    /// As in an experiment: `podDelete`.
    pub name: &'static str,
    /// One sentence.
    pub about: &'static str,
    /// Its fields.
    pub fields: &'static [FieldInfo],
}

/// Every kind there is, in the order of the documentation.
pub const KINDS: &[KindInfo] = &[
    pod_delete::INFO,
    scale::INFO,
    rollout_restart::INFO,
    unschedulable::INFO,
    image_pull::INFO,
    cordon::INFO,
    drain::INFO,
    taint::INFO,
];

/// A fault through the API server, as an experiment has it.
#[derive(Debug, Clone, PartialEq)]
pub enum Spec {
    /// Pods are deleted.
    PodDelete(pod_delete::Spec),
    /// A workload has another number of replicas.
    Scale(scale::Spec),
    /// A workload's pods are replaced, as its strategy says.
    RolloutRestart(rollout_restart::Spec),
    /// New pods of a workload find no node.
    Unschedulable(unschedulable::Spec),
    /// New pods of a workload find no image.
    ImagePull(image_pull::Spec),
    /// No new pod comes to a node.
    Cordon(cordon::Spec),
    /// A node's pods have to go, and no new one comes to it.
    Drain(drain::Spec),
    /// A node keeps pods off that do not tolerate it.
    Taint(taint::Spec),
}

/// What a kind of fault knows of itself.
trait Kind {
    /// Whether it lasts.
    fn hold(&self) -> Hold {
        Hold::Lasts
    }

    /// The target names it speaks of, and where.
    fn targets(&self) -> Vec<&Spanned<String>>;

    /// The objects it is on, where its target was found to be `chosen`, of `all` pods that there are.
    fn expand(&self, chosen: &[&Pod], all: &[Pod]) -> Result<Vec<Expanded>, String>;

    /// Whether an autoscaler would work against it.
    fn minds_autoscalers(&self) -> bool {
        false
    }

    /// Plans it on one object. Changes nothing.
    fn plan(&self, before: &Before<'_>) -> Result<Planned, String>;

    /// What is seen of its effect. Pure.
    fn look(&self, look: &Look<'_>) -> Sight;

    /// How long after the change its effect may take to be seen.
    fn proof_window(&self) -> Duration;

    /// What it is counted as.
    fn counted(&self) -> Option<Counted> {
        None
    }
}

/// An object that a fault is on, and whom it hits there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expanded {
    /// The object.
    pub object: Object,
    /// The uids of the pods that it takes down, or may.
    pub hits: Vec<String>,
    /// Those of the others that it has to do with: whoever must not be hit must not be among them either.
    pub beside: Vec<String>,
}

/// What there is before anything is done.
#[derive(Debug)]
pub struct Before<'a> {
    /// What the fault is on.
    pub on: &'a Object,
    /// That object, as the API server tells it.
    pub object: &'a Value,
    /// All pods.
    pub pods: &'a look::Pods,
    /// The names of autoscalers that look after the object.
    pub autoscalers: &'a [String],
    /// The fault's id.
    pub fault: &'a str,
    /// The uids of the pods that it may take down.
    pub hits: &'a [String],
}

/// What will be done to an object.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Planned {
    /// In words: `scale shop/deployment/api from 3 to 0`.
    pub text: String,
    /// What is changed of the object, and taken back; what is in `mark` is not.
    pub changes: Vec<Change>,
    /// What is changed and stays, as a merge patch: there is nothing to take back.
    pub mark: Option<Value>,
    /// The object itself is deleted, with this many seconds of grace; with its own if `None` inside.
    pub delete: Option<Option<u32>>,
    /// These pods are evicted: namespace, name and uid.
    pub evict: Vec<PodRef>,
    /// The pods that it is about.
    pub pods: Vec<PodRef>,
}

/// A pod, by identity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodRef {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its uid.
    pub uid: String,
}

impl Spec {
    /// Decodes the body of the kind `kind`; `None` when it has mistakes, which are in `problems`.
    ///
    /// `kind` must be the name of one of [`KINDS`].
    pub fn decode(kind: &str, body: &Node, problems: &mut Problems) -> Option<Self> {
        let kind = KINDS.iter().find(|info| info.name == kind)?.name;
        match kind {
            pod_delete::NAME => pod_delete::decode(body, problems).map(Self::PodDelete),
            scale::NAME => scale::decode(body, problems).map(Self::Scale),
            rollout_restart::NAME => {
                rollout_restart::decode(body, problems).map(Self::RolloutRestart)
            }
            unschedulable::NAME => unschedulable::decode(body, problems).map(Self::Unschedulable),
            image_pull::NAME => image_pull::decode(body, problems).map(Self::ImagePull),
            cordon::NAME => cordon::decode(body, problems).map(Self::Cordon),
            drain::NAME => drain::decode(body, problems).map(Self::Drain),
            taint::NAME => taint::decode(body, problems).map(Self::Taint),
            _ => None,
        }
    }

    fn of(&self) -> &dyn Kind {
        match self {
            Self::PodDelete(spec) => spec,
            Self::Scale(spec) => spec,
            Self::RolloutRestart(spec) => spec,
            Self::Unschedulable(spec) => spec,
            Self::ImagePull(spec) => spec,
            Self::Cordon(spec) => spec,
            Self::Drain(spec) => spec,
            Self::Taint(spec) => spec,
        }
    }

    /// The kind's name.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::PodDelete(_) => pod_delete::NAME,
            Self::Scale(_) => scale::NAME,
            Self::RolloutRestart(_) => rollout_restart::NAME,
            Self::Unschedulable(_) => unschedulable::NAME,
            Self::ImagePull(_) => image_pull::NAME,
            Self::Cordon(_) => cordon::NAME,
            Self::Drain(_) => drain::NAME,
            Self::Taint(_) => taint::NAME,
        }
    }

    /// Whether it lasts.
    pub fn hold(&self) -> Hold {
        self.of().hold()
    }

    /// Whether it is on nodes as such.
    pub fn is_on_nodes(&self) -> bool {
        matches!(self, Self::Cordon(_) | Self::Drain(_) | Self::Taint(_))
    }

    /// The target names it speaks of, and where.
    pub fn targets(&self) -> Vec<&Spanned<String>> {
        self.of().targets()
    }

    /// The objects this comes to, where its target was found to be `chosen`, of `all` pods that there are.
    ///
    /// # Errors
    /// When it comes to nothing or cannot be done: a sentence for a person.
    pub fn expand(&self, chosen: &[&Pod], all: &[Pod]) -> Result<Vec<Expanded>, String> {
        self.of().expand(chosen, all)
    }

    /// The same, where it is on this pod: how long that takes to end is its own affair.
    #[must_use]
    pub fn on(self, pod: &Pod) -> Self {
        match self {
            Self::PodDelete(spec) => Self::PodDelete(spec.on(pod)),
            other => other,
        }
    }

    /// Whether pods end by it that stay ended when it is taken back: others may be made.
    pub fn ends_pods(&self) -> bool {
        matches!(
            self,
            Self::PodDelete(_)
                | Self::Scale(_)
                | Self::RolloutRestart(_)
                | Self::Unschedulable(_)
                | Self::ImagePull(_)
                | Self::Drain(_)
                | Self::Taint(_)
        )
    }

    /// How long after the change its effect may take to be seen.
    pub fn proof_window(&self) -> Duration {
        self.of().proof_window()
    }

    /// What it is counted as; `None` for what belongs to no family.
    pub fn counted(&self) -> Option<Counted> {
        self.of().counted()
    }

    fn minds_autoscalers(&self) -> bool {
        self.of().minds_autoscalers()
    }

    fn plan(&self, before: &Before<'_>) -> Result<Planned, String> {
        self.of().plan(before)
    }

    fn look(&self, look: &Look<'_>) -> Sight {
        self.of().look(look)
    }
}

/// That pods were ended.
fn killed(variety: &str) -> Counted {
    Counted { family: Family::Kill, variety: variety.into() }
}

/// The workloads that made some pods, each once, with all of their pods as hit.
fn workloads(chosen: &[&Pod], all: &[Pod], kinds: &[ObjectKind]) -> Result<Vec<Expanded>, String> {
    let mut found: Vec<Expanded> = Vec::new();
    for pod in chosen {
        let object = Object::owner(pod, kinds)?;
        if found.iter().any(|known| known.object == object) {
            continue;
        }
        let of_it = |other: &&Pod| other.namespace == pod.namespace && other.owner == pod.owner;
        let hits = all.iter().filter(of_it).map(|pod| pod.uid.clone()).collect();
        found.push(Expanded { object, hits, beside: Vec::new() });
    }
    Ok(found)
}

#[cfg(test)]
mod tests;
