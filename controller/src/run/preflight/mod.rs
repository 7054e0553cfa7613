//! What is looked at before anything is done, rule by rule: what each came to, whether it holds, and where
//! it is written. Nothing is changed; a rule that does not hold refuses the run.

mod budgets;
mod claims;
mod place;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use faultline_proto::{id::RunId, pb, status::State, units, yaml::Span};

pub(super) use self::{
    budgets::budgets,
    claims::{claim, claims},
};
use super::{observe::steady_window, one_line, pods::waits_at_most};
use crate::{
    agents::{ANSWER_MAX, Agent, Fleet},
    cluster::ObjectWatch,
    experiment::{Experiment, Leaf, PodsProbe, ProbeKind, is_open},
    place::{Place, Pod},
    plan::{Plan, fewest_healthy},
    report::{RuleReport, counted, time},
};

/// How well the clock of an agent must be known.
const CLOCK_UNCERTAINTY_MAX: Duration = Duration::from_millis(500);

/// Rules, as far as they were looked at.
#[derive(Debug, Default)]
pub(super) struct Rules(pub(super) Vec<RuleReport>);

impl Rules {
    fn note(
        &mut self,
        experiment: &Experiment,
        rule: &str,
        span: Option<Span>,
        found: Result<String, String>,
    ) {
        let at = span.map(|span| experiment.place_of(span));
        let holds = found.is_ok();
        let found = found.unwrap_or_else(|why| why);
        self.0.push(RuleReport { rule: rule.into(), found, at, holds });
    }

    /// Refuses if one of the rules does not hold.
    ///
    /// # Errors
    /// Each that does not, in a sentence.
    pub(super) fn check(&self) -> Result<(), Vec<String>> {
        let broken: Vec<String> =
            self.0.iter().filter(|rule| !rule.holds).map(RuleReport::sentence).collect();
        if broken.is_empty() { Ok(()) } else { Err(broken) }
    }
}

/// Where, when and for how long: what can be said before anybody is asked.
pub(super) async fn fences(experiment: &Experiment, place: &Place) -> Rules {
    let mut rules = Rules::default();
    let safety = &experiment.safety;
    if let Some(required) = &safety.require_place {
        let found = place::is_required(&required.value, place).await;
        rules.note(experiment, "requirePlace", Some(required.span), found);
    }
    let injects = experiment.leaves().flat_map(|leaf| match leaf {
        Leaf::Inject(injects) => injects,
        Leaf::Rest => &[],
    });
    for inject in injects.filter(|inject| !inject.spec.is_on_nodes()) {
        let found = match place.cluster() {
            Some(_) => Ok("this is a cluster".to_owned()),
            None => {
                Err("it goes through the API server of a cluster, and this place is none".into())
            }
        };
        let rule = format!("`{}`", inject.spec.kind());
        rules.note(experiment, &rule, Some(inject.span), found);
    }
    for probe in &experiment.probes {
        let (span, found) = match &probe.kind {
            ProbeKind::Pods(pods) => (pods.span, tells_pods(place, pods)),
            ProbeKind::Kubernetes(object) if place.cluster().is_none() => (
                object.span,
                Err("there are no objects of Kubernetes here; only a cluster has them".into()),
            ),
            _ => continue,
        };
        rules.note(experiment, &format!("probe `{}`", probe.name), Some(span), found);
    }
    let of_pods = experiment.assertions.iter().find(|assertion| assertion.measure.of_pods());
    if let Some(assertion) = of_pods {
        let told = place.pod_states().map(|_| "this place tells how pods are".to_owned());
        let rule = format!("assertion `{}`", assertion.measure.name());
        rules.note(experiment, &rule, Some(assertion.span), told.map_err(|why| why.to_string()));
    }
    let lasts = planned(experiment);
    if let Some(window) = safety.windows.first() {
        let seconds = |duration: Duration| i64::try_from(duration.as_secs()).unwrap_or(i64::MAX);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let found = is_open(&safety.windows, seconds(now), seconds(lasts));
        rules.note(experiment, "window", Some(window.span), found);
    }
    if let Some(max) = &safety.max_duration {
        let (asked, limit) = (units::duration(lasts), units::duration(max.value));
        let found = if lasts <= max.value {
            Ok(format!("{asked} of at most {limit}"))
        } else {
            Err(format!("the run would take up to {asked}, and {limit} is allowed"))
        };
        rules.note(experiment, "maxDuration", Some(max.span), found);
    }
    rules
}

/// Whether a place tells what a probe asks of pods.
fn tells_pods(place: &Place, asked: &PodsProbe) -> Result<String, String> {
    place.pod_states().map_err(|why| why.to_string())?;
    let untold = asked.conditions.types().find(|name| *name != "Ready");
    match untold.filter(|_| place.cluster().is_none()) {
        Some(name) => Err(format!("the sandbox tells the condition Ready of pods, and not {name}")),
        None => Ok("this place tells how pods are".into()),
    }
}

/// Begins to watch the objects that probes look at. One that is not there would never be seen to be well.
pub(super) async fn objects(
    experiment: &Experiment,
    place: &Place,
) -> (Rules, BTreeMap<String, ObjectWatch>) {
    let (mut rules, mut watches) = (Rules::default(), BTreeMap::new());
    let Some(cluster) = place.cluster() else { return (rules, watches) };
    for probe in &experiment.probes {
        let ProbeKind::Kubernetes(asked) = &probe.kind else { continue };
        let found = match ObjectWatch::start(cluster.connection(), &asked.object).await {
            Ok(watch) => match watch.now() {
                Ok(Some(_)) => {
                    watches.insert(probe.name.clone(), watch);
                    Ok(format!("there is {}", asked.object))
                }
                Ok(None) => Err(format!("there is no {}", asked.object)),
                Err(why) => Err(why),
            },
            Err(error) => Err(one_line(&error)),
        };
        rules.note(experiment, &format!("probe `{}`", probe.name), Some(asked.span), found);
    }
    (rules, watches)
}

/// What a step takes besides its time: agents prepare, commit, prove and revert, or say what is in effect;
/// and as much for the beginning of a run.
const MARGIN: Duration = Duration::from_millis(500);

/// How long a run takes at most, as planned: the look at the steady state, the method and the recovery,
/// with a margin for whatever agents are asked.
fn planned(experiment: &Experiment) -> Duration {
    let method = experiment.method.iter().map(|step| step.takes(MARGIN));
    let recoveries = experiment.probes.iter().filter_map(|probe| probe.recovery.as_ref());
    let recovery = recoveries.map(|r| r.within.saturating_add(r.stable_for)).max();
    let begin = steady_window(experiment)
        .saturating_add(recovery.unwrap_or_default())
        .saturating_add(waits_at_most(experiment));
    let begin = begin.saturating_add(MARGIN);
    method.fold(begin, Duration::saturating_add)
}

/// The limits that a plan has kept: one that it does not keep is no plan.
pub(super) fn limits(experiment: &Experiment, plan: &Plan) -> Rules {
    let mut rules = Rules::default();
    let (blast, radius) = (plan.blast(), &experiment.blast_radius);
    if let Some(max) = &radius.max_targets {
        let found = format!("{} of at most {}", counted(blast.pods_hit, "pod"), max.value);
        rules.note(experiment, "blastRadius.maxTargets", Some(max.span), Ok(found));
    }
    if let Some(max) = &radius.max_basis_points {
        let (hit, matched) = (blast.pods_hit, blast.pods_matched);
        let found = format!("{hit} of {matched} pods, of at most {}", units::percent(max.value));
        rules.note(experiment, "blastRadius.maxPercent", Some(max.span), Ok(found));
    }
    if let Some(first) = experiment.safety.protected.first() {
        let found = "nobody of these would be hit".into();
        rules.note(experiment, "protected", Some(first.span), Ok(found));
    }
    rules
}

/// What has to be asked of the agents: whether they are well, and whether anybody else is at work there.
/// Returns the uids of pods that do not count as healthy, too.
pub(super) async fn agents(
    experiment: &Experiment,
    plan: &Plan,
    pods: &[Pod],
    fleet: &Fleet,
    run_id: RunId,
) -> (Rules, BTreeSet<String>) {
    let mut rules = Rules::default();
    let nodes = plan.nodes();
    let needed: Vec<&Agent> = fleet.agents().filter(|a| nodes.contains(a.node())).collect();
    let unfit: Vec<String> = needed.iter().flat_map(|agent| unfit(agent)).collect();
    let worst = needed.iter().map(|agent| agent.clock().uncertainty()).max().unwrap_or_default();
    let well = || {
        let (count, worst) = (counted(needed.len(), "agent"), time(worst));
        format!(
            "{count} of version {}, clocks known to ± {worst}",
            version(env!("CARGO_PKG_VERSION"))
        )
    };
    let found = if unfit.is_empty() { Ok(well()) } else { Err(unfit.join("; ")) };
    if !nodes.is_empty() {
        rules.note(experiment, "agents", None, found);
    }

    let answers = fleet.list(ANSWER_MAX).await;
    let any_agents = fleet.agents().next().is_some();
    let mut away: BTreeSet<String> = BTreeSet::new();
    let mut foreign: BTreeMap<String, Vec<pb::InjectionStatus>> = BTreeMap::new();
    for (node, answer) in answers {
        match answer {
            Ok(statuses) => {
                let theirs: Vec<_> =
                    statuses.into_iter().filter(|status| is_foreign(status, run_id)).collect();
                let uids = theirs.iter().filter_map(|s| Some(s.target.as_ref()?.pod_uid.clone()));
                away.extend(uids);
                foreign.insert(node, theirs);
            }
            Err(error) if nodes.contains(node.as_str()) => {
                rules.note(experiment, "agents", None, Err(one_line(&error)));
            }
            Err(_) => {}
        }
    }
    alone(&mut rules, experiment, plan, pods, &foreign);
    if let Some(min) = &experiment.blast_radius.min_healthy {
        // Of whom nobody can be asked it is not known how they are; but where nobody is at all, nobody is at work.
        let unknown = pods.iter().filter(|pod| any_agents && !foreign.contains_key(&pod.node));
        away.extend(unknown.map(|pod| pod.uid.clone()));
        let found = fewest_healthy(experiment, plan.fault_steps(), pods, &away);
        let found = found.map_err(|error| one_line(&error)).map(|fewest| match fewest {
            None => "nobody is hit".into(),
            Some((owner, left)) => format!("{left} left of {owner}, of at least {}", min.value),
        });
        rules.note(experiment, "blastRadius.minHealthy", Some(min.span), found);
    }
    (rules, away)
}

/// What is wrong with an agent.
fn unfit(agent: &Agent) -> Vec<String> {
    let (node, description) = (agent.node(), agent.description());
    let mut unfit = Vec::new();
    if let Some(reason) = &description.halted_reason {
        unfit.push(format!("node {node} is halted ({reason}); `faultline resume` ends that"));
    }
    if let Some(reason) = &description.stuck_reason {
        unfit.push(format!("node {node}: {reason}"));
    }
    let (ours, theirs) = (version(env!("CARGO_PKG_VERSION")), version(&description.agent_version));
    if ours != theirs {
        unfit.push(format!(
            "node {node}: its agent is of version {}, and this controller works with {ours}",
            description.agent_version
        ));
    }
    let uncertainty = agent.clock().uncertainty();
    if uncertainty > CLOCK_UNCERTAINTY_MAX {
        unfit.push(format!(
            "node {node}: its clock is known to ± {} only, and {} is the limit; its agent answers slowly",
            time(uncertainty),
            time(CLOCK_UNCERTAINTY_MAX)
        ));
    }
    unfit
}

/// The part of a version that must be the same: `0.1` of `0.1.7`, `1` of `1.2.3` (semver.org).
fn version(text: &str) -> String {
    let mut parts = text.split('.');
    match (parts.next(), parts.next()) {
        (Some("0"), Some(minor)) => format!("0.{minor}.x"),
        (Some(major), Some(_)) => format!("{major}.x"),
        _ => text.into(),
    }
}

/// Whether something of another run is in effect, or about to be.
fn is_foreign(status: &pb::InjectionStatus, run_id: RunId) -> bool {
    let state = State::from_wire(status.state);
    let lives = matches!(
        state,
        Some(State::Prepared | State::Injecting | State::Active | State::Reverting)
    );
    lives && status.run_id != run_id.to_string()
}

/// Notes whether anybody else is at work on the targets.
fn alone(
    rules: &mut Rules,
    experiment: &Experiment,
    plan: &Plan,
    pods: &[Pod],
    foreign: &BTreeMap<String, Vec<pb::InjectionStatus>>,
) {
    let hit: BTreeSet<&str> = plan.injections().flat_map(|i| &i.hits).map(String::as_str).collect();
    let mut any = false;
    for (node, statuses) in foreign {
        for status in statuses {
            let Some(target) = &status.target else { continue };
            if !hit.contains(target.pod_uid.as_str()) {
                continue;
            }
            any = true;
            let (namespace, pod) = (&target.pod_namespace, &target.pod_name);
            let (kind, other) = (&status.kind, &status.run_id);
            let why = format!("run {other} has a {kind} on {namespace}/{pod} ({node})");
            let is_it = |index: &usize| pods.get(*index).is_some_and(|p| p.uid == target.pod_uid);
            let meant = plan.targets.iter().find(|(_, found)| found.chosen.iter().any(is_it));
            let span = meant.and_then(|(name, _)| Some(experiment.targets.get(name)?.span));
            rules.note(experiment, "no other run on the targets", span, Err(why));
        }
    }
    if !any {
        let found = "nobody else is at work on them".into();
        rules.note(experiment, "no other run on the targets", None, Ok(found));
    }
}

#[cfg(test)]
mod tests {
    use super::version;

    #[test]
    fn versions_work_together_within_what_may_not_break() {
        assert_eq!(version("0.1.0"), version("0.1.12"));
        assert_ne!(version("0.1.0"), version("0.2.0"));
        assert_eq!(version("1.2.0"), version("1.9.3"));
        assert_ne!(version("1.2.0"), version("2.2.0"));
        assert_ne!(version(""), version("0.1.0"));
    }
}
