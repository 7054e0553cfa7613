//! Which pods are meant: the conditions that a target, a protected selector and a probe are written with.

mod field_selector;
mod label_selector;
mod lexer;
mod owner;

use std::collections::BTreeMap;

use faultline_proto::yaml::{self, Fields, Node, Problems, Span, Spanned};

pub use field_selector::{Field, FieldRequirement};
pub use label_selector::{LabelOperator, LabelRequirement};
pub use owner::Owner;

use super::{Follow, Mode, sandbox, targets::decode_labels};

pub(super) use label_selector::decode as decode_label_selector;
pub(super) use owner::decode as decode_owner;

/// Names in one selector.
pub(super) const NAMES_MAX: usize = 10_000;
/// Namespaces in one selector.
const NAMESPACES_MAX: usize = 1_000;
/// What pods are selected by.
const SELECTS_BY: [&str; 12] = [
    "labels",
    "labelSelector",
    "names",
    "namespace",
    "namespaces",
    "nodes",
    "nodeLabels",
    "owner",
    "service",
    "phase",
    "ready",
    "fieldSelector",
];

/// Which pods are meant. Everything given must match.
#[derive(Debug, Clone, Default)]
pub struct Selector {
    /// In one of these namespaces; any if empty.
    pub namespaces: Vec<String>,
    /// With these labels.
    pub labels: BTreeMap<String, String>,
    /// With labels like these.
    pub label_selector: Vec<LabelRequirement>,
    /// With fields like these.
    pub field_selector: Vec<FieldRequirement>,
    /// With one of these names; any if empty.
    pub names: Vec<String>,
    /// On one of these nodes; any if empty.
    pub nodes: Vec<String>,
    /// On a node with these labels.
    pub node_labels: BTreeMap<String, String>,
    /// Made by this.
    pub owner: Option<Owner>,
    /// That this Service sends traffic to, or would, were they ready.
    pub service: Option<String>,
    /// In this phase: `Pending` or `Running`.
    pub phase: Option<&'static str>,
    /// That are ready, or are not.
    pub ready: Option<bool>,
    /// How many of those that match.
    pub mode: Mode,
    /// What becomes of a fault whose target goes, or comes back as another one.
    pub follow: Follow,
    /// Where the selector is written.
    pub span: Span,
}

/// Decodes the conditions among the fields of `what`. `nodes` are those of the experiment's sandbox.
pub(super) fn decode(
    fields: &mut Fields<'_>,
    what: &str,
    nodes: Option<u32>,
    problems: &mut Problems,
) -> Selector {
    let span = fields.span();
    let node_name = |node: &Node, problems: &mut Problems| {
        let name = yaml::name(node, problems)?;
        sandbox::check_node(&name, nodes, problems);
        Some(name)
    };
    let names = |what| yaml::list(1..=NAMES_MAX, what, yaml::name);
    let selector = Selector {
        namespaces: decode_namespaces(fields, problems),
        labels: fields.optional("labels", problems, decode_labels).unwrap_or_default(),
        label_selector: fields
            .optional("labelSelector", problems, label_selector::decode)
            .unwrap_or_default(),
        field_selector: fields
            .optional("fieldSelector", problems, field_selector::decode)
            .unwrap_or_default(),
        names: values(fields.optional("names", problems, names("pod names"))),
        nodes: values(fields.optional(
            "nodes",
            problems,
            yaml::list(1..=NAMES_MAX, "node names", node_name),
        )),
        node_labels: fields.optional("nodeLabels", problems, decode_labels).unwrap_or_default(),
        owner: fields.optional("owner", problems, owner::decode),
        service: fields.optional("service", problems, yaml::name).map(|name| name.value),
        phase: fields.optional("phase", problems, decode_phase),
        ready: fields.optional("ready", problems, decode_ready),
        span,
        ..Selector::default()
    };
    if SELECTS_BY.iter().all(|key| fields.key_span(key).is_none()) {
        problems
            .add(span, format!("{what} selects by nothing"))
            .expected(format!("expected at least one of: {}", SELECTS_BY.join(", ")));
    }
    selector
}

/// Where a condition probably belongs that is not one of ours.
pub(super) fn hint(key: &str) -> Option<String> {
    match key {
        "app" | "name" => Some(format!("write `labels: {{ {key}: … }}`")),
        "matchLabels" | "selector" => Some("labels are selected by `labels`".into()),
        "matchExpressions" | "labelSelectors" | "expressions" => {
            Some("write `labelSelector: \"app in (api, web), !legacy\"`".into())
        }
        "deployment" | "statefulset" | "statefulSet" | "daemonset" | "daemonSet" | "job"
        | "replicaset" | "replicaSet" => {
            Some(format!("write `owner: {}/NAME`", key.to_ascii_lowercase()))
        }
        "zone" | "zones" => Some("write `nodeLabels: { topology.kubernetes.io/zone: … }`".into()),
        _ => None,
    }
}

fn values(names: Option<Vec<Spanned<String>>>) -> Vec<String> {
    names.unwrap_or_default().into_iter().map(|name| name.value).collect()
}

/// `namespace:`, or several as `namespaces:`.
fn decode_namespaces(fields: &mut Fields<'_>, problems: &mut Problems) -> Vec<String> {
    let one = fields.optional("namespace", problems, yaml::name);
    let several = yaml::list(1..=NAMESPACES_MAX, "namespaces", yaml::name);
    let several = fields.optional("namespaces", problems, several);
    if let (Some(_), Some(span)) = (fields.key_span("namespace"), fields.key_span("namespaces")) {
        problems
            .add(span, "`namespaces` beside `namespace`")
            .expected("expected one of them: all of them go into `namespaces`");
    }
    one.map(|name| name.value).into_iter().chain(values(several)).collect()
}

fn decode_phase(node: &Node, problems: &mut Problems) -> Option<&'static str> {
    if matches!(node.as_text(), Some("Succeeded" | "Failed")) {
        problems
            .add(node.span, format!("no fault can be on a pod that is {}", node.describe()))
            .expected("expected one of: Pending, Running");
        return None;
    }
    yaml::one_of(&[("Pending", "Pending"), ("Running", "Running")])(node, problems)
}

fn decode_ready(node: &Node, problems: &mut Problems) -> Option<bool> {
    yaml::one_of(&[("true", true), ("false", false)])(node, problems)
}
