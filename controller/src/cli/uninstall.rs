//! `faultline uninstall`: Faultline out of a cluster, once its nodes are proven to be clean.

use clap::Args;

use super::{
    Exit, Output, enter,
    install::{ServerArgs, not_installed},
    print,
};
use crate::{
    cluster::{
        Cluster, ClusterChoice, ClusterError,
        fault::API_SERVER,
        install::{InstallError, Removed, Uninstall, settings::namespace},
    },
    ops,
    place::Place,
    report::Console,
    run::one_line,
};

pub(super) const AFTER_HELP: &str = "\
Examples:
  faultline uninstall
  faultline uninstall --namespace chaos --context staging

Every node is halted first, and its agent reads the kernel and says that nothing is left. Where that cannot
be proven, the exit code is 4 and nothing is removed: `faultline doctor` says what it is about, and --force
goes on all the same. Without an agent, what is left of a fault ends with its lease, and nobody proves it.";

/// Shown to whoever wants to run something meanwhile.
pub(super) const REASON: &str = "Faultline is being uninstalled";

/// What can be said about it.
#[derive(Debug, Args)]
pub(super) struct UninstallArgs {
    /// The namespace that it is installed in [default: wherever it is]
    #[arg(long, value_name = "NAMESPACE", value_parser = namespace)]
    namespace: Option<String>,
    /// Go on where a node is not proven to be clean
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    server: ServerArgs,
}

pub(super) fn main(args: UninstallArgs, output: Output) -> anyhow::Result<Exit> {
    let UninstallArgs { namespace, force, server } = args;
    let choice = server.choice(namespace);
    enter::runtime()?.block_on(async {
        match uninstall(choice, force, output).await? {
            Ok(exit) => Ok(exit),
            Err(error) => Ok(not_installed(&error, output)),
        }
    })
}

async fn uninstall(
    mut choice: ClusterChoice,
    force: bool,
    output: Output,
) -> anyhow::Result<Result<Exit, InstallError>> {
    let console = Console::new(output);
    let namespace = match which(&choice).await {
        Ok(namespace) => namespace,
        Err(error) => return Ok(Err(error)),
    };
    choice.installation = Some(namespace.clone());
    let uninstall = match Uninstall::of(&choice, &namespace).await {
        Ok(uninstall) => uninstall,
        Err(error) => return Ok(Err(error)),
    };
    let unproven = match Cluster::connect(&choice).await {
        Ok(cluster) => {
            let place = Place::Cluster(Box::new(cluster));
            // Without an identity, say, nobody can be asked.
            prove(place, &console).await.unwrap_or_else(|error| vec![format!("{error:#}")])
        }
        // No agent is there that could say whether it is so.
        Err(error @ (ClusterError::NotInstalled { .. } | ClusterError::Identity { .. })) => {
            vec![one_line(&error)]
        }
        Err(error) => return Ok(Err(error.into())),
    };
    for why in &unproven {
        console.warn("not proven", why);
    }
    if !unproven.is_empty() && !force {
        let text = format!(
            "nothing was removed: {} cannot be proven to be clean; `faultline doctor` says more, `--force` goes on all the \
             same, and `faultline resume` takes the halt back{}",
            if unproven.len() == 1 { "one thing" } else { "some things" },
            if output == Output::Json {
                format!(": {}", unproven.join("; "))
            } else {
                String::new()
            },
        );
        print::failure(output, &text, Exit::Residue);
        return Ok(Ok(Exit::Residue));
    }
    let removed = match uninstall.remove(&|text| console.say("uninstall", text)).await {
        Ok(removed) => removed,
        Err(error) => return Ok(Err(error)),
    };
    tell(&removed, &console, output)?;
    Ok(Ok(if unproven.is_empty() { Exit::Held } else { Exit::Residue }))
}

/// The namespace of the installation.
async fn which(choice: &ClusterChoice) -> Result<String, InstallError> {
    if let Some(namespace) = &choice.installation {
        return Ok(namespace.clone());
    }
    let mut namespaces = Uninstall::installations(choice).await?;
    Err(match namespaces.len() {
        0 => ClusterError::NotInstalled { namespace: None },
        1 => return Ok(namespaces.remove(0)),
        _ => ClusterError::SeveralInstallations { namespaces },
    }
    .into())
}

/// Halts every node, and returns where it is not proven that nothing is left.
async fn prove(place: Place, console: &Console) -> anyhow::Result<Vec<String>> {
    let overview = ops::halt(&place, REASON).await?;
    let nodes = overview.halted.iter().filter(|halted| halted.node != API_SERVER).count();
    console.say("halt", &format!("{nodes} of {} nodes", place.agents().len()));
    let mut unproven = overview.unproven();
    let mut asked = "any node";
    if let Some(cluster) = place.cluster() {
        match cluster.nodes_without_agent().await {
            // Those that should have one were told of as not reached.
            Ok(nodes) if nodes.left_out.is_empty() => {}
            Ok(nodes) => {
                let left_out = nodes.left_out.join(", ");
                console.warn(
                    "warning",
                    &format!("not asked, since no agent is meant to be there: {left_out}"),
                );
                asked = "any node that has an agent";
            }
            Err(error) => unproven.push(format!("which nodes have agents: {}", one_line(&error))),
        }
    }
    if unproven.is_empty() {
        // Whoever has gone meanwhile keeps a halt and an empty journal on its node, and no fault.
        for refused in ops::halt_for_good(&place, REASON).await? {
            console.warn("warning", &format!("{}: {}", refused.node, refused.reason));
        }
        console.say("proven", &format!("nothing is left on {asked}"));
    }
    Ok(unproven)
}

fn tell(removed: &Removed, console: &Console, output: Output) -> anyhow::Result<()> {
    if output == Output::Json {
        print::json(removed)?;
        return Ok(());
    }
    for title in &removed.removed {
        console.say("removed", title);
    }
    for left in &removed.left {
        console.warn("left", left);
    }
    Ok(())
}
