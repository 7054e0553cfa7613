//! `faultline controller`: what stands by in the cluster.

use std::net::{Ipv6Addr, SocketAddr};

use clap::Args;

use super::{Exit, Output, enter, place::ClusterArgs, print};
use crate::{
    cluster::{
        controller::{self, ControllerError, Settings},
        names::{CONTROLLER_METRICS_PORT, NAMESPACE_DEFAULT},
    },
    run::one_line,
};

pub(super) const AFTER_HELP: &str = "\
It runs in the cluster, where `faultline install` puts it. Whoever leads restores at its deadline what was
changed through the API server (`scale`, `cordon`, …) when whoever asked for it has gone, and renews the
certificates of the installation. On SIGTERM it lets another one lead at once. Faults on nodes end without it.

Example, on a laptop:
  faultline controller --context staging --listen 127.0.0.1:7702";

/// How it is run.
#[derive(Debug, Args)]
pub(super) struct ControllerArgs {
    /// Where metrics and health are served, as /metrics and /healthz
    #[arg(long, value_name = "ADDRESS", default_value_t = SocketAddr::from((Ipv6Addr::UNSPECIFIED, CONTROLLER_METRICS_PORT)))]
    listen: SocketAddr,
    /// Who this is, among those who could lead [default: the pod's name, or host and process]
    #[arg(long, value_name = "NAME", env = "POD_NAME")]
    identity: Option<String>,
    #[command(flatten)]
    cluster: ClusterArgs,
}

pub(super) fn main(args: ControllerArgs, output: Output) -> anyhow::Result<Exit> {
    let cluster = args.cluster.choice();
    let namespace = cluster.installation.clone().unwrap_or_else(|| NAMESPACE_DEFAULT.into());
    let identity = args.identity.unwrap_or_else(host_and_process);
    let settings = Settings { cluster, namespace, identity, listen: args.listen };
    enter::runtime()?.block_on(async {
        match controller::run(&settings).await {
            Ok(()) => Ok(Exit::Held),
            Err(ControllerError::Cluster(error)) => Ok(enter::no_cluster(&error, output)),
            Err(error) => {
                print::failure(output, &one_line(&error), Exit::Refused);
                Ok(Exit::Refused)
            }
        }
    })
}

fn host_and_process() -> String {
    let host = nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok());
    format!("{}-{}", host.unwrap_or_else(|| "faultline".into()), std::process::id())
}
