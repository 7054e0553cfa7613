//! From an experiment and the pods there are to what would be done to whom. Pure: the same
//! experiment, pods and seed give the same plan again.

mod change;
mod follow;
mod guard;
mod healthy;
mod leader;
mod nobody;
mod observers;
mod rounds;
mod select;
mod what;

use std::collections::{BTreeMap, BTreeSet};

use faultline_proto::{
    fault::{Expanded, Groups, Member, Scope},
    units,
    yaml::{Span, Spanned},
};
use serde::Serialize;
use thiserror::Error;

pub use change::Change;
pub use follow::Follower;
pub use guard::{ENABLED, Guard, NodeSays, OptIn};
pub use healthy::fewest_healthy;
pub use leader::{Leaders, holder_of};

pub use nobody::not_told;
pub use observers::Observers;
pub use rounds::Rounds;
pub use select::{Selection, candidates, matches, select};
pub use what::{On, What};

use self::nobody::why_aside;
use crate::{
    cluster::fault::{API_SERVER, Expanded as OnObject, ObjectKind},
    experiment::{Experiment, FaultSpec, Inject, Leaf, Selector},
    place::{Aside, Pod},
};

/// Why an experiment cannot be run on these pods. Nothing has been done.
#[derive(Debug, Clone, Error, PartialEq, Eq)]
pub enum PlanError {
    /// A selector found nobody.
    #[error("target `{target}` is nobody: {why}")]
    Empty {
        /// The target's name.
        target: String,
        /// What was looked for, and what there is.
        why: String,
        /// Where the selector is written.
        span: Span,
    },
    /// A fault comes to nothing.
    #[error("`{kind}` cannot be done: {why}")]
    Fault {
        /// Its kind.
        kind: &'static str,
        /// Why.
        why: String,
    },
    /// More would be hit than the experiment allows.
    #[error("{}", beyond(.rule, .asked, .limit))]
    BlastRadius {
        /// The rule's name in the experiment.
        rule: &'static str,
        /// How much would be hit.
        asked: String,
        /// How much may be.
        limit: String,
        /// Where that is written.
        span: Span,
    },
    /// Somebody would be hit who is protected.
    #[error("`protected`: a {kind} would be on {pod}, which must not be hit")]
    Protected {
        /// The fault's kind.
        kind: &'static str,
        /// The pod.
        pod: String,
        /// Where that is written.
        span: Span,
    },
    /// Somebody would be hit who is guarded wherever an experiment runs.
    #[error("`{rule}`: a {kind} would be on {pod}: {why}")]
    Guarded {
        /// The rule's name.
        rule: &'static str,
        /// The fault's kind.
        kind: &'static str,
        /// The pod.
        pod: String,
        /// Why it is guarded, and what to do.
        why: String,
        /// Where that is written, if in the experiment.
        span: Option<Span>,
    },
    /// It cannot be known who is protected.
    #[error("`protected`: {why}")]
    Untold {
        /// What this place does not tell.
        why: String,
        /// Where that is asked for.
        span: Span,
    },
}

impl PlanError {
    /// Where in the experiment it is written, if at one place.
    pub fn span(&self) -> Option<Span> {
        match self {
            Self::Empty { span, .. }
            | Self::BlastRadius { span, .. }
            | Self::Protected { span, .. }
            | Self::Untold { span, .. } => Some(*span),
            Self::Guarded { span, .. } => *span,
            Self::Fault { .. } => None,
        }
    }
}

/// What is said of a limit of the blast radius.
fn beyond(rule: &str, asked: &str, limit: &str) -> String {
    match rule {
        "minHealthy" => {
            format!("blast radius: {asked} would be left, and `{rule}` asks for {limit}")
        }
        _ => format!("blast radius: {asked} would be hit, and `{rule}` allows {limit}"),
    }
}

/// What is done to whom, in order.
#[derive(Debug, Clone)]
pub struct Plan {
    /// One for each step of the method; of what is repeated, each step once.
    pub steps: Vec<PlannedStep>,
    /// The pods that each target name was found to be.
    pub targets: BTreeMap<String, Selection>,
    /// Whom no fault may be on, also of those who come later.
    guard: Guard,
}

/// What was asked of a place before anything is planned in it.
#[derive(Debug, Clone, Default)]
pub struct Ground {
    /// Who leads.
    pub leaders: Leaders,
    /// Whom no fault may be on.
    pub guard: Guard,
    /// Whom none can be on.
    pub aside: Aside,
}

/// A step of the plan.
#[derive(Debug, Clone)]
pub enum PlannedStep {
    /// Faults that begin at one instant.
    Inject(Vec<PlannedFault>),
    /// Nothing is done for some time.
    Rest,
}

/// A fault of a step, on every target it comes to.
#[derive(Debug, Clone)]
pub struct PlannedFault {
    /// What was written.
    pub inject: Inject,
    /// On whom.
    pub injections: Vec<PlannedInjection>,
}

impl PlannedFault {
    /// Whether nobody is there now whom it could be on. Where an agent does it, who comes later is followed; what goes
    /// through the API server is done once.
    pub fn is_on_nobody(&self) -> bool {
        !self.inject.spec.is_on_nodes() && self.injections.is_empty()
    }
}

/// A fault on one target.
#[derive(Debug, Clone, PartialEq)]
pub struct PlannedInjection {
    /// The node whose agent does it, or [`API_SERVER`].
    pub node: String,
    /// On what.
    pub target: On,
    /// What.
    pub fault: What,
    /// The uids of the pods that it takes down, or may.
    pub hits: Vec<String>,
    /// The uids of others that it has to do with: of those a workload has, nobody knows which will go.
    pub beside: Vec<String>,
}

impl PlannedInjection {
    /// Whether whoever must not be hit must not be this pod.
    fn concerns(&self, pod: &Pod) -> bool {
        self.hits.contains(&pod.uid) || self.beside.contains(&pod.uid)
    }
}

/// How much would be hit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Blast {
    /// Pods that some fault is on.
    pub pods_hit: usize,
    /// Pods that match a selector of the experiment, before modes.
    pub pods_matched: usize,
}

impl Plan {
    /// Plans an experiment on the pods there are.
    ///
    /// # Errors
    /// When a target is nobody, a fault comes to nothing, or too much would be hit.
    pub fn new(experiment: &Experiment, pods: &[Pod]) -> Result<Self, PlanError> {
        Self::on(experiment, pods, &Ground::default())
    }

    /// The same, with what was asked of the place.
    ///
    /// # Errors
    /// As [`Plan::new`].
    pub fn on(experiment: &Experiment, pods: &[Pod], ground: &Ground) -> Result<Self, PlanError> {
        let mut targets = BTreeMap::new();
        for (name, selector) in &experiment.targets {
            let selection = select(name, selector, pods, experiment.seed, &ground.leaders);
            let selection =
                selection.map_err(|error| match why_aside(selector, &ground.aside) {
                    Some(why) if candidates(selector, pods).is_empty() => {
                        PlanError::Empty { target: name.clone(), why, span: selector.span }
                    }
                    _ => error,
                })?;
            targets.insert(name.clone(), selection);
        }
        let groups = groups(&targets, pods);
        let mut steps = Vec::with_capacity(experiment.method.len());
        for leaf in experiment.leaves() {
            steps.push(match leaf {
                Leaf::Rest => PlannedStep::Rest,
                Leaf::Inject(injects) => {
                    let plan = |inject| plan_fault(inject, &groups, pods, pods);
                    let faults = injects.iter().map(plan);
                    PlannedStep::Inject(faults.collect::<Result<_, _>>()?)
                }
            });
        }
        let plan = Self { steps, targets, guard: ground.guard.clone() };
        plan.guard.check(plan.injections(), pods)?;
        check_protected(experiment, plan.injections(), pods)?;
        plan.check_blast_radius(experiment)?;
        Ok(plan)
    }

    /// Every injection of every step.
    pub fn injections(&self) -> impl Iterator<Item = &PlannedInjection> {
        self.steps
            .iter()
            .flat_map(|step| match step {
                PlannedStep::Inject(faults) => faults.as_slice(),
                PlannedStep::Rest => &[],
            })
            .flat_map(|fault| &fault.injections)
    }

    /// The faults of every step that has some.
    pub fn fault_steps(&self) -> impl Iterator<Item = &[PlannedFault]> {
        self.steps.iter().filter_map(|step| match step {
            PlannedStep::Inject(faults) => Some(faults.as_slice()),
            PlannedStep::Rest => None,
        })
    }

    /// Whether anything is injected through the API server.
    pub fn needs_cluster(&self) -> bool {
        self.injections().any(|injection| injection.node == API_SERVER)
    }

    /// The nodes that are touched.
    pub fn nodes(&self) -> BTreeSet<&str> {
        let nodes = self.injections().map(|injection| injection.node.as_str());
        nodes.filter(|node| *node != API_SERVER).collect()
    }

    /// How much would be hit.
    pub fn blast(&self) -> Blast {
        let hit: BTreeSet<&str> =
            self.injections().flat_map(|i| i.hits.iter().map(String::as_str)).collect();
        let matched: BTreeSet<usize> =
            self.targets.values().flat_map(|s| s.matched.iter().copied()).collect();
        Blast { pods_hit: hit.len(), pods_matched: matched.len() }
    }

    fn check_blast_radius(&self, experiment: &Experiment) -> Result<(), PlanError> {
        check_blast_radius(experiment, self.blast())
    }
}

fn check_blast_radius(experiment: &Experiment, blast: Blast) -> Result<(), PlanError> {
    let Blast { pods_hit, pods_matched } = blast;
    if let Some(Spanned { value: max, span }) = experiment.blast_radius.max_targets
        && pods_hit > usize::try_from(max).unwrap_or(usize::MAX)
    {
        let (rule, asked, limit) = ("maxTargets", format!("{pods_hit} pods"), max.to_string());
        return Err(PlanError::BlastRadius { rule, asked, limit, span });
    }
    if let Some(Spanned { value: max, span }) = experiment.blast_radius.max_basis_points {
        let share = pods_hit * 10_000 / pods_matched.max(1);
        let share = u32::try_from(share).unwrap_or(u32::MAX);
        if share > max {
            let asked = format!("{pods_hit} of {pods_matched} pods ({})", units::percent(share));
            let limit = units::percent(max).to_string();
            let rule = "maxPercent";
            return Err(PlanError::BlastRadius { rule, asked, limit, span });
        }
    }
    Ok(())
}

/// Whether nobody of these is protected.
fn check_protected<'i>(
    experiment: &Experiment,
    injections: impl IntoIterator<Item = &'i PlannedInjection>,
    pods: &[Pod],
) -> Result<(), PlanError> {
    let protected = &experiment.safety.protected;
    if protected.is_empty() {
        return Ok(());
    }
    // What this place does not tell would protect nobody, and nobody would know.
    let untold = protected.iter().find_map(|rule| Some((rule.span, not_told(rule, pods)?)));
    if let Some((span, why)) = untold {
        return Err(PlanError::Untold { why, span });
    }
    for injection in injections {
        if let On::Object(object) = &injection.target
            && object.kind == ObjectKind::Node
            && let Some(rule) = protected.iter().find(|rule| is_of_node(rule, &object.name, pods))
        {
            let (kind, pod) = (injection.fault.kind(), object.to_string());
            return Err(PlanError::Protected { kind, pod, span: rule.span });
        }
        for pod in pods.iter().filter(|pod| injection.concerns(pod)) {
            if let Some(rule) = protected.iter().find(|rule| select::matches(rule, pod)) {
                let (kind, pod) = (injection.fault.kind(), pod.target().to_string());
                return Err(PlanError::Protected { kind, pod, span: rule.span });
            }
        }
    }
    Ok(())
}

/// Whether a rule protects whoever is on this node, and so the node.
fn is_of_node(rule: &Selector, node: &str, pods: &[Pod]) -> bool {
    let Selector {
        namespaces,
        labels,
        label_selector,
        field_selector,
        names,
        nodes,
        node_labels,
        owner,
        service,
        phase,
        ready,
        mode: _,
        follow: _,
        span: _,
    } = rule;
    let is_of_some = owner.is_some() || service.is_some() || phase.is_some() || ready.is_some();
    let is_of_all = namespaces.is_empty()
        && labels.is_empty()
        && label_selector.is_empty()
        && field_selector.is_empty()
        && names.is_empty()
        && !is_of_some;
    if !is_of_all || (nodes.is_empty() && node_labels.is_empty()) {
        return false;
    }
    let is_named = node_labels.is_empty() && nodes.iter().any(|name| name == node);
    is_named || pods.iter().any(|pod| pod.node == node && select::matches(rule, pod))
}

fn groups(targets: &BTreeMap<String, Selection>, pods: &[Pod]) -> Groups {
    let members = |selection: &Selection| {
        let chosen = selection.chosen.iter();
        chosen.map(|pod| Member { pod: *pod, addresses: pods[*pod].addresses.clone() }).collect()
    };
    Groups(targets.iter().map(|(name, selection)| (name.clone(), members(selection))).collect())
}

/// Plans a fault on the pods that its targets are, of `all` that there are.
fn plan_fault(
    inject: &Inject,
    groups: &Groups,
    pods: &[Pod],
    all: &[Pod],
) -> Result<PlannedFault, PlanError> {
    let injections = expand(inject, groups, pods, all)?.into_iter().map(|(_, planned)| planned);
    Ok(PlannedFault { inject: inject.clone(), injections: injections.collect::<Result<_, _>>()? })
}

/// What is planned for one target, with the uid of the pod that it is on.
type OnUid = (String, Result<PlannedInjection, PlanError>);

/// What a fault comes to, target by target, with the uid of the pod that it is on. A pod that has no container is
/// an error of its own: it may have one later.
fn expand(
    inject: &Inject,
    groups: &Groups,
    pods: &[Pod],
    all: &[Pod],
) -> Result<Vec<OnUid>, PlanError> {
    let kind = inject.spec.kind();
    let cannot = |why| PlanError::Fault { kind, why };
    match &inject.spec {
        FaultSpec::Node(spec) => {
            let expanded = spec.expand(groups).map_err(cannot)?.into_iter();
            let injection = |expanded: Expanded| {
                let uid = pods[expanded.pod].uid.clone();
                (uid, injection_on(kind, expanded, pods))
            };
            Ok(expanded.map(injection).collect())
        }
        FaultSpec::Api(spec) => {
            let named = spec.targets();
            let members = named.iter().flat_map(|name| groups.members(&name.value));
            let chosen: Vec<&Pod> = members.map(|member| &pods[member.pod]).collect();
            let expanded = spec.expand(&chosen, all).map_err(cannot)?.into_iter();
            let injection = |expanded: OnObject| {
                let target = On::Object(expanded.object);
                let pod = all.iter().find(|pod| pod.uid == target.uid());
                let spec = pod.map_or_else(|| spec.clone(), |pod| spec.clone().on(pod));
                let (node, fault) = (API_SERVER.into(), What::Api(spec));
                let (hits, beside) = (expanded.hits, expanded.beside);
                let uid = target.uid().to_owned();
                (uid, Ok(PlannedInjection { node, target, fault, hits, beside }))
            };
            Ok(expanded.map(injection).collect())
        }
    }
}

fn injection_on(
    kind: &'static str,
    expanded: Expanded,
    pods: &[Pod],
) -> Result<PlannedInjection, PlanError> {
    let Expanded { pod, scope, fault } = expanded;
    let pod = &pods[pod];
    let target = match scope {
        Scope::Pod => pod.target(),
        Scope::Container if pod.containers.is_empty() => {
            let why = format!("pod {}/{} has no running container", pod.namespace, pod.name);
            return Err(PlanError::Fault { kind, why });
        }
        Scope::Container => pod.container_target(),
    };
    let hits = vec![target.uid.clone()];
    let (node, target, fault) = (pod.node.clone(), On::Pod(target), What::Node(fault));
    Ok(PlannedInjection { node, target, fault, hits, beside: Vec::new() })
}

#[cfg(test)]
mod cluster_tests;
#[cfg(test)]
mod select_tests;
#[cfg(test)]
mod tests;
