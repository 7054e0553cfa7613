//! `taint`: a node keeps pods off that do not tolerate it, and with `NoExecute` has those go that are there.

use std::time::Duration;

use faultline_proto::{
    fault::{FieldForm, FieldInfo},
    target::is_object_name,
    yaml::{self, Fields, Node, Problems, Spanned, quote},
};
use serde_json::{Value, json};

use super::{
    Before, Change, Expanded, Kind, KindInfo, Look, Planned, Sight,
    nodes::{Nodes, decode_nodes, pods_on},
};
use crate::place::Pod;

/// Its name.
pub(super) const NAME: &str = "taint";
/// Where they are.
pub(super) const TAINTS: &str = "/spec/taints";
/// The key where none is written.
const KEY_DEFAULT: &str = "faultline.dev/taint";
/// What a taint does.
pub(super) const EFFECTS: &[(&str, &str)] = &[
    ("NoSchedule", "NoSchedule"),
    ("PreferNoSchedule", "PreferNoSchedule"),
    ("NoExecute", "NoExecute"),
];
const PROOF_WINDOW: Duration = Duration::from_secs(10);

/// For help texts and `faultline inject taint`.
pub(super) const INFO: KindInfo = KindInfo {
    name: NAME,
    about: "Have nodes keep off pods that do not tolerate a taint",
    fields: &[
        super::nodes::TARGET,
        super::nodes::NODES,
        FieldInfo {
            name: "key",
            value: "KEY",
            help: "The taint's key [default: faultline.dev/taint]",
            form: FieldForm::Scalar,
        },
        FieldInfo {
            name: "value",
            value: "VALUE",
            help: "The taint's value [default: the fault's id]",
            form: FieldForm::Scalar,
        },
        FieldInfo {
            name: "effect",
            value: "NoSchedule|PreferNoSchedule|NoExecute",
            help: "What becomes of pods that do not tolerate it",
            form: FieldForm::Scalar,
        },
    ],
};

/// Taints with keys of these are put and removed by Kubernetes itself.
const RESERVED: [&str; 2] = ["kubernetes.io", "k8s.io"];

/// Whether a key is of those that Kubernetes itself puts and removes.
pub(super) fn is_reserved(key: &str) -> bool {
    let prefix = key.split_once('/').map_or("", |(prefix, _)| prefix);
    RESERVED.iter().any(|domain| {
        prefix.strip_suffix(domain).is_some_and(|sub| sub.is_empty() || sub.ends_with('.'))
    })
}

/// As an experiment has it.
#[derive(Debug, Clone, PartialEq)]
pub struct Spec {
    nodes: Nodes,
    key: String,
    value: Option<String>,
    effect: &'static str,
}

pub(super) fn decode(body: &Node, problems: &mut Problems) -> Option<Spec> {
    let before = problems.len();
    let mut fields = Fields::open(body, NAME, problems)?;
    let nodes = decode_nodes(&mut fields, problems);
    let key = fields.optional("key", problems, |node, problems| {
        let key = yaml::text(node, problems)?;
        if is_reserved(&key.value) {
            let what =
                format!("{} is a key that Kubernetes itself puts and removes", quote(&key.value));
            problems.add(key.span, what).expected("expected a key such as example.com/broken");
            return None;
        }
        part(is_key(&key.value), key, "expected a key such as example.com/broken", problems)
    });
    let value = fields.optional("value", problems, |node, problems| {
        let value = yaml::text(node, problems)?;
        let expected = "expected at most 63 letters, digits, `-`, `_` and `.`, the first and last none of these";
        part(is_name(&value.value), value, expected, problems)
    });
    let effect = fields.required("effect", problems, yaml::one_of(EFFECTS));
    fields.finish(problems);
    let key = key.unwrap_or_else(|| KEY_DEFAULT.into());
    (problems.len() == before).then_some(Spec { nodes: nodes?, key, value, effect: effect? })
}

fn part(
    is_right: bool,
    text: Spanned<String>,
    expected: &str,
    problems: &mut Problems,
) -> Option<String> {
    if !is_right {
        let problem =
            problems.add(text.span, format!("{} cannot be part of a taint", quote(&text.value)));
        problem.expected(expected);
        return None;
    }
    Some(text.value)
}

/// Whether this is a qualified name of Kubernetes: `example.com/name` or `name`.
fn is_key(text: &str) -> bool {
    match text.split_once('/') {
        Some((prefix, name)) => is_object_name(prefix) && is_name(name),
        None => is_name(text),
    }
}

fn is_name(text: &str) -> bool {
    let is_end = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    text.len() <= 63
        && is_end(text.chars().next())
        && is_end(text.chars().last())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
}

impl Spec {
    fn is_borne_by(&self, pod: &Pod) -> bool {
        let (key, value, effect) = (self.key.as_str(), self.value.as_deref(), self.effect);
        pod.tolerations.iter().any(|one| one.bears(key, value, effect))
    }

    fn is_it(&self, taint: &Value) -> bool {
        taint["key"] == self.key.as_str() && taint["effect"] == self.effect
    }
}

impl Kind for Spec {
    fn targets(&self) -> Vec<&Spanned<String>> {
        self.nodes.targets()
    }

    /// `NoExecute` hits everybody there who does not tolerate it. Others hit nobody.
    fn expand(&self, chosen: &[&Pod], all: &[Pod]) -> Result<Vec<Expanded>, String> {
        let evicts = self.effect == "NoExecute";
        let expanded = |object| {
            let goes = |pod: &Pod| evicts && !self.is_borne_by(pod);
            let hits = pods_on(&object, all, goes);
            Expanded { object, hits, beside: Vec::new() }
        };
        Ok(self.nodes.named(chosen)?.into_iter().map(expanded).collect())
    }

    fn plan(&self, before: &Before<'_>) -> Result<Planned, String> {
        let taints = before.object.pointer(TAINTS).and_then(Value::as_array);
        let Self { key, effect, .. } = self;
        if taints.into_iter().flatten().any(|taint| self.is_it(taint)) {
            return Err(format!("{} has a taint {key}:{effect} already", before.on));
        }
        let value = self.value.as_deref().unwrap_or(before.fault);
        let ours = json!({"key": key, "value": value, "effect": effect});
        Ok(Planned {
            text: format!("taint {} with {key}={value}:{effect}", before.on),
            changes: vec![Change::Item { path: TAINTS.into(), ours }],
            ..Planned::default()
        })
    }

    fn look(&self, look: &Look<'_>) -> Sight {
        let taints = look.object.and_then(|node| node.pointer(TAINTS)?.as_array());
        if taints.into_iter().flatten().any(|taint| self.is_it(taint)) {
            Sight::Proven("the API server tells of the taint".into())
        } else {
            Sight::Missing("the node has no such taint".into())
        }
    }

    fn proof_window(&self) -> Duration {
        PROOF_WINDOW
    }
}
