//! The catalogue: what each fault kind is, as people write it and as agents are told it.
//!
//! A kind has two validated types. Its `Spec` is the YAML form, which speaks of targets by the names
//! an experiment gives them. Its fault is the wire form, for one target on one node. This module
//! dispatches; a new kind is one more file and the arms that the compiler then asks for.

mod cidr;
mod counted;
pub mod kill;
pub mod memory_pressure;
pub mod partition;
mod sample;

use std::{collections::BTreeMap, net::IpAddr, time::Duration};

use serde::{Deserialize, Serialize};

pub use cidr::{Cidr, InvalidCidr};
pub use counted::{Counted, Family};
pub use kill::{Kill, Processes, Signal};
pub use memory_pressure::{Level, MemoryPressure, OomVictim};
pub use partition::{KubeletPath, Partition, PeerSet, PortRange, PortSide, Protocol, Verdict};
pub use sample::{Around, Draw, EndedBy, LastingEffect, Observable, Sample};

use crate::{
    InvalidWire, pb,
    yaml::{Node, Problems, Span, Spanned},
};

/// A fault for one target, as an agent is told it. A value of it is in bounds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Fault {
    /// Packets between the target and others are dropped or rejected.
    Partition(Partition),
    /// A signal to processes of the target.
    Kill(Kill),
    /// Memory charged to the target's cgroup.
    MemoryPressure(MemoryPressure),
}

/// A fault as an experiment has it: of targets by name, before anything is known of the cluster.
#[derive(Debug, Clone, PartialEq)]
pub enum Spec {
    /// See [`Fault::Partition`].
    Partition(partition::Spec),
    /// See [`Fault::Kill`].
    Kill(kill::Spec),
    /// See [`Fault::MemoryPressure`].
    MemoryPressure(memory_pressure::Spec),
}

/// Whether a fault lasts, and so needs `for:`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hold {
    /// It acts until it is reverted.
    Lasts,
    /// It happens at one instant, and there is nothing to revert.
    Instant,
}

/// What of a pod a fault is on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// The pod's network namespace, which its containers share.
    Pod,
    /// One container.
    Container,
}

/// The pods that each target name of an experiment was found to be.
#[derive(Debug, Clone, Default)]
pub struct Groups(pub BTreeMap<String, Vec<Member>>);

/// A pod of a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Whatever the caller tells pods apart by.
    pub pod: usize,
    /// The pod's addresses.
    pub addresses: Vec<IpAddr>,
}

impl Groups {
    /// The pods of a target name; none if it is unknown.
    pub fn members(&self, target: &str) -> &[Member] {
        self.0.get(target).map_or(&[], Vec::as_slice)
    }
}

/// A fault that a spec came to, and the pod it is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expanded {
    /// [`Member::pod`].
    pub pod: usize,
    /// What of the pod it is on.
    pub scope: Scope,
    /// The fault.
    pub fault: Fault,
}

/// A fault kind, for help texts and for `faultline inject KIND`.
#[derive(Debug, Clone, Copy)]
pub struct KindInfo {
    /// As in an experiment: `memoryPressure`.
    pub name: &'static str,
    /// One sentence.
    pub about: &'static str,
    /// Its fields.
    pub fields: &'static [FieldInfo],
    /// What of a pod its faults are on.
    pub scope: Scope,
    /// Draws a random fault of it, for tests.
    pub sample: Sample,
}

/// A field of a fault kind.
#[derive(Debug, Clone, Copy)]
pub struct FieldInfo {
    /// As in an experiment: `oomVictim`.
    pub name: &'static str,
    /// What can be written there: `drop|reject`.
    pub value: &'static str,
    /// What it means, in one sentence.
    pub help: &'static str,
    /// How its value is written.
    pub form: FieldForm,
}

/// How the value of a field is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FieldForm {
    /// The name of a target.
    Target,
    /// What a partition has on one side: the name of a target, `everything` or ranges of addresses.
    Side,
    /// Two of those.
    TwoSides,
    /// A scalar.
    Scalar,
    /// A list of scalars.
    Scalars,
}

/// Every kind there is, in the order of the documentation.
pub const KINDS: &[KindInfo] = &[partition::INFO, kill::INFO, memory_pressure::INFO];

impl Spec {
    /// Decodes the body of the kind `kind`; `None` when it has mistakes, which are in `problems`.
    ///
    /// `kind` must be the name of one of [`KINDS`].
    pub fn decode(kind: &str, body: &Node, problems: &mut Problems) -> Option<Self> {
        match kind {
            "partition" => partition::Spec::decode(body, problems).map(Self::Partition),
            "kill" => kill::Spec::decode(body, problems).map(Self::Kill),
            "memoryPressure" => {
                memory_pressure::Spec::decode(body, problems).map(Self::MemoryPressure)
            }
            _ => None,
        }
    }

    /// The kind's name.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Partition(_) => partition::INFO.name,
            Self::Kill(_) => kill::INFO.name,
            Self::MemoryPressure(_) => memory_pressure::INFO.name,
        }
    }

    /// Whether it lasts.
    pub fn hold(&self) -> Hold {
        match self {
            Self::Kill(spec) => spec.hold(),
            Self::Partition(_) | Self::MemoryPressure(_) => Hold::Lasts,
        }
    }

    /// The target names it speaks of, and where.
    pub fn targets(&self) -> Vec<&Spanned<String>> {
        match self {
            Self::Partition(spec) => spec.targets(),
            Self::Kill(spec) => vec![&spec.target],
            Self::MemoryPressure(spec) => vec![&spec.target],
        }
    }

    /// The faults this comes to, now that it is known which pods the targets are.
    ///
    /// # Errors
    /// When it comes to nothing or cannot be done: a sentence for a person.
    pub fn expand(&self, groups: &Groups) -> Result<Vec<Expanded>, String> {
        match self {
            Self::Partition(spec) => spec.expand(groups),
            Self::Kill(spec) => {
                Ok(on_containers(groups, &spec.target.value, &Fault::Kill(spec.kill.clone())))
            }
            Self::MemoryPressure(spec) => {
                let fault = Fault::MemoryPressure(spec.pressure.clone());
                Ok(on_containers(groups, &spec.target.value, &fault))
            }
        }
    }
}

/// The same fault on a container of every pod of a group.
fn on_containers(groups: &Groups, target: &str, fault: &Fault) -> Vec<Expanded> {
    let members = groups.members(target).iter();
    members
        .map(|member| Expanded { pod: member.pod, scope: Scope::Container, fault: fault.clone() })
        .collect()
}

impl Fault {
    /// The kind's name.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Partition(_) => partition::INFO.name,
            Self::Kill(_) => kill::INFO.name,
            Self::MemoryPressure(_) => memory_pressure::INFO.name,
        }
    }

    /// Whether it lasts.
    pub fn hold(&self) -> Hold {
        match self {
            Self::Kill(kill) => kill.hold(),
            Self::Partition(_) | Self::MemoryPressure(_) => Hold::Lasts,
        }
    }

    /// How long after the commit the effect may take to be seen, before it counts as not there.
    pub fn proof_window(&self) -> Duration {
        match self {
            Self::Partition(_) => partition::PROOF_WINDOW,
            Self::Kill(kill) => kill.proof_window(),
            Self::MemoryPressure(pressure) => pressure.proof_window(),
        }
    }
}

impl TryFrom<pb::Fault> for Fault {
    type Error = InvalidWire;

    fn try_from(wire: pb::Fault) -> Result<Self, InvalidWire> {
        use pb::fault::Kind;
        let kind = wire.kind.ok_or_else(|| {
            InvalidWire::new("kind", "none is set; this agent may be older than the controller")
        })?;
        match kind {
            Kind::Partition(p) => {
                p.try_into().map(Self::Partition).map_err(|e: InvalidWire| e.within("partition"))
            }
            Kind::Kill(k) => {
                k.try_into().map(Self::Kill).map_err(|e: InvalidWire| e.within("kill"))
            }
            Kind::MemoryPressure(m) => m
                .try_into()
                .map(Self::MemoryPressure)
                .map_err(|e: InvalidWire| e.within("memory_pressure")),
        }
    }
}

impl From<Fault> for pb::Fault {
    fn from(fault: Fault) -> Self {
        use pb::fault::Kind;
        let kind = match fault {
            Fault::Partition(p) => Kind::Partition(p.into()),
            Fault::Kill(k) => Kind::Kill(k.into()),
            Fault::MemoryPressure(m) => Kind::MemoryPressure(m.into()),
        };
        Self { kind: Some(kind) }
    }
}

/// Decodes `target: NAME`, the field that most kinds have.
fn target_name(node: &Node, problems: &mut Problems) -> Option<Spanned<String>> {
    crate::yaml::name(node, problems)
}

/// Reports that two fields exclude each other.
fn exclusive(span: Span, message: &str, problems: &mut Problems) {
    problems.add(span, message);
}
