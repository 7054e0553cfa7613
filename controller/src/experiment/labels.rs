//! Labels of an experiment that have a meaning here: those that begin with `faultline.dev/`. All others
//! are kept as they are.

use std::{collections::BTreeMap, time::Duration};

use faultline_proto::yaml::{self, Node, Problems, Value};

use super::targets::decode_labels;

/// What labels with a meaning begin with.
const OURS: &str = "faultline.dev/";
/// Which type of experiment it is, where its faults do not say it well enough.
pub const TYPE: &str = "faultline.dev/experiment-type";
/// Labels whose value is a duration, and what it is the limit of: recovering, losing data, being run
/// again. Metrics tell them, so that alerts can compare.
pub const OBJECTIVES: [(&str, &str); 3] =
    [("faultline.dev/rto", "rto"), ("faultline.dev/rpo", "rpo"), ("faultline.dev/every", "every")];
/// The most that an objective may be.
const OBJECTIVE_MAX: Duration = Duration::from_hours(24 * 366);

/// Decodes the labels of an experiment.
pub(super) fn decode(node: &Node, problems: &mut Problems) -> Option<BTreeMap<String, String>> {
    let labels = decode_labels(node, problems)?;
    let Value::Mapping(entries) = &node.value else { return None };
    for (key, value) in entries {
        let name = key.as_text().unwrap_or_default();
        if !name.starts_with(OURS) || name == TYPE {
            continue;
        }
        let mut objectives = OBJECTIVES.iter().map(|(label, _)| *label);
        if objectives.any(|label| label == name) {
            yaml::duration(Duration::from_millis(1)..=OBJECTIVE_MAX)(value, problems);
            continue;
        }
        let known: Vec<&str> = OBJECTIVES.iter().map(|(label, _)| *label).chain([TYPE]).collect();
        problems
            .add(key.span, format!("`{name}` has no meaning"))
            .expected(format!("expected one of: {}", known.join(", ")))
            .suggest(name, known);
    }
    Some(labels)
}
