//! Which one of a target's pods leads. Pure: what had to be asked of somebody else is handed in.

use std::collections::BTreeMap;

use crate::{experiment::Leader, place::Pod, report::counted};

/// Who leads, by the target's name, where a look at the pods does not tell: the leader's uid, or why nobody knows.
#[derive(Debug, Clone, Default)]
pub struct Leaders(pub BTreeMap<String, Result<String, String>>);

impl Leaders {
    /// The one of `matched` that leads.
    ///
    /// # Errors
    /// When it is not exactly one, or nobody knows.
    pub(super) fn find(
        &self,
        target: &str,
        leader: &Leader,
        matched: &[usize],
        pods: &[Pod],
    ) -> Result<usize, String> {
        let (name, value, what) = match leader {
            Leader::Label { name, value } => (name, value, "label"),
            Leader::Annotation { name, value } => {
                if pods.iter().all(|pod| pod.annotations.is_empty()) {
                    return Err("no pod here has annotations; only a cluster tells them".into());
                }
                (name, value, "annotation")
            }
            Leader::Lease(_) | Leader::Endpoints(_) | Leader::Command { .. } => {
                return self.asked(target, matched, pods);
            }
        };
        let marks = |pod: &Pod| match what {
            "label" => pod.labels.get(name).cloned(),
            _ => pod.annotations.get(name).cloned(),
        };
        let leads = |i: &&usize| marks(&pods[**i]).as_ref() == Some(value);
        match matched.iter().filter(leads).collect::<Vec<_>>().as_slice() {
            [only] => Ok(**only),
            others => Err(format!(
                "{} of the {} that match have the leader's {what} {name}={value}, not one",
                others.len(),
                counted(matched.len(), "pod")
            )),
        }
    }

    fn asked(&self, target: &str, matched: &[usize], pods: &[Pod]) -> Result<usize, String> {
        let answer = self.0.get(target).cloned();
        let uid = answer.unwrap_or_else(|| Err("nobody was asked who leads".into()))?;
        let is_it = |i: &&usize| pods[**i].uid == uid;
        let found = matched.iter().find(is_it).copied();
        found.ok_or_else(|| "the pod that leads is none of those that match (any more)".into())
    }
}

/// The candidate that the holder of a Lease is: a pod's name, or one with something behind it, as client-go's
/// elections have it (`api-0_6f0c…`).
///
/// # Errors
/// When it is none of them.
pub fn holder_of<'p>(
    what: &str,
    holder: Option<&str>,
    candidates: impl IntoIterator<Item = &'p Pod> + Clone,
) -> Result<&'p Pod, String> {
    let Some(holder) = holder.filter(|holder| !holder.is_empty()) else {
        return Err(format!("nobody holds {what} now"));
    };
    if let Some(pod) = candidates.clone().into_iter().find(|pod| pod.name == holder) {
        return Ok(pod);
    }
    // `api-1_…` is of `api-1` and not of `api`: the longest name counts.
    let begins = |pod: &&Pod| {
        let rest = holder.strip_prefix(pod.name.as_str());
        rest.is_some_and(|rest| rest.starts_with(|c: char| !c.is_ascii_alphanumeric()))
    };
    let found = candidates.into_iter().filter(begins).max_by_key(|pod| pod.name.len());
    found.ok_or_else(|| {
        format!("{what} is held by `{holder}`, which is none of the pods that match")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(name: &str) -> Pod {
        Pod { name: name.into(), uid: format!("uid-{name}"), ..Pod::default() }
    }

    #[test]
    fn a_holder_is_a_pods_name_or_begins_with_it() {
        let pods = [pod("api"), pod("api-1"), pod("api-10")];
        let name = |holder: &str| holder_of("the Lease x", Some(holder), &pods).map(|p| &p.name);
        assert_eq!(name("api-1"), Ok(&"api-1".to_owned()));
        assert_eq!(name("api-10_6f0c"), Ok(&"api-10".to_owned()));
        assert_eq!(name("api-1_6f0c"), Ok(&"api-1".to_owned()));
        assert!(name("apix").expect_err("none").contains("held by `apix`"));
        assert!(holder_of("the Lease x", Some(""), &pods).expect_err("none").contains("nobody"));
    }

    #[test]
    fn what_was_not_asked_is_no_leader() {
        let leader = Leader::Lease("x".into());
        let pods = [pod("a"), pod("b")];
        let find = |leaders: &Leaders| leaders.find("t", &leader, &[0, 1], &pods);
        find(&Leaders::default()).expect_err("nobody was asked");
        let told = |uid: &str| Leaders(BTreeMap::from([("t".into(), Ok(uid.to_owned()))]));
        assert_eq!(find(&told("uid-b")), Ok(1));
        find(&told("uid-c")).expect_err("gone");
    }
}
