//! Which pods a selector means. Random choices are made by the experiment's seed and the target's
//! name alone, over pods in the order of their names: the same again, whatever order they came in.

use faultline_proto::yaml::nearest;

use super::PlanError;
use crate::{
    experiment::{Follow, Mode, Selector},
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

/// Finds the pods that `selector`, the target `name`, means.
///
/// # Errors
/// When it means nobody: a sentence that says what was looked for and what there is.
pub fn select(
    name: &str,
    selector: &Selector,
    pods: &[Pod],
    seed: u64,
) -> Result<Selection, PlanError> {
    let mut matched: Vec<usize> =
        (0..pods.len()).filter(|i| matches(selector, &pods[*i])).collect();
    matched.sort_by_key(|i| (&pods[*i].namespace, &pods[*i].name, &pods[*i].uid));
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
        Mode::Leader { label, value } => {
            let leads = |i: &usize| pods[*i].labels.get(label) == Some(value);
            let leaders: Vec<usize> = matched.iter().copied().filter(leads).collect();
            if leaders.len() != 1 {
                return Err(empty(format!(
                    "{} of the {count} pods that match have the leader's label {label}={value}, not one",
                    leaders.len()
                )));
            }
            leaders
        }
    };
    Ok(Selection { matched, chosen, follow: selector.follow })
}

/// Whether a pod is one of those that a selector means, before its mode.
pub fn matches(selector: &Selector, pod: &Pod) -> bool {
    let any_of = |list: &[String], text: &String| list.is_empty() || list.contains(text);
    selector.namespace.as_ref().is_none_or(|namespace| *namespace == pod.namespace)
        && selector.labels.iter().all(|(name, value)| pod.labels.get(name) == Some(value))
        && any_of(&selector.names, &pod.name)
        && any_of(&selector.nodes, &pod.node)
}

/// Drops one condition after the other until somebody matches: what is dropped is what was wrong.
fn why_nobody(selector: &Selector, pods: &[Pod]) -> String {
    if pods.is_empty() {
        return "there are no pods here at all".into();
    }
    if let Some(namespace) = &selector.namespace {
        let mut namespaces: Vec<&str> = pods.iter().map(|p| p.namespace.as_str()).collect();
        namespaces.sort_unstable();
        namespaces.dedup();
        if !namespaces.contains(&namespace.as_str()) {
            let list = namespaces.join(", ");
            return match nearest(namespace, namespaces.iter().copied()) {
                Some(near) => {
                    format!("no pod is in namespace `{namespace}`; did you mean `{near}`?")
                }
                None => format!("no pod is in namespace `{namespace}`; there are: {list}"),
            };
        }
    }
    for (label, value) in &selector.labels {
        let mut values: Vec<&str> =
            pods.iter().filter_map(|p| p.labels.get(label)).map(String::as_str).collect();
        values.sort_unstable();
        values.dedup();
        if !values.contains(&value.as_str()) {
            return match values.as_slice() {
                [] => format!("no pod has a label `{label}`"),
                _ => format!(
                    "no pod has the label {label}={value}; its values here: {}",
                    values.join(", ")
                ),
            };
        }
    }
    for (what, wanted, of) in [
        ("name", &selector.names, pods.iter().map(|p| p.name.as_str()).collect::<Vec<_>>()),
        ("node", &selector.nodes, pods.iter().map(|p| p.node.as_str()).collect()),
    ] {
        if let Some(unknown) = wanted.iter().find(|w| !of.contains(&w.as_str()))
            && !wanted.iter().any(|w| of.contains(&w.as_str()))
        {
            let near = nearest(unknown, of.iter().copied());
            let hint = near.map(|n| format!("; did you mean `{n}`?")).unwrap_or_default();
            return format!("no pod has the {what} `{unknown}`{hint}");
        }
    }
    "each condition matches some pod, but no pod matches all of them".into()
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
