//! Which pods a selector means. Random choices are made by the experiment's seed and the target's
//! name alone, over pods in the order of their names: the same again, whatever order they came in.

use std::collections::BTreeMap;

use super::{Leaders, PlanError, nobody::why_nobody};
use crate::{
    experiment::{Field, FieldRequirement, Follow, Mode, Selector},
    place::Pod,
};

/// What a selector came to, as indices into the list of pods.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selection {
    /// Everybody who matches, before the mode.
    pub matched: Vec<usize>,
    /// Those who are meant.
    pub chosen: Vec<usize>,
    /// What becomes of it when they go.
    pub follow: Follow,
}

/// Finds the pods that `selector`, the target `name`, means. `leaders` knows who leads where that had to be asked.
///
/// # Errors
/// When it means nobody: a sentence that says what was looked for and what there is.
pub fn select(
    name: &str,
    selector: &Selector,
    pods: &[Pod],
    seed: u64,
    leaders: &Leaders,
) -> Result<Selection, PlanError> {
    let matched = candidates(selector, pods);
    let empty = |why: String| PlanError::Empty { target: name.into(), why, span: selector.span };
    if matched.is_empty() {
        return Err(empty(why_nobody(selector, pods)));
    }
    let count = matched.len();
    let chosen = match &selector.mode {
        Mode::All => matched.clone(),
        Mode::One => draw(&matched, 1, name, seed),
        Mode::Count(wanted) => {
            let wanted = usize::try_from(*wanted).unwrap_or(usize::MAX);
            if wanted > count {
                return Err(empty(format!("{wanted} pods are wanted, and {count} match")));
            }
            draw(&matched, wanted, name, seed)
        }
        Mode::Percent(basis_points) => {
            let share = count * usize::try_from(*basis_points).unwrap_or(10_000) / 10_000;
            draw(&matched, share.clamp(1, count), name, seed)
        }
        Mode::Majority => draw(&matched, count / 2 + 1, name, seed),
        Mode::Minority => {
            let minority = (count - 1) / 2;
            if minority == 0 {
                return Err(empty(format!("less than half of {count} pods is nobody")));
            }
            draw(&matched, minority, name, seed)
        }
        Mode::Leader(leader) => {
            vec![leaders.find(name, leader, &matched, pods).map_err(empty)?]
        }
    };
    Ok(Selection { matched, chosen, follow: selector.follow })
}

/// Everybody who matches and is there to stay, in the order of their names.
pub fn candidates(selector: &Selector, pods: &[Pod]) -> Vec<usize> {
    let fits = |i: &usize| matches(selector, &pods[*i]) && !pods[*i].terminating;
    let mut matched: Vec<usize> = (0..pods.len()).filter(fits).collect();
    matched.sort_by_key(|i| (&pods[*i].namespace, &pods[*i].name, &pods[*i].uid));
    matched
}

/// Whether a pod is one of those that a selector means, before its mode.
pub fn matches(selector: &Selector, pod: &Pod) -> bool {
    let is_state = |one: &&FieldRequirement| one.field == Field::Phase;
    belongs(selector, pod)
        && selector.field_selector.iter().filter(is_state).all(|one| has_field(one, pod))
        && selector.phase.is_none_or(|phase| pod.phase.as_deref() == Some(phase))
        && selector.ready.is_none_or(|ready| pod.ready == Some(ready))
}

/// The same, whatever state the pod is in now: a fault can make a pod unready, and is to stay on it.
pub(super) fn belongs(selector: &Selector, pod: &Pod) -> bool {
    let any_of = |list: &[String], text: &String| list.is_empty() || list.contains(text);
    let has = |wanted: &BTreeMap<String, String>, labels: &BTreeMap<String, String>| {
        wanted.iter().all(|(name, value)| labels.get(name) == Some(value))
    };
    let is_owned = || match (&selector.owner, &pod.owner) {
        (None, _) => true,
        (Some(owner), Some(made_by)) => owner.made(made_by, &pod.labels),
        (Some(_), None) => false,
    };
    let has_fields = || {
        let mut fields = selector.field_selector.iter();
        fields.all(|one| one.field == Field::Phase || has_field(one, pod))
    };
    let labels = || {
        has(&selector.labels, &pod.labels)
            && selector.label_selector.iter().all(|one| one.matches(&pod.labels))
    };
    let is_behind = |service: &String| pod.services.contains(service);
    any_of(&selector.namespaces, &pod.namespace)
        && any_of(&selector.names, &pod.name)
        && any_of(&selector.nodes, &pod.node)
        && labels()
        && has_fields()
        && has(&selector.node_labels, &pod.node_labels)
        && is_owned()
        && selector.service.as_ref().is_none_or(is_behind)
}

/// Whether a pod's field is as is asked. One that is not told is neither equal nor different.
fn has_field(requirement: &FieldRequirement, pod: &Pod) -> bool {
    let FieldRequirement { field, equals, value } = requirement;
    let is = match field {
        Field::Name => pod.name == *value,
        Field::Namespace => pod.namespace == *value,
        Field::Node => pod.node == *value,
        Field::Phase => match &pod.phase {
            Some(phase) => phase == value,
            None => return false,
        },
        // The first one, as Kubernetes has it in `podIP`.
        Field::Address => pod.addresses.first().is_some_and(|ip| value.parse() == Ok(*ip)),
    };
    is == *equals
}

/// Draws `count` of `from`, in their order.
fn draw(from: &[usize], count: usize, name: &str, seed: u64) -> Vec<usize> {
    let mut state = name.bytes().fold(seed ^ 0xcbf2_9ce4_8422_2325, |hash, byte| {
        // FNV-1a: so that two targets of one experiment do not draw alike.
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    let mut left: Vec<usize> = (0..from.len()).collect();
    let mut drawn: Vec<usize> = (0..count)
        .map(|_| {
            let bound = u64::try_from(left.len()).unwrap_or(1);
            let at = usize::try_from(split_mix(&mut state) % bound).unwrap_or(0);
            left.swap_remove(at)
        })
        .collect();
    drawn.sort_unstable();
    drawn.into_iter().map(|i| from[i]).collect()
}

/// One step of `SplitMix64`: small, and the same in every version of Faultline.
pub(super) fn split_mix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
