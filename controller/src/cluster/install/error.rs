//! Why something was not installed or not removed.

use std::time::Duration;

use thiserror::Error;

use super::super::error::{Asked, ClusterError};

/// Why.
#[derive(Debug, Error)]
pub enum InstallError {
    /// The API server could not be asked, or said no.
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    /// Whoever asks may not do all that it takes. Nothing was changed.
    #[error("{}", missing_access(.who.as_deref(), .missing))]
    Access {
        /// Who asks, as the API server knows them, where it tells.
        who: Option<String>,
        /// Everything that they may not.
        missing: Vec<Asked>,
    },
    /// No keys can be made.
    #[error("cannot make keys and certificates")]
    Keys(#[from] rcgen::Error),
    /// There is no node for an agent.
    #[error(
        "no node takes an agent{}; `kubectl get nodes --show-labels` shows what there is",
        if .selector.is_empty() { String::new() } else { format!(": none has the labels {}", .selector) }
    )]
    NoNodes {
        /// The labels that were asked for.
        selector: String,
    },
    /// Not every agent answered in time.
    #[error(
        "not every agent answers after {within:?}; what was installed stays, and `faultline install` goes on waiting{}",
        lines(.why)
    )]
    NotReady {
        /// How long was waited.
        within: Duration,
        /// A line for each node.
        why: Vec<String>,
    },
    /// The certificate authority is being changed, and some agent has not followed yet.
    #[error(
        "the change of the certificate authority waits for some agents after {within:?}: old and new certificates are \
         accepted meanwhile, and `faultline install` goes on with it{}",
        lines(.why)
    )]
    NotRotated {
        /// How long was waited.
        within: Duration,
        /// A line for each node.
        why: Vec<String>,
    },
}

fn lines(why: &[String]) -> String {
    why.iter().flat_map(|line| ["\n    ", line]).collect()
}

fn missing_access(who: Option<&str>, missing: &[Asked]) -> String {
    // By what is asked for, since it is mostly several verbs of one resource.
    let mut by_resource: Vec<(String, Vec<&str>)> = Vec::new();
    for asked in missing {
        let of = asked.to_string();
        let resource = of.strip_prefix(asked.verb).unwrap_or(&of).trim_start().to_owned();
        match by_resource.iter_mut().find(|(known, _)| *known == resource) {
            Some((_, verbs)) => verbs.push(asked.verb),
            None => by_resource.push((resource, vec![asked.verb])),
        }
    }
    let all =
        by_resource.iter().map(|(resource, verbs)| format!("{} {resource}", verbs.join(", ")));
    let all = lines(&all.collect::<Vec<_>>());
    let subject = match who.and_then(|who| who.strip_prefix("system:serviceaccount:")) {
        Some(account) => format!("--serviceaccount={account}"),
        None => format!("--user={}", who.unwrap_or("NAME")),
    };
    format!(
        "nothing was changed, since {} may not:{all}\nwhoever administers the cluster does it in their place, or allows \
         it with: kubectl create clusterrolebinding faultline-installer --clusterrole=cluster-admin {subject}",
        who.unwrap_or("this user"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_that_is_missing_is_told_at_once() {
        let missing = vec![
            Asked::new("create", "namespaces"),
            Asked::new("get", "daemonsets.apps").within("faultline"),
            Asked::new("patch", "daemonsets.apps").within("faultline"),
        ];
        let error =
            InstallError::Access { who: Some("system:serviceaccount:ci:runner".into()), missing };
        assert_eq!(
            error.to_string(),
            "nothing was changed, since system:serviceaccount:ci:runner may not:\n    create namespaces\n    get, \
             patch daemonsets.apps in namespace faultline\nwhoever administers the cluster does it in their place, or allows it \
             with: kubectl create clusterrolebinding faultline-installer --clusterrole=cluster-admin \
             --serviceaccount=ci:runner"
        );
    }
}
