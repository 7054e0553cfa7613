//! `requirePlace:` — where alone an experiment may run: its environment fence.

use std::path::Path;

use faultline_proto::{
    target::is_pod_uid,
    yaml::{self, Fields, Node, Problems, Spanned},
};

/// What a place can be.
const PLACES: &str =
    "expected sandbox, `{ inventory: FILE }`, `{ context: NAME }` or `{ clusterUid: UID }`";

/// A place that an experiment was written for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RequiredPlace {
    /// A sandbox, also one that another process holds.
    Sandbox,
    /// The inventory in a file of this name.
    Inventory(String),
    /// A cluster of which all that is given is true. One of them is.
    Cluster {
        /// The context of the kubeconfig.
        context: Option<String>,
        /// The uid of its namespace `kube-system`, which no other cluster has.
        uid: Option<String>,
    },
}

/// What a place is, as far as it is asked for.
#[derive(Debug, Default)]
pub struct PlaceFacts<'a> {
    /// It is a sandbox.
    pub is_sandbox: bool,
    /// The inventory's file.
    pub file: Option<&'a Path>,
    /// It is a cluster.
    pub is_cluster: bool,
    /// The context of the kubeconfig; `None` also in a pod of the cluster.
    pub context: Option<&'a str>,
    /// The cluster's uid, where it was asked for.
    pub cluster_uid: Option<&'a str>,
}

impl RequiredPlace {
    /// Whether a place is the one.
    ///
    /// # Errors
    /// What is otherwise, in a sentence.
    pub fn check(&self, here: &PlaceFacts<'_>) -> Result<(), String> {
        let is_it =
            |is: bool| if is { Ok(()) } else { Err(format!("only {} will do", self.describe())) };
        let (context, uid) = match self {
            Self::Sandbox => return is_it(here.is_sandbox),
            Self::Inventory(name) => return is_it(here.file.is_some_and(|f| f.ends_with(name))),
            Self::Cluster { context, uid } => (context, uid),
        };
        is_it(here.is_cluster)?;
        if let Some(wanted) = context {
            match here.context {
                None => {
                    return Err(format!(
                        "only the context {wanted} will do, and inside of a cluster there is none; write \
                         `clusterUid` instead"
                    ));
                }
                Some(context) if context != wanted => {
                    return Err(format!(
                        "only the context {wanted} will do, and this is {context}"
                    ));
                }
                Some(_) => {}
            }
        }
        match (uid, here.cluster_uid) {
            (Some(wanted), Some(uid)) if wanted != uid => {
                Err(format!("only the cluster of uid {wanted} will do, and this one's is {uid}"))
            }
            (Some(wanted), None) => Err(format!("only the cluster of uid {wanted} will do")),
            _ => Ok(()),
        }
    }

    /// Whether a cluster's uid has to be known to say so.
    pub fn asks_uid(&self) -> bool {
        matches!(self, Self::Cluster { uid: Some(_), .. })
    }

    /// For a person.
    pub fn describe(&self) -> String {
        match self {
            Self::Sandbox => "a sandbox".into(),
            Self::Inventory(name) => format!("the inventory {name}"),
            Self::Cluster { context, uid } => {
                let context = context.as_ref().map(|name| format!("of context {name}"));
                let uid = uid.as_ref().map(|uid| format!("of uid {uid}"));
                let all: Vec<String> = context.into_iter().chain(uid).collect();
                format!("the cluster {}", all.join(" and "))
            }
        }
    }
}

/// Decodes it.
pub(super) fn decode(node: &Node, problems: &mut Problems) -> Option<Spanned<RequiredPlace>> {
    let at = |value| Spanned { value, span: node.key.unwrap_or(node.span) };
    if let Some(text) = node.as_text() {
        if text == "sandbox" {
            return Some(at(RequiredPlace::Sandbox));
        }
        let problem = problems.add(node.span, format!("{} is not a place", node.describe()));
        problem.expected(PLACES).suggest(text, ["sandbox"]);
        let is_file = [".yaml", ".yml", ".json"].iter().any(|end| text.ends_with(end));
        if is_file {
            problem.help(format!("write `requirePlace: {{ inventory: {text} }}`"));
        } else if problem.help.is_none() {
            problem.help(format!("write `requirePlace: {{ context: {text} }}`"));
        }
        return None;
    }
    let mut fields = Fields::open(node, "requirePlace", problems)?;
    let before = problems.len();
    let inventory = fields.optional("inventory", problems, yaml::text);
    let context = fields.optional("context", problems, yaml::text);
    let uid = fields.optional("clusterUid", problems, decode_uid);
    let written = |name: &str| fields.key_span(name);
    let of_cluster = written("context").or(written("clusterUid"));
    match (written("inventory"), of_cluster) {
        (Some(_), Some(span)) => {
            problems
                .add(span, "a place is an inventory or a cluster, not both")
                .expected("expected `inventory`, or `context` and `clusterUid`");
        }
        (None, None) if fields.keys().next().is_none() => {
            problems.add(fields.span(), "`requirePlace` does not say where").expected(PLACES);
        }
        _ => {}
    }
    fields.finish_with(problems, |name| match name {
        "cluster" | "uid" => Some(
            "`kubectl get ns kube-system -o jsonpath={.metadata.uid}` prints the `clusterUid`"
                .into(),
        ),
        "kubeconfig" | "kubeContext" => Some("the context of a kubeconfig is `context`".into()),
        _ => None,
    });
    if problems.len() != before {
        return None;
    }
    if inventory.is_none() && context.is_none() && uid.is_none() {
        return None;
    }
    Some(at(match inventory {
        Some(file) => RequiredPlace::Inventory(file.value),
        None => RequiredPlace::Cluster { context: context.map(|name| name.value), uid },
    }))
}

fn decode_uid(node: &Node, problems: &mut Problems) -> Option<String> {
    let text = yaml::text(node, problems)?.value;
    if is_pod_uid(&text) && text.contains('-') {
        return Some(text);
    }
    problems
        .add(node.span, format!("{} is not a cluster's uid", node.describe()))
        .expected("expected a UUID in lower case: that of the namespace kube-system")
        .help("`kubectl get ns kube-system -o jsonpath={.metadata.uid}` prints it");
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_the_one_only_if_all_is_true() {
        let both = RequiredPlace::Cluster { context: Some("a".into()), uid: Some("u".into()) };
        let here = |context, uid| PlaceFacts {
            is_cluster: true,
            context,
            cluster_uid: uid,
            ..PlaceFacts::default()
        };
        both.check(&here(Some("a"), Some("u"))).expect("it is");
        for other in [
            here(Some("b"), Some("u")),
            here(Some("a"), Some("v")),
            here(Some("a"), None),
            here(None, Some("u")),
            PlaceFacts { is_sandbox: true, ..PlaceFacts::default() },
        ] {
            both.check(&other).expect_err("it is not");
        }
        let why = RequiredPlace::Sandbox.check(&here(None, None)).expect_err("it is not");
        assert_eq!(why, "only a sandbox will do");
    }
}
