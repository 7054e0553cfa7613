//! `conditions:` — what Kubernetes must say of an object, by the type of each condition: `Ready: "True"`.

use std::{collections::BTreeMap, fmt};

use faultline_proto::yaml::{Fields, Node, Problems, Value, quote};

use super::targets::is_label_name;

/// Conditions that one probe asks for.
const CONDITIONS_MAX: usize = 20;

/// What a condition's status is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConditionStatus {
    /// It is so.
    True,
    /// It is not so.
    False,
    /// Kubernetes does not know.
    Unknown,
}

/// The status that each of some conditions must have, by the condition's type. Empty: none is asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Conditions(BTreeMap<String, ConditionStatus>);

impl ConditionStatus {
    const ALL: [Self; 3] = [Self::True, Self::False, Self::Unknown];

    /// As Kubernetes writes it.
    pub fn name(self) -> &'static str {
        match self {
            Self::True => "True",
            Self::False => "False",
            Self::Unknown => "Unknown",
        }
    }
}

impl Conditions {
    /// The types of condition that are asked for.
    pub fn types(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// The first that is not as it is asked: `Ready is False, True is asked`. `has` are those that an object has.
    pub fn first_wrong(&self, has: &BTreeMap<String, String>) -> Option<String> {
        self.0.iter().find_map(|(name, asked)| {
            let asked = asked.name();
            match has.get(name) {
                Some(status) if status == asked => None,
                Some(status) => Some(format!("{name} is {status}, {asked} is asked")),
                None => Some(format!("it has no condition {name}, {asked} is asked")),
            }
        })
    }
}

impl fmt::Display for Conditions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all: Vec<String> =
            self.0.iter().map(|(name, status)| format!("{name}={}", status.name())).collect();
        f.write_str(&all.join(", "))
    }
}

/// Decodes them.
pub(super) fn decode(node: &Node, problems: &mut Problems) -> Option<Conditions> {
    let before = problems.len();
    let fields = Fields::open(node, "conditions", problems)?;
    let Value::Mapping(entries) = &node.value else { return None };
    if !(1..=CONDITIONS_MAX).contains(&entries.len()) {
        problems
            .add(fields.span(), format!("found {} conditions", entries.len()))
            .expected(format!("expected 1 to {CONDITIONS_MAX}: `Ready: \"True\"`"));
    }
    let mut conditions = BTreeMap::new();
    for (key, value) in entries {
        let name = key.as_text().unwrap_or_default();
        if !is_label_name(name) {
            problems
                .add(key.span, format!("{} is not the type of a condition", quote(name)))
                .expected("expected one such as `Ready`, `PodScheduled` or `Available`");
            continue;
        }
        // YAML's `true` is meant as well: Kubernetes' is a text.
        let written = value.as_text().unwrap_or_default();
        let status =
            ConditionStatus::ALL.into_iter().find(|s| s.name().eq_ignore_ascii_case(written));
        match status {
            Some(status) => drop(conditions.insert(name.to_owned(), status)),
            None => {
                problems
                    .add(value.span, format!("{} is no status of a condition", value.describe()))
                    .expected("expected one of: \"True\", \"False\", \"Unknown\"");
            }
        }
    }
    (problems.len() == before).then_some(Conditions(conditions))
}

#[cfg(test)]
impl Conditions {
    /// For tests: `Ready` with this status.
    pub(crate) fn of(name: &str, status: ConditionStatus) -> Self {
        Self(BTreeMap::from([(name.to_owned(), status)]))
    }
}
