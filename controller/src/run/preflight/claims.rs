//! One run at a time on a target, as Leases in the cluster tell.

use std::collections::BTreeSet;

use super::{Rules, one_line};
use crate::{
    cluster::{Claims, claimed, fault::ObjectKind},
    experiment::Experiment,
    place::{Place, Pod},
    plan::{On, Plan},
    run::ends::Ends,
};

/// The rule, as agents' answers tell it as well.
const RULE: &str = "no other run on the targets";

/// What a plan claims: everything that would be hit, by owner, and every workload and node that would be changed.
fn of_plan(plan: &Plan, pods: &[Pod]) -> BTreeSet<String> {
    let hit: BTreeSet<&str> =
        plan.injections().flat_map(|i| i.hits.iter().map(String::as_str)).collect();
    let owners = pods.iter().filter(|pod| hit.contains(pod.uid.as_str())).map(claimed);
    let changed = plan.injections().filter_map(|injection| match &injection.target {
        On::Object(object) if object.kind != ObjectKind::Pod => Some(object.to_string()),
        On::Object(_) | On::Pod(_) => None,
    });
    owners.chain(changed).collect()
}

/// Looks whether anybody else has claimed what would be hit. Claims nothing.
pub(in crate::run) async fn claims(
    experiment: &Experiment,
    place: &Place,
    plan: &Plan,
    pods: &[Pod],
    run: &str,
) -> Rules {
    let mut rules = Rules::default();
    let Some(cluster) = place.cluster() else { return rules };
    match cluster.claimed_by_others(&of_plan(plan, pods), run).await {
        Ok(others) => {
            for other in others {
                rules.note(experiment, RULE, None, Err(other));
            }
        }
        Err(error) => rules.note(experiment, RULE, None, Err(one_line(&error))),
    }
    rules
}

/// Claims what would be hit, and ends the run if somebody else takes it over.
///
/// # Errors
/// Who is at work on it, or why it cannot be claimed.
pub(in crate::run) async fn claim(
    experiment: &Experiment,
    place: &Place,
    plan: &Plan,
    pods: &[Pod],
    run: &str,
    ends: &Ends,
) -> Result<Option<Claims>, Vec<String>> {
    let Some(cluster) = place.cluster() else { return Ok(None) };
    let ends = ends.clone();
    let lost = move |by: String| ends.raise(format!("{RULE}: {by}"));
    let claims = of_plan(plan, pods);
    let claims = cluster.claim(&claims, run, &experiment.name, lost).await;
    let named = |why: String| format!("{RULE}: {why}");
    claims.map_err(|why| why.into_iter().map(named).collect())
}
