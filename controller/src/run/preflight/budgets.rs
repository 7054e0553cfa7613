//! `blastRadius.honourBudgets`, and what is shown of budgets where nobody honours them.

use std::collections::BTreeSet;

use super::{Rules, one_line};
use crate::{
    cluster::Budget,
    experiment::Experiment,
    place::{Place, Pod},
    plan::Plan,
    report::counted,
};

/// The `PodDisruptionBudget`s that cover who would be hit. They are looked at where the experiment honours them, and
/// where they are to be shown.
pub(in crate::run) async fn budgets(
    experiment: &Experiment,
    place: &Place,
    plan: &Plan,
    pods: &[Pod],
    show: bool,
) -> Rules {
    const RULE: &str = "blastRadius.honourBudgets";
    let mut rules = Rules::default();
    let honour = experiment.blast_radius.honour_budgets;
    let Some(cluster) = place.cluster() else {
        if honour.is_some() {
            let why = "there are budgets in a cluster alone".into();
            rules.note(experiment, RULE, honour, Err(why));
        }
        return rules;
    };
    if honour.is_none() && !show {
        return rules;
    }
    let budgets = match cluster.budgets().await {
        Ok(budgets) => budgets,
        Err(error) => {
            let why = format!("PodDisruptionBudgets cannot be looked at: {}", one_line(&error));
            let found = if honour.is_some() { Err(why) } else { Ok(why) };
            rules.note(experiment, RULE, honour, found);
            return rules;
        }
    };
    let hit: BTreeSet<&str> =
        plan.injections().flat_map(|i| i.hits.iter().map(String::as_str)).collect();
    let hit: Vec<&Pod> = pods.iter().filter(|pod| hit.contains(pod.uid.as_str())).collect();
    let mut any = false;
    for budget in &budgets {
        let covered = hit.iter().filter(|pod| budget.covers(pod));
        if covered.clone().next().is_none() {
            continue;
        }
        any = true;
        // Who is not ready has been counted as disrupted already.
        let disrupted = covered.clone().filter(|pod| pod.ready != Some(false)).count();
        let (found, is_kept) = budget_sentence(budget, covered.count(), disrupted);
        let found = match honour {
            Some(_) if !is_kept => Err(found),
            None if !is_kept => Ok(format!("{found}; `{RULE}: true` would refuse that")),
            _ => Ok(found),
        };
        let rule = format!("budget {}/{}", budget.namespace, budget.name);
        rules.note(experiment, &rule, honour, found);
    }
    if !any && honour.is_some() {
        let found = "no budget covers who would be hit".into();
        rules.note(experiment, RULE, honour, Ok(found));
    }
    rules
}

/// What a budget comes to, and whether it is kept.
fn budget_sentence(budget: &Budget, covered: usize, disrupted: usize) -> (String, bool) {
    let allowed = usize::try_from(budget.disruptions_allowed).unwrap_or(0);
    let found = format!(
        "it covers {} of those that would be hit, and allows {} now",
        counted(covered, "pod"),
        counted(allowed, "disruption")
    );
    (found, disrupted <= allowed)
}
