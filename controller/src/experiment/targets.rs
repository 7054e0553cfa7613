//! `targets:` — who is meant. Which pods that comes to is the plan's business.

use std::collections::BTreeMap;

use faultline_proto::yaml::{self, Fields, Node, Problems, Spanned, Value, quote};

use super::{Follow, Mode, Selector, TARGETS_MAX, sandbox};

/// A target as decoded, with where its name stands.
pub(super) struct Target {
    pub(super) name: Spanned<String>,
    /// `None` when it has mistakes.
    pub(super) selector: Option<Selector>,
}

/// What a target selects by.
const SELECTS_BY: [&str; 4] = ["labels", "names", "namespace", "nodes"];
/// Names in one selector, and the most pods that `mode: { count: … }` may ask for.
const COUNT_MAX: usize = 10_000;

/// A mode as written: who the leader is, is written beside it.
enum Written {
    Leader,
    Other(Mode),
}

/// Decodes the mapping of names to selectors. `nodes` are those of the experiment's sandbox.
pub(super) fn decode(
    node: &Node,
    nodes: Option<u32>,
    problems: &mut Problems,
) -> Option<Vec<Target>> {
    // It has no fields of its own: every name is the user's.
    let fields = Fields::open(node, "targets", problems)?;
    let Value::Mapping(entries) = &node.value else { return None };
    if entries.is_empty() || entries.len() > TARGETS_MAX {
        problems
            .add(fields.span(), format!("found {} targets", entries.len()))
            .expected(format!("expected 1 to {TARGETS_MAX}"));
        return None;
    }
    let mut targets = Vec::new();
    for (key, body) in entries {
        let Some(name) = yaml::name(key, problems) else { continue };
        if name.value == "everything" {
            problems
                .add(key.span, "`everything` means all addresses in a partition")
                .expected("expected another name");
        }
        let selector = decode_selector(body, &name.value, nodes, problems);
        targets.push(Target { name, selector });
    }
    Some(targets)
}

fn decode_selector(
    node: &Node,
    name: &str,
    nodes: Option<u32>,
    problems: &mut Problems,
) -> Option<Selector> {
    let before = problems.len();
    let mut fields = Fields::open(node, format!("target `{name}`"), problems)?;
    let namespace = fields.optional("namespace", problems, yaml::name);
    let labels = fields.optional("labels", problems, decode_labels);
    let names =
        fields.optional("names", problems, yaml::list(1..=COUNT_MAX, "pod names", yaml::name));
    let node_name = |node: &Node, problems: &mut Problems| {
        let name = yaml::name(node, problems)?;
        sandbox::check_node(&name, nodes, problems);
        Some(name)
    };
    let on_nodes =
        fields.optional("nodes", problems, yaml::list(1..=COUNT_MAX, "node names", node_name));
    let mode = decode_mode_and_leader(&mut fields, problems);
    let follow = decode_follow(&mut fields, &mode, problems);
    let span = fields.span();
    if SELECTS_BY.iter().all(|key| fields.key_span(key).is_none()) {
        problems
            .add(span, format!("target `{name}` selects by nothing"))
            .expected(format!("expected at least one of: {}", SELECTS_BY.join(", ")));
    }
    fields.finish_with(problems, |key| match key {
        "count" | "percent" => Some(format!("write `mode: {{ {key}: … }}`")),
        "app" | "name" => Some(format!("write `labels: {{ {key}: … }}`")),
        _ => None,
    });
    (problems.len() == before).then(|| Selector {
        namespace: namespace.map(|name| name.value),
        labels: labels.unwrap_or_default(),
        names: values(names),
        nodes: values(on_nodes),
        mode,
        follow,
        span,
    })
}

fn values(names: Option<Vec<Spanned<String>>>) -> Vec<String> {
    names.unwrap_or_default().into_iter().map(|name| name.value).collect()
}

/// Decodes labels: at least one, as Kubernetes has them.
pub(super) fn decode_labels(
    node: &Node,
    problems: &mut Problems,
) -> Option<BTreeMap<String, String>> {
    let fields = Fields::open(node, "labels", problems)?;
    let Value::Mapping(entries) = &node.value else { return None };
    if entries.is_empty() {
        problems.add(fields.span(), "found no labels").expected("expected at least one");
    }
    let mut labels = BTreeMap::new();
    for (key, value) in entries {
        let name = key.as_text().unwrap_or_default();
        if !is_label_name(name) {
            problems
                .add(key.span, format!("{} is not the name of a label", quote(name)))
                .expected("expected at most 63 letters, digits, `-`, `_` and `.`");
        }
        // Kubernetes has labels with an empty value, which must be quoted to be one.
        match &value.value {
            Value::Scalar { text, .. } if !value.is_null() && is_label_value(text) => {
                labels.insert(name.to_owned(), text.clone());
            }
            _ => {
                problems
                    .add(value.span, format!("{} is not the value of a label", value.describe()))
                    .expected("expected at most 63 letters, digits, `-`, `_` and `.`");
            }
        }
    }
    Some(labels)
}

/// Whether `text` can be a label's name, with or without a prefix: `app`, `example.com/tier`.
pub(crate) fn is_label_name(text: &str) -> bool {
    let (prefix, name) = match text.split_once('/') {
        Some((prefix, name)) => (Some(prefix), name),
        None => (None, text),
    };
    prefix.is_none_or(faultline_proto::target::is_object_name)
        && !name.is_empty()
        && is_label_value(name)
}

/// Whether `text` can be a label's value; it may be empty.
pub(crate) fn is_label_value(text: &str) -> bool {
    let bytes = text.as_bytes();
    let edge = |b: Option<&u8>| b.is_none_or(u8::is_ascii_alphanumeric);
    bytes.len() <= 63
        && bytes.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
        && edge(bytes.first())
        && edge(bytes.last())
}

/// `mode:` and the `leader:` that belongs to one of them. What has a mistake becomes the default.
fn decode_mode_and_leader(fields: &mut Fields<'_>, problems: &mut Problems) -> Mode {
    let mode_span = fields.key_span("mode");
    let mode = fields.optional("mode", problems, decode_mode);
    let leader_span = fields.key_span("leader");
    let leader = fields.optional("leader", problems, decode_leader);
    match (&mode, leader_span) {
        (Some(Written::Leader), None) => {
            problems
                .add(mode_span.unwrap_or(fields.span()), "`mode: leader` needs `leader`")
                .help("add `leader: { label: role=primary }`, with the label that the leader has");
        }
        (Some(Written::Other(_)), Some(span)) => {
            problems.add(span, "`leader` belongs to `mode: leader`, and the mode is another one");
        }
        (None, Some(span)) if mode_span.is_none() => {
            problems.add(span, "`leader` belongs to `mode: leader`").help("add `mode: leader`");
        }
        _ => {}
    }
    match (mode, leader) {
        (Some(Written::Leader), Some((label, value))) => Mode::Leader { label, value },
        (Some(Written::Other(mode)), _) => mode,
        _ => Mode::default(),
    }
}

/// `follow:`; everybody who matches can be followed only where everybody is meant.
fn decode_follow(fields: &mut Fields<'_>, mode: &Mode, problems: &mut Problems) -> Follow {
    let choices = yaml::one_of(&[
        ("keep", Follow::Keep),
        ("recreated", Follow::Recreated),
        ("all-matching", Follow::AllMatching),
    ]);
    let follow = fields.optional("follow", problems, choices).unwrap_or_default();
    if follow == Follow::AllMatching && *mode != Mode::All {
        problems
            .add(
                fields.key_span("follow").unwrap_or(fields.span()),
                "`follow: all-matching` means everybody who matches, and the mode means some of them",
            )
            .expected("expected `mode: all`, or no mode")
            .help("`follow: recreated` has a new pod take the place of each one that goes");
    }
    follow
}

fn decode_mode(node: &Node, problems: &mut Problems) -> Option<Written> {
    if let Value::Mapping(_) = &node.value {
        let before = problems.len();
        let mut fields = Fields::open(node, "mode", problems)?;
        let count = fields.optional("count", problems, yaml::count(1..=COUNT_MAX as u64));
        let percent = fields.optional("percent", problems, yaml::percent(1..=10_000));
        let written = fields.keys().count();
        if written != 1 {
            problems
                .add(fields.span(), format!("found {written} ways to say how many"))
                .expected("expected one: `{ count: 2 }` or `{ percent: 50% }`");
        }
        fields.finish(problems);
        let mode = match (count, percent) {
            (Some(count), None) => Mode::Count(u32::try_from(count).ok()?),
            (None, Some(percent)) => Mode::Percent(percent),
            _ => return None,
        };
        return (problems.len() == before).then_some(Written::Other(mode));
    }
    let text = node.as_text().unwrap_or_default();
    Some(match text {
        "all" => Written::Other(Mode::All),
        "one" => Written::Other(Mode::One),
        "majority" => Written::Other(Mode::Majority),
        "minority" => Written::Other(Mode::Minority),
        "leader" => Written::Leader,
        _ => {
            let names = ["all", "one", "majority", "minority", "leader"];
            let problem = problems.add(node.span, format!("{} is not a mode", node.describe()));
            problem.expected(
                "expected all, one, majority, minority, leader, { count: 2 } or { percent: 50% }",
            );
            problem.suggest(text, names);
            if text.ends_with('%') {
                problem.help(format!("write `mode: {{ percent: {text} }}`"));
            } else if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
                problem.help(format!("write `mode: {{ count: {text} }}`"));
            }
            return None;
        }
    })
}

fn decode_leader(node: &Node, problems: &mut Problems) -> Option<(String, String)> {
    let mut fields = Fields::open(node, "leader", problems)?;
    let label = fields.required("label", problems, |node, problems| {
        let pair = node.as_text().and_then(|text| text.split_once('='));
        let pair = pair.filter(|(name, value)| is_label_name(name) && is_label_value(value));
        if pair.is_none() {
            problems
                .add(node.span, format!("{} is not a label", node.describe()))
                .expected("expected NAME=VALUE, such as role=primary");
        }
        pair.map(|(name, value)| (name.to_owned(), value.to_owned()))
    });
    fields.finish(problems);
    label
}
