//! Where a command works, as said on the command line.

use std::{ffi::OsString, path::PathBuf};

use clap::{Args, ValueHint};

use crate::{cluster::ClusterChoice, experiment::SANDBOX_NODES_MAX};

/// Where an experiment runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PlaceChoice {
    /// In a sandbox on this machine, made for it.
    Sandbox {
        /// With so many nodes; as the experiment says if `None`.
        nodes: Option<u32>,
    },
    /// On the pods and agents that a file lists.
    Inventory(PathBuf),
    /// In a Kubernetes cluster.
    Cluster(ClusterChoice),
}

/// The flags of [`PlaceChoice`].
#[derive(Debug, Clone, Args)]
pub(super) struct PlaceArgs {
    /// Run in a sandbox on this machine: nodes, pods and agents of its own, gone afterwards
    ///
    /// N is the number of nodes, 1 to 16: as `--sandbox=5` or `--sandbox 5`. Without it, the
    /// experiment's `sandbox` section says how many, or there are three.
    #[arg(long, value_name = "N", num_args = 0..=1, require_equals = true, help_heading = "Where")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=i64::from(SANDBOX_NODES_MAX)))]
    #[arg(conflicts_with_all = ["inventory", "kubeconfig", "context"])]
    #[allow(clippy::option_option, reason = "the way clap says: flag, with or without a value")]
    sandbox: Option<Option<u32>>,
    /// Run on the pods and agents that FILE lists
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, help_heading = "Where")]
    #[arg(conflicts_with_all = ["kubeconfig", "context"])]
    inventory: Option<PathBuf>,
    #[command(flatten)]
    cluster: ClusterArgs,
}

/// Which cluster, and which Faultline in it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Args)]
#[command(next_help_heading = "Where")]
pub(super) struct ClusterArgs {
    /// The kubeconfig [default: that of KUBECONFIG or ~/.kube/config, or the pod that this runs in]
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    kubeconfig: Option<PathBuf>,
    /// The context of the kubeconfig [default: its current one]
    #[arg(long, value_name = "NAME")]
    context: Option<String>,
    /// The namespace that Faultline is installed in, where it is in more than one
    #[arg(long, value_name = "NAMESPACE", env = "FAULTLINE_INSTALLATION")]
    installation: Option<String>,
}

impl ClusterArgs {
    /// What was chosen.
    pub(super) fn choice(self) -> ClusterChoice {
        let Self { kubeconfig, context, installation } = self;
        ClusterChoice { kubeconfig, context, installation }
    }

    /// Whether a cluster was chosen in words.
    pub(super) fn is_given(&self) -> bool {
        self.kubeconfig.is_some() || self.context.is_some()
    }

    /// Whether the environment, or a flag, says that there is a cluster.
    pub(super) fn is_meant(&self) -> bool {
        let names = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        self.is_given() || self.installation.is_some() || names("KUBECONFIG")
    }
}

impl PlaceArgs {
    /// What was chosen: a cluster, where nothing else was.
    pub(super) fn choice(self) -> PlaceChoice {
        match (self.sandbox, self.inventory) {
            (Some(nodes), _) => PlaceChoice::Sandbox { nodes },
            (None, Some(file)) => PlaceChoice::Inventory(file),
            (None, None) => PlaceChoice::Cluster(self.cluster.choice()),
        }
    }
}

/// Makes `--sandbox 5` into `--sandbox=5`, and leaves `--sandbox FILE` alone: only a number is meant
/// for the flag. (clap would take any word for its value, or none.)
pub(super) fn join_sandbox_number(args: impl IntoIterator<Item = OsString>) -> Vec<OsString> {
    let mut joined: Vec<OsString> = Vec::new();
    let mut options = true;
    for arg in args {
        let number = arg
            .to_str()
            .is_some_and(|text| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()));
        match joined.last_mut() {
            Some(last) if options && number && last == "--sandbox" => {
                last.push("=");
                last.push(&arg);
            }
            _ => {
                options &= arg != "--";
                joined.push(arg);
            }
        }
    }
    joined
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_number_belongs_to_sandbox() {
        for (given, joined) in [
            ("run --sandbox 5 a.yaml", "run --sandbox=5 a.yaml"),
            ("run --sandbox a.yaml", "run --sandbox a.yaml"),
            ("run --sandbox=4 5", "run --sandbox=4 5"),
            ("run --sandbox", "run --sandbox"),
            ("run --sandbox -- 5", "run --sandbox -- 5"),
            ("run -- --sandbox 5", "run -- --sandbox 5"),
            ("run --sandbox 5x", "run --sandbox 5x"),
        ] {
            let args = given.split(' ').map(OsString::from);
            let found: Vec<String> = join_sandbox_number(args)
                .into_iter()
                .map(|arg| arg.into_string().expect("text"))
                .collect();
            assert_eq!(found.join(" "), joined);
        }
    }
}
