//! What a plan came to: who would be hit, and how.

use serde::Serialize;

use crate::{
    experiment::Follow,
    place::Pod,
    plan::{Blast, Plan},
};

/// The plan of one experiment, for `faultline plan`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PlanReport {
    /// The experiment's name.
    pub experiment: String,
    /// Gives the same choices again.
    pub seed: u64,
    /// Who each target was found to be; empty where it was refused.
    pub targets: Vec<TargetReport>,
    /// How much would be hit.
    pub blast: Option<Blast>,
    /// What was looked at before, and what it came to.
    pub rules: Vec<RuleReport>,
    /// What each agent would do, in order.
    pub injections: Vec<String>,
    /// Why it would be refused, each in one sentence. Empty: it would not.
    pub refused: Vec<String>,
}

/// A rule that is looked at before anything is done.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RuleReport {
    /// Its name.
    pub rule: String,
    /// What it came to.
    pub found: String,
    /// Where it is written, if somewhere: `experiment.yaml:12`.
    pub at: Option<String>,
    /// Whether it holds. If not, the run is refused.
    pub holds: bool,
}

impl RuleReport {
    /// For a person.
    pub fn sentence(&self) -> String {
        let at = self.at.as_ref().map_or(String::new(), |at| format!(" ({at})"));
        format!("{}: {}{at}", self.rule, self.found)
    }
}

/// Who a target was found to be.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TargetReport {
    /// Its name in the experiment.
    pub name: String,
    /// Pods that match its selector, before the mode.
    pub matched: usize,
    /// Those that are meant: `namespace/name on node`.
    pub chosen: Vec<String>,
    /// Whether others take their place while faults last.
    pub follow: Follow,
}

impl PlanReport {
    /// From what planning came to.
    pub fn new(
        experiment: &str,
        seed: u64,
        pods: &[Pod],
        planned: Result<(Plan, Vec<String>), Vec<String>>,
        rules: Vec<RuleReport>,
    ) -> Self {
        let experiment = experiment.to_owned();
        match planned {
            Err(refused) => Self {
                experiment,
                seed,
                targets: Vec::new(),
                blast: None,
                rules,
                injections: Vec::new(),
                refused,
            },
            Ok((plan, injections)) => {
                let shown = |i: &usize| format!("{} on {}", pods[*i].target(), pods[*i].node);
                let targets = plan.targets.iter().map(|(name, selection)| TargetReport {
                    name: name.clone(),
                    matched: selection.matched.len(),
                    chosen: selection.chosen.iter().map(shown).collect(),
                    follow: selection.follow,
                });
                Self {
                    experiment,
                    seed,
                    targets: targets.collect(),
                    blast: Some(plan.blast()),
                    rules,
                    injections,
                    refused: Vec::new(),
                }
            }
        }
    }

    /// For a person.
    pub fn text(&self) -> String {
        let mut lines = vec![format!("{} (seed {})", self.experiment, self.seed)];
        for target in &self.targets {
            let (chosen, matched) = (target.chosen.join(", "), target.matched);
            let follow = match target.follow {
                Follow::Keep => "",
                Follow::Recreated => "; new pods take the place of those that go",
                Follow::AllMatching => "; whoever matches later is hit as well",
            };
            lines.push(format!("  target {}: {chosen} ({matched} match{follow})", target.name));
        }
        let holding = self.rules.iter().filter(|rule| rule.holds);
        lines.extend(holding.map(|rule| format!("  holds: {}", rule.sentence())));
        lines.extend(self.injections.iter().map(|injection| format!("  would {injection}")));
        if let Some(Blast { pods_hit, pods_matched }) = self.blast {
            lines.push(format!("  {pods_hit} of {pods_matched} pods would be hit; nothing was"));
        }
        lines.extend(self.refused.iter().map(|reason| format!("  would be refused: {reason}")));
        lines.push(String::new());
        lines.join("\n")
    }
}
