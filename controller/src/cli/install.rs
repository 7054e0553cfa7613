//! `faultline install`: Faultline into a cluster.

use std::{path::PathBuf, time::Duration};

use anyhow::Context;
use clap::{Args, ValueHint};
use faultline_proto::units::parse_duration;

use super::{
    Exit, Output,
    agents::{diagnose, exit_of},
    enter, print, uninstall,
};
use crate::{
    cluster::{
        ClusterChoice,
        install::{
            self, How, Images, InstallError, Secrets, Settings, print as manifests,
            settings::{STATE_DIR_DEFAULT, capability, directory, label, namespace},
        },
        names::NAMESPACE_DEFAULT,
    },
    ops,
    place::Place,
    report::Console,
    run::one_line,
};

pub(super) const AFTER_HELP: &str = "\
Examples:
  faultline install --image registry.example.com/faultline
  faultline install --node-selector kubernetes.io/os=linux --protect-namespace payments
  faultline install --rotate
  faultline install --print --without-identities > faultline.yaml

Run again, it brings what is installed up to date: identities that are good stay, and what somebody else
changed of our fields is set back. It ends with what `faultline doctor` says.

--print needs no cluster. It makes identities for this text and keeps them nowhere: whoever reads the text has
the keys of it. With --without-identities the same text comes every time and has no secret in it, for a
repository: its Secrets are empty, and the controller in the cluster fills them. `kubectl apply -f -` of
either is a whole installation.";

/// What can be said about an installation.
#[derive(Debug, Args)]
#[allow(clippy::struct_excessive_bools, reason = "each is a flag of its own")]
pub(super) struct InstallArgs {
    /// The namespace; it is made if it is not there
    #[arg(long, value_name = "NAMESPACE", default_value = NAMESPACE_DEFAULT, value_parser = namespace)]
    namespace: String,
    /// The beginning of the images' names: PREFIX/agent and PREFIX/controller, of this version if no TAG is given
    #[arg(long, value_name = "PREFIX[:TAG]", default_value = "faultline")]
    image: Images,
    /// Put agents only on nodes with this label; may be given again
    #[arg(long, value_name = "KEY=VALUE", value_parser = label)]
    node_selector: Vec<(String, String)>,
    /// Run agents privileged, where the container runtime does not allow the capabilities that they need
    #[arg(long)]
    privileged: bool,
    /// Where agents keep undo records on their nodes: what is there must outlive a reboot, and be of one node alone
    #[arg(long, value_name = "DIR", default_value = STATE_DIR_DEFAULT, value_parser = directory)]
    state_dir: String,
    /// Leave out a capability that the container runtime has not itself; may be given again
    ///
    /// Without `SYS_RESOURCE`, `oomVictim: kernel` of memory pressure may hit the helper instead of the target.
    #[arg(long, value_name = "NAME", value_parser = capability, conflicts_with = "privileged")]
    without_capability: Vec<&'static str>,
    /// A namespace whose pods agents never touch, beside kube-system and their own; may be given again
    #[arg(long, value_name = "NAMESPACE", value_parser = namespace)]
    protect_namespace: Vec<String>,
    /// Make a new certificate authority and certificates of it; runs of before end with their leases
    #[arg(long, conflicts_with_all = ["print", "no_wait"])]
    rotate: bool,
    /// Print all manifests as YAML, and do nothing
    #[arg(long, conflicts_with_all = ["no_wait", "timeout"])]
    print: bool,
    /// Print them without identities: the controller in the cluster makes them
    #[arg(long, requires = "print")]
    without_identities: bool,
    /// Do not wait until the agents answer
    #[arg(long)]
    no_wait: bool,
    /// How long to wait for the agents
    #[arg(long, value_name = "DURATION", default_value = "5m", value_parser = parse_duration)]
    #[arg(conflicts_with = "no_wait")]
    timeout: Duration,
    #[command(flatten)]
    server: ServerArgs,
}

/// Which cluster.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Where")]
pub(super) struct ServerArgs {
    /// The kubeconfig [default: that of KUBECONFIG or ~/.kube/config, or the pod that this runs in]
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    kubeconfig: Option<PathBuf>,
    /// The context of the kubeconfig [default: its current one]
    #[arg(long, value_name = "NAME")]
    context: Option<String>,
}

impl ServerArgs {
    pub(super) fn choice(self, installation: Option<String>) -> ClusterChoice {
        ClusterChoice { kubeconfig: self.kubeconfig, context: self.context, installation }
    }
}

pub(super) fn main(args: InstallArgs, output: Output) -> anyhow::Result<Exit> {
    let settings = Settings {
        namespace: args.namespace,
        images: args.image,
        node_selector: args.node_selector.into_iter().collect(),
        privileged: args.privileged,
        state_dir: args.state_dir,
        without_capabilities: args.without_capability,
        protected_namespaces: args.protect_namespace,
    };
    if args.print {
        let secrets = if args.without_identities { Secrets::Empty } else { Secrets::Fresh };
        print::out(&manifests(&settings, secrets).context("cannot make keys and certificates")?)?;
        return Ok(Exit::Held);
    }
    let choice = args.server.choice(Some(settings.namespace.clone()));
    let how = How { rotate: args.rotate, wait: (!args.no_wait).then_some(args.timeout) };
    enter::runtime()?.block_on(install_and_tell(&choice, &settings, &how, output))
}

async fn install_and_tell(
    choice: &ClusterChoice,
    settings: &Settings,
    how: &How,
    output: Output,
) -> anyhow::Result<Exit> {
    let console = Console::new(output);
    let (installed, cluster) =
        match install::install(choice, settings, how, &|text| console.say("install", text)).await {
            Ok(done) => done,
            Err(error) => return Ok(not_installed(&error, output)),
        };
    for note in &installed.identities {
        console.say("identity", note);
    }
    for warning in &installed.warnings {
        console.warn("warning", warning);
    }
    let place = cluster.map(|cluster| Place::Cluster(Box::new(cluster)));
    if let Some(place) = &place {
        // What an uninstall that was forced or broken off has left on nodes.
        for node in ops::resume_halted_for(place, uninstall::REASON).await? {
            console.say("install", &format!("{node} is resumed, which an uninstall had halted"));
        }
    }
    match (place, output) {
        (None, Output::Text) => Ok(Exit::Held),
        (None, Output::Json) => {
            print::json(&installed)?;
            Ok(Exit::Held)
        }
        (Some(place), Output::Text) => diagnose(&place, output).await,
        (Some(place), Output::Json) => {
            let diagnosis = ops::doctor(&place).await?;
            print::json(&serde_json::json!({ "installed": installed, "doctor": diagnosis }))?;
            Ok(exit_of(&diagnosis))
        }
    }
}

/// Says why not.
pub(super) fn not_installed(error: &InstallError, output: Output) -> Exit {
    if let InstallError::Cluster(error) = error {
        return enter::no_cluster(error, output);
    }
    print::failure(output, &one_line(error), Exit::Refused);
    Exit::Refused
}
