//! `pods`: what kind of probe looks at pods themselves — how many there are, how many of them are ready,
//! and how often they were restarted. Who can tell that is the place's business.

use faultline_proto::{
    probe::Bound,
    yaml::{self, Fields, Node, Problems, Span, Spanned},
};

use super::{
    Selector,
    conditions::{self, Conditions},
    selector::{decode_label_selector, decode_owner},
    targets::decode_labels,
};

/// What is asked of pods. Every bound that is given must hold.
const ASKED: [&str; 4] = ["ready", "restarts", "count", "conditions"];
/// What pods are selected by here; a target can do more.
const SELECTS_BY: [&str; 4] = ["namespace", "labels", "labelSelector", "owner"];
/// The most pods, or restarts of one, that a bound makes sense for.
const COUNT_MAX: u32 = 10_000;

/// A look at some pods, as they are at each attempt.
#[derive(Debug, Clone)]
pub struct PodsProbe {
    /// Whose.
    pub whose: Whose,
    /// How many of them must be ready.
    pub ready: Option<Bound>,
    /// How often each of them may have been restarted since the first attempt.
    pub restarts: Option<Bound>,
    /// How many there must be.
    pub count: Option<Bound>,
    /// What Kubernetes must say of each of them.
    pub conditions: Conditions,
    /// Where it is written.
    pub span: Span,
}

/// Which pods are looked at: everybody who matches now.
#[derive(Debug, Clone)]
pub enum Whose {
    /// All that a target's selector matches, whatever its mode.
    Target(Spanned<String>),
    /// All that this matches.
    Matching(Box<Selector>),
}

impl PodsProbe {
    /// The target that it names.
    pub fn target(&self) -> Option<&Spanned<String>> {
        match &self.whose {
            Whose::Target(name) => Some(name),
            Whose::Matching(_) => None,
        }
    }
}

/// Decodes it.
pub(super) fn decode(node: &Node, problems: &mut Problems) -> Option<PodsProbe> {
    let mut fields = Fields::open(node, "pods", problems)?;
    let target = fields.optional("target", problems, yaml::name);
    let namespace = fields.optional("namespace", problems, yaml::name);
    let labels = fields.optional("labels", problems, decode_labels);
    let bounds = ["ready", "restarts", "count"];
    let [ready, restarts, count] = bounds.map(|name| fields.optional(name, problems, decode_bound));
    let conditions = fields.optional("conditions", problems, conditions::decode);
    let label_selector = fields.optional("labelSelector", problems, decode_label_selector);
    let owner = fields.optional("owner", problems, decode_owner);
    let span = fields.span();
    let selects = SELECTS_BY.map(|name| fields.key_span(name).map(|at| (name, at)));
    let selects: Vec<_> = selects.into_iter().flatten().collect();
    match (fields.key_span("target"), selects.as_slice()) {
        (Some(_), [_, ..]) => {
            for (name, at) in &selects {
                problems
                    .add(*at, format!("`{name}` beside `target`, which says whose pods these are"))
                    .expected("expected either a `target`, or `namespace`, `labels`, `labelSelector`, `owner`");
            }
        }
        (None, []) => {
            problems
                .add(span, "`pods` does not say whose")
                .expected("expected a `target` of `spec.targets`, or `namespace`, `labels`, `labelSelector`, `owner`");
        }
        _ => {}
    }
    if ASKED.iter().all(|name| fields.key_span(name).is_none()) {
        problems
            .add(span, "`pods` asks for nothing")
            .expected(format!("expected at least one of: {}", ASKED.join(", ")))
            .help("write `ready: \">= 1\"`");
    }
    fields.finish_with(problems, |key| match key {
        "replicas" | "pods" => Some("how many pods there are is `count`".into()),
        "selector" | "matchLabels" => Some("pods are selected by `namespace` and `labels`".into()),
        "name" | "names" | "nodes" | "mode" => {
            Some("say which pods by a `target` of `spec.targets`".into())
        }
        "restartCount" => Some("how often each was restarted is `restarts`".into()),
        _ => None,
    });
    let whose = match target {
        Some(target) => Whose::Target(target),
        None => Whose::Matching(Box::new(Selector {
            namespaces: namespace.map(|name| name.value).into_iter().collect(),
            labels: labels.unwrap_or_default(),
            label_selector: label_selector.unwrap_or_default(),
            owner,
            span,
            ..Selector::default()
        })),
    };
    let conditions = conditions.unwrap_or_default();
    Some(PodsProbe { whose, ready, restarts, count, conditions, span })
}

pub(super) fn decode_bound(node: &Node, problems: &mut Problems) -> Option<Bound> {
    let bound = Bound::decode(node, problems)?;
    if (0..=COUNT_MAX).any(|count| bound.contains(f64::from(count))) {
        return Some(bound);
    }
    problems
        .add(node.span, format!("{} never holds", node.describe()))
        .expected(format!("expected a bound of a whole number from 0 to {COUNT_MAX}"));
    None
}
