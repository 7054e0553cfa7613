//! `safety:` and `blastRadius:` — what an experiment may never do, whoever starts it, where and when.

use std::{collections::BTreeSet, time::Duration};

use faultline_proto::yaml::{self, Fields, Node, Problems, Span, Spanned};

use super::{
    Selector, TimeWindow, WAIT_MAX, required_place, required_place::RequiredPlace, selector, window,
};

/// The namespaces of a cluster whose pods are protected, whatever an experiment's selectors say. Faultline's own is
/// besides, and that cannot be allowed.
pub const ALWAYS_PROTECTED: [&str; 2] = ["kube-system", "kube-public"];
/// Entries of one protected list.
const PROTECTED_MAX: usize = 1_000;

/// How much of the system may be hit. Refused if it would be more.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct BlastRadius {
    /// Pods, over all steps.
    pub max_targets: Option<Spanned<u32>>,
    /// Hundredths of a percent of the pods that match the selectors before their modes.
    pub max_basis_points: Option<Spanned<u32>>,
    /// Pods of each owner that are up and not hit.
    pub min_healthy: Option<Spanned<u32>>,
    /// No more may be hit than `PodDisruptionBudget`s allow to be away: where that is written.
    pub honour_budgets: Option<Span>,
}

/// What an experiment may never do.
#[derive(Debug, Clone, Default)]
pub struct Safety {
    /// Whom no fault may be on.
    pub protected: Vec<Selector>,
    /// When it may run; empty: at any time.
    pub windows: Vec<TimeWindow>,
    /// How long it may take.
    pub max_duration: Option<Spanned<Duration>>,
    /// Where it may run; `None`: anywhere.
    pub require_place: Option<Spanned<RequiredPlace>>,
    /// Only who is enabled by `faultline.dev/enabled=true` may be hit: where that is written.
    pub opt_in: Option<Span>,
    /// What goes through the API server may last where no controller stands by who would take it back if the run were
    /// killed.
    pub without_controller: bool,
    /// Of the namespaces that are protected always, those whose pods may be hit all the same.
    pub allowed_namespaces: BTreeSet<String>,
}

pub(super) fn decode_blast_radius(node: &Node, problems: &mut Problems) -> Option<BlastRadius> {
    let mut fields = Fields::open(node, "blastRadius", problems)?;
    let max_targets = fields.optional("maxTargets", problems, count(1));
    let max_basis_points = fields.optional("maxPercent", problems, |node, problems| {
        // `maxPercent: 50` can mean only one thing.
        let value = match node.as_text().and_then(|text| text.parse::<u32>().ok()) {
            Some(percent @ 1..=100) => Some(percent * 100),
            _ => yaml::percent(1..=10_000)(node, problems),
        };
        Some(at(value?, node))
    });
    let min_healthy = fields.optional("minHealthy", problems, count(0));
    let honour = fields.optional("honourBudgets", problems, |node, problems| {
        Some(at(yaml::one_of(&[("true", true), ("false", false)])(node, problems)?, node))
    });
    fields.finish_with(problems, |name| match name {
        "honorBudgets" | "podDisruptionBudgets" | "budgets" | "pdb" => {
            Some("PodDisruptionBudgets are kept with `honourBudgets: true`".into())
        }
        "protected" | "optIn" => Some(format!("`{name}` belongs in `spec.safety`")),
        _ => None,
    });
    let honour_budgets = honour.filter(|honour| honour.value).map(|honour| honour.span);
    Some(BlastRadius { max_targets, max_basis_points, min_healthy, honour_budgets })
}

fn count(least: u64) -> impl Fn(&Node, &mut Problems) -> Option<Spanned<u32>> {
    move |node, problems| {
        let count = yaml::count(least..=u32::MAX.into())(node, problems)?;
        Some(at(u32::try_from(count).ok()?, node))
    }
}

fn at<T>(value: T, node: &Node) -> Spanned<T> {
    Spanned { value, span: node.key.unwrap_or(node.span) }
}

/// Decodes `safety`.
pub(super) fn decode(node: &Node, problems: &mut Problems) -> Option<Safety> {
    let before = problems.len();
    let mut fields = Fields::open(node, "safety", problems)?;
    let protected = fields.optional(
        "protected",
        problems,
        yaml::list(1..=PROTECTED_MAX, "selectors", decode_protected),
    );
    let windows = fields.optional("window", problems, window::decode);
    let max_duration = fields.optional("maxDuration", problems, |node, problems| {
        let range = Duration::from_secs(1)..=WAIT_MAX;
        Some(at(yaml::duration(range)(node, problems)?, node))
    });
    let require_place = fields.optional("requirePlace", problems, required_place::decode);
    let opt_in = fields.optional("optIn", problems, |node, problems| {
        Some(at(yaml::one_of(&[("true", true), ("false", false)])(node, problems)?, node))
    });
    let without_controller = fields.optional(
        "withoutController",
        problems,
        yaml::one_of(&[("true", true), ("false", false)]),
    );
    let allowed = fields.optional("allowProtectedNamespaces", problems, decode_allowed);
    let names_cluster = require_place
        .as_ref()
        .is_some_and(|place| matches!(place.value, RequiredPlace::Cluster { .. }));
    if let (Some(span), false) = (fields.key_span("allowProtectedNamespaces"), names_cluster) {
        problems
            .add(span, "`allowProtectedNamespaces` without the cluster that it is said of")
            .expected(
                "expected `requirePlace: { context: NAME }` or `{ clusterUid: UID }` beside it",
            );
    }
    fields.finish_with(problems, |name| match name {
        "maxTargets" | "maxPercent" | "minHealthy" => {
            Some(format!("`{name}` belongs in `spec.blastRadius`"))
        }
        "requireContext" | "context" => Some("write `requirePlace: { context: NAME }`".into()),
        "requireCluster" | "clusterUid" => Some("write `requirePlace: { clusterUid: UID }`".into()),
        "honourBudgets" => Some("`honourBudgets` belongs in `spec.blastRadius`".into()),
        "windows" => Some("several windows are a list under `window`".into()),
        _ => None,
    });
    (problems.len() == before).then(|| Safety {
        protected: protected.unwrap_or_default(),
        windows: windows.unwrap_or_default(),
        max_duration,
        require_place,
        opt_in: opt_in.filter(|opt_in| opt_in.value).map(|opt_in| opt_in.span),
        without_controller: without_controller.unwrap_or(false),
        allowed_namespaces: allowed.unwrap_or_default(),
    })
}

fn decode_protected(node: &Node, problems: &mut Problems) -> Option<Selector> {
    let before = problems.len();
    let what = "a protected selector";
    let mut fields = Fields::open(node, what, problems)?;
    let selector = selector::decode(&mut fields, what, None, problems);
    fields.finish_with(problems, |name| match name {
        "mode" | "follow" => Some("all that match are protected, whenever they come".into()),
        _ => selector::hint(name),
    });
    (problems.len() == before).then_some(selector)
}

/// That pods of these namespaces may be hit, which are protected otherwise. Only together with the cluster that is meant.
fn decode_allowed(node: &Node, problems: &mut Problems) -> Option<BTreeSet<String>> {
    let allowed = |node: &Node, problems: &mut Problems| {
        let name = yaml::name(node, problems)?;
        if ALWAYS_PROTECTED.contains(&name.value.as_str()) {
            return Some(name.value);
        }
        problems
            .add(node.span, format!("{} is not protected always", node.describe()))
            .expected(format!("expected one of: {}", ALWAYS_PROTECTED.join(", ")))
            .suggest(&name.value, ALWAYS_PROTECTED);
        None
    };
    let list = yaml::list(1..=ALWAYS_PROTECTED.len(), "namespaces", allowed)(node, problems)?;
    Some(list.into_iter().collect())
}
