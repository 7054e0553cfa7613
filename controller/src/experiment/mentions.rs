//! Which targets a method speaks of, as it is written: also in faults that have other mistakes, of which nothing else
//! is known.

use faultline_proto::{
    fault::{FieldForm, KINDS},
    target::is_object_name,
    yaml::{Node, Spanned, Value},
};

/// What takes the place of a target on one side of a partition.
const EVERYTHING: &str = "everything";

/// Every text that stands where the name of a target does.
pub(super) fn of_steps(node: &Node) -> Vec<Spanned<String>> {
    match &node.value {
        Value::Sequence(steps) => steps.iter().flat_map(of_steps).collect(),
        Value::Mapping(entries) => {
            let within = ["parallel", "repeat", "steps"];
            let steps = entries
                .iter()
                .filter(|(key, _)| key.as_text().is_some_and(|k| within.contains(&k)));
            let faults = KINDS.iter().filter_map(|kind| Some((kind, node.get(kind.name)?)));
            let fields = faults.flat_map(|(kind, body)| {
                let fields = kind.fields.iter();
                fields.filter_map(move |field| Some((field.form, body.get(field.name)?)))
            });
            let named = fields.flat_map(|(form, value)| of_field(form, value));
            steps.flat_map(|(_, steps)| of_steps(steps)).chain(named).collect()
        }
        Value::Scalar { .. } => Vec::new(),
    }
}

fn of_field(form: FieldForm, value: &Node) -> Vec<Spanned<String>> {
    match (form, &value.value) {
        (FieldForm::TwoSides, Value::Sequence(sides)) => {
            sides.iter().flat_map(|side| of_field(FieldForm::Side, side)).collect()
        }
        (FieldForm::Target | FieldForm::Side, Value::Scalar { .. }) => {
            let name = value.as_text().filter(|text| *text != EVERYTHING && is_object_name(text));
            // An address is written in a list; one that is not is told as that.
            let name = name.filter(|text| text.parse::<std::net::IpAddr>().is_err());
            name.map(|text| Spanned { value: text.to_owned(), span: value.span })
                .into_iter()
                .collect()
        }
        _ => Vec::new(),
    }
}
