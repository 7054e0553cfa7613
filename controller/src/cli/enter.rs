//! Where a command works, entered: from there on this process sees the place's network. A sandbox is
//! built there, and taken down again.

use std::{future::Future, path::Path, sync::Arc, time::Instant};

use anyhow::Context;
use tokio::runtime::{Builder, Runtime};

use super::{Exit, Output, PlaceChoice, print, validate};
use crate::{
    cluster::{Cluster, ClusterError},
    experiment::{FileError, LoadErrors, SandboxSpec},
    place::Place,
    place::inventory::{self, Inventory, InventoryError},
    report::{Console, counted, time},
    run,
    sandbox::{self, Entered, Sandbox},
};

/// Threads that serve probes and agents. More would only wait for the machine's cores.
const WORKERS: usize = 2;

/// A place that was entered.
pub(super) enum Entry {
    /// A network in which a sandbox can be built.
    Sandbox {
        /// That network.
        entered: Entered,
        /// How many nodes; as the experiment says if `None`.
        nodes: Option<u32>,
    },
    /// The network that an inventory's pods and agents are in.
    Inventory(Inventory),
    /// A cluster, connected to; boxed, since it is much the largest.
    Cluster(Box<Cluster>),
}

impl From<Entry> for Option<Place> {
    /// The place that an entry is; `None` where one has yet to be built.
    fn from(entry: Entry) -> Self {
        match entry {
            Entry::Sandbox { .. } => None,
            Entry::Inventory(inventory) => Some(Place::Inventory(inventory)),
            Entry::Cluster(cluster) => Some(Place::Cluster(cluster)),
        }
    }
}

/// Enters a place, and does the work in a runtime. Must come before any thread is started, since
/// only a process of one thread can enter namespaces.
pub(super) fn inside<F: Future<Output = anyhow::Result<Exit>>>(
    choice: PlaceChoice,
    output: Output,
    work: impl FnOnce(Entry) -> F,
) -> anyhow::Result<Exit> {
    match choice {
        PlaceChoice::Sandbox { nodes } => {
            let entered = sandbox::enter()?;
            runtime()?.block_on(work(Entry::Sandbox { entered, nodes }))
        }
        PlaceChoice::Inventory(file) => {
            inside_inventory(&file, output, |inventory| work(Entry::Inventory(inventory)))
        }
        PlaceChoice::Cluster(choice) => runtime()?.block_on(async {
            match Cluster::connect(&choice).await {
                // Whoever names an installation means that one: without it, its fences and its halt would not be there.
                Ok(cluster) => match cluster.check_installation().await {
                    Err(error) => Ok(no_cluster(&error, output)),
                    Ok(()) => work(Entry::Cluster(Box::new(cluster))).await,
                },
                Err(error) => Ok(no_cluster(&error, output)),
            }
        }),
    }
}

/// Says why there is no cluster: what was written is wrong, or what is there is no help.
pub(super) fn no_cluster(error: &ClusterError, output: Output) -> Exit {
    let exit = match error {
        ClusterError::NoCluster { .. }
        | ClusterError::Kubeconfig { .. }
        | ClusterError::UnknownContext { .. }
        | ClusterError::SeveralInstallations { .. } => Exit::Invalid,
        _ => Exit::Refused,
    };
    print::failure(output, &run::one_line(error), exit);
    exit
}

/// Enters the place of an inventory, and does the work in a runtime, as [`inside`] does. Mistakes in
/// the file are told here.
pub(super) fn inside_inventory<F: Future<Output = anyhow::Result<Exit>>>(
    file: &Path,
    output: Output,
    work: impl FnOnce(Inventory) -> F,
) -> anyhow::Result<Exit> {
    let inventory = match inventory::load(file) {
        Ok(inventory) => inventory,
        Err(error) => {
            let files = vec![told(error)];
            return validate::refuse(&LoadErrors { files, valid: Vec::new() }, output);
        }
    };
    inventory.enter()?;
    runtime()?.block_on(work(inventory))
}

/// What is wrong with an inventory, as it is told of an experiment.
fn told(error: InventoryError) -> FileError {
    match error {
        InventoryError::Invalid { origin, problems } => {
            FileError::Mistaken { source: Arc::new(origin), problems }
        }
        InventoryError::Read { path, source } => {
            let help = "`faultline sandbox` says where its inventory is".to_owned();
            let name = path.display().to_string();
            FileError::Unreadable { name, error: source, help: Some(help) }
        }
    }
}

pub(super) fn runtime() -> anyhow::Result<Runtime> {
    Builder::new_multi_thread()
        .worker_threads(WORKERS)
        .enable_all()
        .build()
        .context("cannot start the asynchronous runtime")
}

/// Builds a sandbox, and says what it is and what it lacks.
pub(super) async fn build(
    entered: &Entered,
    spec: &SandboxSpec,
    console: &Console,
) -> anyhow::Result<Sandbox> {
    for missing in entered.missing() {
        console.warn("missing", &missing);
    }
    let began = Instant::now();
    let sandbox = Sandbox::up(entered, spec, None).await?;
    for swept in sandbox.swept() {
        console.say("sandbox", swept);
    }
    let (nodes, pods) = (sandbox.agents().len(), sandbox.pods().len());
    let size = [counted(nodes, "node"), counted(nodes, "agent"), counted(pods, "pod")].join(", ");
    console.say("sandbox", &format!("{size}; up in {}", time(began.elapsed())));
    Ok(sandbox)
}

/// Takes a sandbox down. Returns what is left of it.
pub(super) async fn take_down(sandbox: Sandbox, console: &Console) -> Vec<String> {
    let left = sandbox.down().await;
    if left.is_empty() {
        console.say("sandbox", "down, nothing is left of it");
    }
    left
}
