//! What can go wrong between here and a cluster, in the words of whoever asked.

use std::{fmt, path::PathBuf, time::Duration};

use kube::config::{InClusterError, KubeconfigError};
use thiserror::Error;

use super::names;

/// What the API server was asked: a verb on a resource, as Kubernetes' access rules name them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// `list`, `get`, `create`, …
    pub verb: &'static str,
    /// `pods`, `deployments.apps`, `pods/portforward`.
    pub resource: String,
    /// In which namespace; in all of them, or of none, if `None`.
    pub namespace: Option<String>,
    /// Which one, where it is one.
    pub name: Option<String>,
}

impl Asked {
    /// A verb on a resource in all namespaces, or on one that has none.
    pub fn new(verb: &'static str, resource: impl Into<String>) -> Self {
        Self { verb, resource: resource.into(), namespace: None, name: None }
    }

    /// The same, in a namespace.
    #[must_use]
    pub fn within(self, namespace: &str) -> Self {
        Self { namespace: Some(namespace.into()), ..self }
    }

    /// The same, on one object.
    #[must_use]
    pub fn named(self, name: &str) -> Self {
        Self { name: Some(name.into()), ..self }
    }

    /// The commands that allow `who` to do it.
    fn grant(&self, who: Option<&str>) -> String {
        let Self { verb, resource, .. } = self;
        // Whoever lists also watches here, and the other way round.
        let verbs = match (*verb, resource.as_str()) {
            ("list" | "watch", _) => "get,list,watch",
            // Which of the two a WebSocket is asked for depends on the server's version.
            (_, "pods/portforward" | "pods/exec") => "create,get",
            (verb, _) => verb,
        };
        let role = format!("faultline-{}-{}", verb, resource.replace(['/', '.'], "-"));
        let subject = match who.and_then(|who| who.strip_prefix("system:serviceaccount:")) {
            Some(account) => format!("--serviceaccount={account}"),
            None => format!("--user={}", who.unwrap_or("NAME")),
        };
        match &self.namespace {
            Some(namespace) => format!(
                "kubectl create role {role} -n {namespace} --verb={verbs} --resource={resource} && \
                 kubectl create rolebinding {role} -n {namespace} --role={role} {subject}"
            ),
            None => format!(
                "kubectl create clusterrole {role} --verb={verbs} --resource={resource} && \
                 kubectl create clusterrolebinding {role} --clusterrole={role} {subject}"
            ),
        }
    }
}

impl fmt::Display for Asked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { verb, resource, namespace, name } = self;
        write!(f, "{verb} {resource}")?;
        if let Some(name) = name {
            write!(f, " {name}")?;
        }
        match namespace {
            Some(namespace) => write!(f, " in namespace {namespace}"),
            None => Ok(()),
        }
    }
}

/// Why something could not be had of a cluster.
#[derive(Debug, Error)]
pub enum ClusterError {
    /// There is no kubeconfig, and this is no pod.
    #[error(
        "which cluster? there is no kubeconfig ({}), and this does not run in a pod; set KUBECONFIG or \
         write `--kubeconfig FILE`, or `--sandbox` for a sandbox on this machine, or `--inventory FILE`",
        looked.display()
    )]
    NoCluster {
        /// Where a kubeconfig was looked for.
        looked: PathBuf,
        /// Why this is no pod.
        #[source]
        source: InClusterError,
    },
    /// The kubeconfig cannot be used.
    #[error("the kubeconfig {} cannot be used", path.display())]
    Kubeconfig {
        /// Where it is.
        path: PathBuf,
        /// Why.
        #[source]
        source: KubeconfigError,
    },
    /// It has no such context.
    #[error("the kubeconfig {} has no context `{name}`{}", path.display(), there_are(.known, .nearest.as_deref()))]
    UnknownContext {
        /// Where it is.
        path: PathBuf,
        /// What was asked for.
        name: String,
        /// What there is.
        known: Vec<String>,
        /// The one that was probably meant.
        nearest: Option<String>,
    },
    /// No client can be made of what it says.
    #[error("no connection can be made to {server} with what the kubeconfig says")]
    Client {
        /// The API server.
        server: String,
        /// Why.
        #[source]
        source: Box<kube::Error>,
    },
    /// The API server cannot be reached.
    #[error(
        "the API server {server} cannot be reached to {asked}; does `kubectl get nodes` work with this kubeconfig?"
    )]
    Unreachable {
        /// The API server.
        server: String,
        /// What it was asked.
        asked: Box<Asked>,
        /// What happened.
        #[source]
        source: Box<kube::Error>,
    },
    /// It does not answer.
    #[error("the API server {server} did not {asked} within {within:?}")]
    NoAnswer {
        /// The API server.
        server: String,
        /// What it was asked.
        asked: Box<Asked>,
        /// How long was waited.
        within: Duration,
    },
    /// It does not know who asks.
    #[error(
        "the API server {server} does not accept these credentials (to {asked}); log in again, or choose another \
         context with `--context`"
    )]
    Unauthenticated {
        /// The API server.
        server: String,
        /// What it was asked.
        asked: Box<Asked>,
    },
    /// Whoever asks may not.
    #[error(
        "{} may not {asked}; whoever administers the cluster allows it with: {}",
        .who.as_deref().unwrap_or("this user"), .asked.grant(.who.as_deref())
    )]
    Denied {
        /// What was asked.
        asked: Box<Asked>,
        /// Who asked, as the API server knows them.
        who: Option<String>,
    },
    /// It answered, and it was no.
    #[error("the API server refused to {asked}: {why}")]
    Refused {
        /// What it was asked.
        asked: Box<Asked>,
        /// The HTTP status.
        code: u16,
        /// What it said.
        why: String,
    },
    /// Something was found where nothing can be understood.
    #[error(
        "what the API server {server} answered to {asked} cannot be understood; is it a Kubernetes API server?"
    )]
    Nonsense {
        /// The API server.
        server: String,
        /// What it was asked.
        asked: Box<Asked>,
        /// What is wrong with it.
        #[source]
        source: Box<kube::Error>,
    },
    /// There are no agents.
    #[error(
        "Faultline is not installed in this cluster{}: no pod has the label {}={}; `faultline install` installs it",
        .namespace.as_ref().map_or(String::new(), |n| format!(" in namespace {n}")),
        names::COMPONENT_LABEL, names::AGENT
    )]
    NotInstalled {
        /// Where alone it was looked for.
        namespace: Option<String>,
    },
    /// There are several installations.
    #[error(
        "Faultline is installed more than once, in namespaces {}; write `--installation NAMESPACE` to say which is meant",
        .namespaces.join(", ")
    )]
    SeveralInstallations {
        /// Where.
        namespaces: Vec<String>,
    },
    /// The controller's identity is not there.
    #[error(
        "the Secret {namespace}/{secret} {what}; `faultline install --namespace {namespace}` makes it again"
    )]
    Identity {
        /// The namespace.
        namespace: String,
        /// The Secret.
        secret: &'static str,
        /// What is wrong with it.
        what: String,
    },
}

fn there_are(known: &[String], nearest: Option<&str>) -> String {
    match (nearest, known) {
        (Some(nearest), _) => format!("; did you mean `{nearest}`?"),
        (None, []) => "; it has none".into(),
        (None, known) => format!("; it has: {}", known.join(", ")),
    }
}

impl ClusterError {
    /// What a failed request means.
    pub(crate) fn of(server: &str, asked: Asked, error: kube::Error) -> Self {
        let (server, asked) = (server.to_owned(), Box::new(asked));
        match error {
            kube::Error::Api(status) => match status.code {
                401 => Self::Unauthenticated { server, asked },
                403 if status.reason == "Forbidden" && status.message.contains("cannot ") => {
                    Self::Denied { asked, who: user_of(&status.message) }
                }
                code => Self::Refused { asked, code, why: status.message.clone() },
            },
            // The answer to a WebSocket that is not let in is told as text only.
            kube::Error::UpgradeConnection(source) if source.to_string().contains("403") => {
                Self::Denied { asked, who: user_of(&source.to_string().replace("\\\"", "\"")) }
            }
            source @ (kube::Error::SerdeError(_) | kube::Error::FromUtf8(_)) => {
                Self::Nonsense { server, asked, source: Box::new(source) }
            }
            source => Self::Unreachable { server, asked, source: Box::new(source) },
        }
    }

    /// Whether the API server said that there is no such thing.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Refused { code: 404, .. })
    }

    /// Whether somebody else changed it in between.
    pub fn is_conflict(&self) -> bool {
        matches!(self, Self::Refused { code: 409, .. })
    }

    /// Whether asking again later makes no sense: who asks is wrong, not when.
    pub fn is_final(&self) -> bool {
        matches!(self, Self::Denied { .. } | Self::Unauthenticated { .. } | Self::Nonsense { .. })
            || matches!(self, Self::Refused { code, .. } if (400..500).contains(code) && *code != 429 && *code != 410)
    }
}

/// Who asked, in `User "…" cannot list resource …` (Kubernetes' RBAC authorizer says so).
fn user_of(message: &str) -> Option<String> {
    let (_, rest) = message.split_once("User \"")?;
    Some(rest.split_once('"')?.0.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_denial_names_the_verb_the_resource_and_the_command_that_grants_it() {
        let status = kube::core::Status {
            code: 403,
            reason: "Forbidden".into(),
            message: "pods is forbidden: User \"system:serviceaccount:ci:runner\" cannot list resource \"pods\" in \
                      API group \"\" at the cluster scope"
                .into(),
            ..Default::default()
        };
        let error = ClusterError::of(
            "https://a",
            Asked::new("list", "pods"),
            kube::Error::Api(Box::new(status)),
        );
        let text = error.to_string();
        assert!(text.starts_with("system:serviceaccount:ci:runner may not list pods; "), "{text}");
        assert!(text.contains("--verb=get,list,watch --resource=pods"), "{text}");
        assert!(text.ends_with("--serviceaccount=ci:runner"), "{text}");
        assert!(error.is_final());
    }
}
