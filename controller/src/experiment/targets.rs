//! `targets:` — who is meant. Which pods that comes to is the plan's business.

use std::collections::BTreeMap;

use faultline_proto::yaml::{self, Fields, Node, Problems, Spanned, Value, quote};

use super::{Follow, Mode, Selector, TARGETS_MAX, mode, selector};

/// A target as decoded, with where its name stands.
pub(super) struct Target {
    pub(super) name: Spanned<String>,
    /// `None` when it has mistakes.
    pub(super) selector: Option<Selector>,
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
    let what = format!("target `{name}`");
    let mut fields = Fields::open(node, &what, problems)?;
    let pods = selector::decode(&mut fields, &what, nodes, problems);
    let mode = mode::decode(&mut fields, problems);
    let follow = decode_follow(&mut fields, &mode, problems);
    fields.finish_with(problems, |key| match key {
        "count" | "percent" => Some(format!("write `mode: {{ {key}: … }}`")),
        _ => selector::hint(key),
    });
    (problems.len() == before).then_some(Selector { mode, follow, ..pods })
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
