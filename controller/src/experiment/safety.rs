//! `safety:` and `blastRadius:` — what an experiment may never do, whoever starts it, where and when.

use std::{path::Path, time::Duration};

use faultline_proto::yaml::{self, Fields, Node, Problems, Spanned};

use super::{Selector, TimeWindow, WAIT_MAX, selector, window};

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
}

/// A place that an experiment was written for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RequiredPlace {
    /// A sandbox, also one that another process holds.
    Sandbox,
    /// The inventory in a file of this name.
    Inventory(String),
}

impl RequiredPlace {
    /// Whether a place is the one: whether that is a sandbox, and its inventory's file if it has one.
    pub fn is(&self, is_sandbox: bool, file: Option<&Path>) -> bool {
        match self {
            Self::Sandbox => is_sandbox,
            Self::Inventory(name) => file.is_some_and(|file| file.ends_with(name)),
        }
    }

    /// For a person.
    pub fn describe(&self) -> String {
        match self {
            Self::Sandbox => "a sandbox".into(),
            Self::Inventory(name) => format!("the inventory {name}"),
        }
    }
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
    fields.finish(problems);
    Some(BlastRadius { max_targets, max_basis_points, min_healthy })
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
    let require_place = fields.optional("requirePlace", problems, decode_place);
    fields.finish_with(problems, |name| match name {
        "maxTargets" | "maxPercent" | "minHealthy" => {
            Some(format!("`{name}` belongs in `spec.blastRadius`"))
        }
        "windows" => Some("several windows are a list under `window`".into()),
        _ => None,
    });
    (problems.len() == before).then(|| Safety {
        protected: protected.unwrap_or_default(),
        windows: windows.unwrap_or_default(),
        max_duration,
        require_place,
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

fn decode_place(node: &Node, problems: &mut Problems) -> Option<Spanned<RequiredPlace>> {
    if let Some(text) = node.as_text() {
        if text == "sandbox" {
            return Some(at(RequiredPlace::Sandbox, node));
        }
        let problem = problems.add(node.span, format!("{} is not a place", node.describe()));
        problem.expected("expected sandbox, or `{ inventory: FILE }`");
        let is_file = text.contains('.') || text.contains('/');
        if is_file {
            problem.help(format!("write `requirePlace: {{ inventory: {text} }}`"));
        } else {
            problem.suggest(text, ["sandbox"]);
        }
        return None;
    }
    let mut fields = Fields::open(node, "requirePlace", problems)?;
    let inventory = fields.required("inventory", problems, yaml::text);
    fields.finish(problems);
    Some(at(RequiredPlace::Inventory(inventory?.value), node))
}
