//! Why a selector means nobody, in a sentence: which of its conditions nobody meets, and what is near to it. Pure.

use std::{borrow::Cow, collections::BTreeSet};

use faultline_proto::yaml::nearest;

use super::select::{candidates, matches};
use crate::{
    experiment::{Field, FieldRequirement, LabelOperator, LabelRequirement, Selector},
    place::{Aside, Pod},
    report::counted,
};

/// Values that are told at most.
const SHOWN_MAX: usize = 10;

/// What a selector asks for and a place does not tell of any pod: such a condition would be met by nobody.
pub fn not_told(selector: &Selector, pods: &[Pod]) -> Option<String> {
    let is_told = |told: fn(&Pod) -> bool| pods.iter().any(told);
    let asks_phase = selector.field_selector.iter().any(|one| one.field == Field::Phase);
    let phase = is_told(|pod| pod.phase.is_some());
    let untold = |what: &str| Some(format!("this place does not tell {what}"));
    if !selector.node_labels.is_empty() && !is_told(|pod| !pod.node_labels.is_empty()) {
        return untold("which labels its nodes have; only a cluster does (`nodeLabels`)");
    }
    // Of a cluster, the phase of every pod is known; the Services of a pod can be none.
    if selector.service.is_some() && !phase {
        return untold("which Services send traffic to its pods; only a cluster does (`service`)");
    }
    if (selector.phase.is_some() || asks_phase) && !phase {
        return untold("in which phase its pods are; only a cluster does (`phase`)");
    }
    if selector.ready.is_some() && !is_told(|pod| pod.ready.is_some()) {
        return untold("which of its pods are ready; a cluster and the sandbox do (`ready`)");
    }
    if selector.owner.is_some() && !is_told(|pod| pod.owner.is_some()) {
        return untold("what made its pods (`owner`)");
    }
    None
}

/// Looks at one condition after the other: the first that nobody meets is what was wrong.
pub(super) fn why_nobody(selector: &Selector, pods: &[Pod]) -> String {
    if pods.is_empty() {
        return "there are no pods here at all".into();
    }
    if let Some(why) = not_told(selector, pods) {
        return why;
    }
    let leaving = pods.iter().filter(|pod| matches(selector, pod)).count();
    if leaving > 0 && candidates(selector, pods).is_empty() {
        return format!("everybody who matches is being deleted ({})", counted(leaving, "pod"));
    }
    let labels = selector.labels.iter();
    unmet_namespace(selector, pods)
        .or_else(|| labels.clone().find_map(|(name, value)| unmet_label(name, value, pods)))
        .or_else(|| selector.label_selector.iter().find_map(|one| unmet_expression(one, pods)))
        .or_else(|| unmet_name("name", &selector.names, pods, |pod| &pod.name))
        .or_else(|| unmet_name("node", &selector.nodes, pods, |pod| &pod.node))
        .or_else(|| unmet_node_label(selector, pods))
        .or_else(|| unmet_owner(selector, pods))
        .or_else(|| unmet_service(selector, pods))
        .or_else(|| unmet_state(selector, pods))
        .or_else(|| selector.field_selector.iter().find_map(|one| unmet_field(one, pods)))
        .unwrap_or_else(|| "each condition matches some pod, but no pod matches all of them".into())
}

/// Why a selector means nobody, where it would mean pods that no fault can be on.
pub(super) fn why_aside(selector: &Selector, aside: &Aside) -> Option<String> {
    let meant = |pods: &[Pod]| {
        let mut meant = pods.iter().filter(|pod| matches(selector, pod));
        let first = meant.next()?;
        let name = format!("{}/{}", first.namespace, first.name);
        Some((counted(1 + meant.count(), "pod"), name))
    };
    if let Some((count, first)) = meant(&aside.waiting) {
        return Some(format!(
            "{count} would match, on no node yet ({first}); `kubectl describe pod` says what is waited for"
        ));
    }
    let (count, first) = meant(&aside.over)?;
    Some(format!("{count} would match, whose work is over ({first}): nothing of that runs"))
}

/// `; did you mean …?`, or what there is.
fn instead<'a>(written: &str, there: impl IntoIterator<Item = &'a str>, others: &str) -> String {
    let there: BTreeSet<&str> = there.into_iter().filter(|text| !text.is_empty()).collect();
    if let Some(near) = nearest(written, there.iter().copied()) {
        return format!("; did you mean `{near}`?");
    }
    if there.is_empty() {
        return String::new();
    }
    let shown: Vec<&str> = there.iter().copied().take(SHOWN_MAX).collect();
    let more = if there.len() > shown.len() { ", …" } else { "" };
    format!("; {others}: {}{more}", shown.join(", "))
}

fn unmet_namespace(selector: &Selector, pods: &[Pod]) -> Option<String> {
    let first = selector.namespaces.first()?;
    let all = || pods.iter().map(|pod| pod.namespace.as_str());
    if all().any(|namespace| selector.namespaces.iter().any(|one| one == namespace)) {
        return None;
    }
    let instead = instead(first, all(), "there are");
    Some(match selector.namespaces.as_slice() {
        [one] => format!("no pod is in namespace `{one}`{instead}"),
        several => format!("no pod is in one of the namespaces {}{instead}", several.join(", ")),
    })
}

fn unmet_label(label: &str, value: &str, pods: &[Pod]) -> Option<String> {
    let mut values: Vec<&str> =
        pods.iter().filter_map(|p| p.labels.get(label)).map(String::as_str).collect();
    values.sort_unstable();
    values.dedup();
    if values.contains(&value) {
        return None;
    }
    if values.is_empty() {
        return Some(no_label(label, pods));
    }
    values.truncate(SHOWN_MAX);
    Some(format!("no pod has the label {label}={value}; its values here: {}", values.join(", ")))
}

fn no_label(label: &str, pods: &[Pod]) -> String {
    let names = pods.iter().flat_map(|pod| pod.labels.keys()).map(String::as_str);
    let near = nearest(label, names.collect::<BTreeSet<_>>());
    let near = near.map_or(String::new(), |near| format!("; did you mean `{near}`?"));
    format!("no pod has a label `{label}`{near}")
}

fn unmet_expression(requirement: &LabelRequirement, pods: &[Pod]) -> Option<String> {
    if pods.iter().any(|pod| requirement.matches(&pod.labels)) {
        return None;
    }
    let key = &requirement.key;
    Some(match &requirement.operator {
        LabelOperator::Exists => no_label(key, pods),
        LabelOperator::In(values) => match values.iter().find_map(|v| unmet_label(key, v, pods)) {
            Some(why) if values.len() == 1 => why,
            _ if pods.iter().all(|pod| !pod.labels.contains_key(key)) => no_label(key, pods),
            _ => {
                let there = pods.iter().filter_map(|pod| pod.labels.get(key)).map(String::as_str);
                let instead = instead(&values[0], there, "its values here");
                format!("no pod has `{requirement}`{instead}")
            }
        },
        LabelOperator::NotIn(_) | LabelOperator::DoesNotExist => {
            format!("every pod here has what `{requirement}` rules out")
        }
    })
}

fn unmet_name<'p>(
    what: &str,
    wanted: &[String],
    pods: &'p [Pod],
    of: impl Fn(&'p Pod) -> &'p String,
) -> Option<String> {
    let first = wanted.first()?;
    let all: BTreeSet<&str> = pods.iter().map(|pod| of(pod).as_str()).collect();
    if wanted.iter().any(|one| all.contains(one.as_str())) {
        return None;
    }
    let near = nearest(first, all).map_or(String::new(), |n| format!("; did you mean `{n}`?"));
    Some(format!("no pod has the {what} `{first}`{near}"))
}

fn unmet_node_label(selector: &Selector, pods: &[Pod]) -> Option<String> {
    selector.node_labels.iter().find_map(|(name, value)| {
        let all = || pods.iter().filter_map(|pod| pod.node_labels.get(name)).map(String::as_str);
        if all().any(|one| one == value) {
            return None;
        }
        let names = pods.iter().flat_map(|pod| pod.node_labels.keys()).map(String::as_str);
        if all().next().is_none() {
            let instead = instead(name, names, "their labels are");
            return Some(format!("no node that has pods has a label `{name}`{instead}"));
        }
        let instead = instead(value, all(), "its values here");
        Some(format!("no node that has pods has the label {name}={value}{instead}"))
    })
}

fn unmet_owner(selector: &Selector, pods: &[Pod]) -> Option<String> {
    let owner = selector.owner.as_ref()?;
    let made = |pod: &Pod| pod.owner.as_ref().is_some_and(|by| owner.made(by, &pod.labels));
    if pods.iter().any(made) {
        return None;
    }
    let is_in =
        |pod: &&Pod| selector.namespaces.is_empty() || selector.namespaces.contains(&pod.namespace);
    let there = pods.iter().filter(is_in).filter_map(|pod| pod.owner.as_deref());
    let instead = instead(&owner.to_string(), there, "owners of pods are");
    Some(format!("no pod was made by {owner}{instead}"))
}

fn unmet_service(selector: &Selector, pods: &[Pod]) -> Option<String> {
    let service = selector.service.as_ref()?;
    if pods.iter().any(|pod| pod.services.contains(service)) {
        return None;
    }
    let there = pods.iter().flat_map(|pod| &pod.services).map(String::as_str);
    let instead = instead(service, there, "Services with pods are");
    Some(format!("no pod is behind a Service `{service}`{instead}"))
}

fn unmet_state(selector: &Selector, pods: &[Pod]) -> Option<String> {
    if let Some(phase) = selector.phase
        && !pods.iter().any(|pod| pod.phase.as_deref() == Some(phase))
    {
        return Some(format!("no pod is {phase}"));
    }
    let ready = selector.ready?;
    let is = if ready { "no pod is ready" } else { "every pod is ready" };
    (!pods.iter().any(|pod| pod.ready == Some(ready))).then(|| is.into())
}

fn unmet_field(requirement: &FieldRequirement, pods: &[Pod]) -> Option<String> {
    let one = Selector { field_selector: vec![requirement.clone()], ..Selector::default() };
    if pods.iter().any(|pod| matches(&one, pod)) {
        return None;
    }
    let value = |pod: &Pod| -> Cow<'_, str> {
        match requirement.field {
            Field::Name => pod.name.clone().into(),
            Field::Namespace => pod.namespace.clone().into(),
            Field::Node => pod.node.clone().into(),
            Field::Phase => pod.phase.clone().unwrap_or_default().into(),
            Field::Address => pod.addresses.first().map_or("".into(), |ip| ip.to_string().into()),
        }
    };
    let there: Vec<String> = pods.iter().map(|pod| value(pod).into_owned()).collect();
    let there = there.iter().map(String::as_str);
    let instead = if requirement.equals {
        instead(&requirement.value, there, "there are")
    } else {
        String::new()
    };
    Some(format!("no pod has `{requirement}`{instead}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_waits_for_a_node_or_is_over_is_told_of() {
        let pod =
            |name: &str| Pod { namespace: "shop".into(), name: name.into(), ..Pod::default() };
        let selector = |name: &str| Selector { names: vec![name.into()], ..Selector::default() };
        let aside = Aside { waiting: vec![pod("api-1")], over: vec![pod("job-1")] };
        let why = |name| why_aside(&selector(name), &aside);
        assert!(
            why("api-1").is_some_and(|why| why.starts_with("1 pod would match, on no node yet"))
        );
        assert!(why("job-1").is_some_and(|why| why.contains("over (shop/job-1)")));
        assert_eq!(why("db-1"), None);
    }
}
