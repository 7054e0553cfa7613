//! `owner:` — what made a pod and makes another one in its place, as kubectl writes it: `deployment/api`, `sts/db`.

use std::{collections::BTreeMap, fmt};

use faultline_proto::{
    target::is_object_name,
    yaml::{Node, Problems, nearest},
};

/// Every kind that makes pods, and what else kubectl calls it.
const KINDS: [(&str, &[&str]); 6] = [
    ("deployment", &["deployments", "deploy"]),
    ("statefulset", &["statefulsets", "sts"]),
    ("daemonset", &["daemonsets", "ds"]),
    ("replicaset", &["replicasets", "rs"]),
    ("job", &["jobs"]),
    ("replicationcontroller", &["replicationcontrollers", "rc"]),
];
/// The label by which a `ReplicaSet` tells its pods apart, and that its name ends with.
const TEMPLATE_HASH_LABEL: &str = "pod-template-hash";

/// An owner of pods.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    /// In lower case, in full: `deployment`. One of Kubernetes', or of a resource of somebody else's.
    pub kind: String,
    /// Its name.
    pub name: String,
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.kind, self.name)
    }
}

impl Owner {
    /// Whether it made a pod with these labels that says it was made by `made_by`. Where a place knows only a name
    /// and no kind, the name decides.
    pub fn made(&self, made_by: &str, labels: &BTreeMap<String, String>) -> bool {
        let Some((kind, name)) = made_by.split_once('/') else { return made_by == self.name };
        if kind == self.kind {
            return name == self.name;
        }
        // Pods of a Deployment are known by that, and not by the ReplicaSet in between.
        let hash = labels.get(TEMPLATE_HASH_LABEL);
        let of_set = hash.and_then(|hash| self.name.strip_suffix(hash)?.strip_suffix('-'));
        self.kind == "replicaset" && kind == "deployment" && of_set == Some(name)
    }

    /// Reads `KIND/NAME`, if it is one of the kinds that are known here.
    pub fn parse_known(text: &str) -> Option<Self> {
        let (kind, name) = text.split_once('/')?;
        let kind = full_name(kind)?.to_owned();
        is_object_name(name).then(|| Self { kind, name: name.to_owned() })
    }
}

/// A kind's name in full, whatever kubectl's users call it.
fn full_name(written: &str) -> Option<&'static str> {
    let written = written.to_ascii_lowercase();
    let is_it =
        |(name, others): &&(&str, &[&str])| *name == written || others.contains(&written.as_str());
    KINDS.iter().find(is_it).map(|(name, _)| *name)
}

/// Decodes it.
pub(in super::super) fn decode(node: &Node, problems: &mut Problems) -> Option<Owner> {
    let text = node.as_text().unwrap_or_default();
    if let Some(owner) = Owner::parse_known(text) {
        return Some(owner);
    }
    let names = KINDS.map(|(name, _)| name);
    let expected =
        format!("expected KIND/NAME, such as deployment/api; kinds are {}", names.join(", "));
    let Some((kind, name)) = text.split_once('/') else {
        let problem = problems.add(node.span, format!("{} is not an owner", node.describe()));
        problem.expected(expected);
        if is_object_name(text) {
            problem.help(format!("write `owner: deployment/{text}`"));
        }
        return None;
    };
    let all =
        KINDS.iter().flat_map(|(name, others)| [*name].into_iter().chain(others.iter().copied()));
    let near = nearest(kind, all).filter(|_| full_name(kind).is_none());
    // An operator's own resource can make pods, too: what is near to none of ours is taken at its word.
    if near.is_none() && is_object_name(&kind.to_ascii_lowercase()) && is_object_name(name) {
        return Some(Owner { kind: kind.to_ascii_lowercase(), name: name.to_owned() });
    }
    let problem = problems.add(node.span, format!("{} is not an owner", node.describe()));
    problem.expected(expected);
    if let Some(near) = near {
        problem.help(format!("did you mean `{near}/{name}`?"));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn owners_are_called_as_kubectl_calls_them() {
        for (written, full) in [
            ("deploy/api", "deployment/api"),
            ("StatefulSet/db", "statefulset/db"),
            ("sts/db", "statefulset/db"),
            ("ds/log", "daemonset/log"),
            ("rs/api-1", "replicaset/api-1"),
            ("job/import", "job/import"),
        ] {
            let owner = Owner::parse_known(written).expect(written);
            assert_eq!(owner.to_string(), full);
        }
        assert_eq!(Owner::parse_known("10.0.0.0/8"), None);
    }

    #[test]
    fn a_replica_set_is_known_by_its_hash_and_a_name_alone_decides_where_no_kind_is_known() {
        let labels = BTreeMap::from([("pod-template-hash".to_owned(), "6d4".to_owned())]);
        let owner = |text| Owner::parse_known(text).expect(text);
        assert!(owner("rs/api-6d4").made("deployment/api", &labels));
        assert!(!owner("rs/api-777").made("deployment/api", &labels));
        assert!(owner("deploy/api").made("deployment/api", &labels));
        assert!(!owner("sts/api").made("deployment/api", &labels));
        assert!(owner("sts/api").made("api", &labels));
    }
}
