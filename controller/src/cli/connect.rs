//! Where the command line meets what does the work: the place is entered, a runtime started, the work
//! done, and the place left as it was found.

use std::{future::Future, path::Path, sync::Arc};

use anyhow::Context;
use tokio::runtime::{Builder, Runtime};

use super::{
    Exit, HaltRequest, PlaceChoice, PlanRequest, PsRequest, ResumeRequest, RunRequest,
    SandboxRequest, print,
};
use crate::{
    diagnostics,
    experiment::{Loaded, SandboxSpec},
    ops::{self, Overview},
    place::{
        Place,
        inventory::{self, Inventory, InventoryError},
    },
    report::{Console, Output, PlanReport, Verdict, counted, time},
    run::{self, Interrupt},
    sandbox::{self, Entered, Sandbox},
};

/// Threads that serve probes and agents. More would only wait for the machine's cores.
const WORKERS: usize = 2;

/// Where experiments run, entered: from here on this process sees its network.
enum Entry {
    Sandbox { entered: Entered, nodes: Option<u32> },
    Inventory(Inventory),
}

/// Why a place could not be entered.
enum Refused {
    /// It has been said already.
    Said(Exit),
    Error(anyhow::Error),
}

/// Enters a place. Must come before any thread is started.
fn enter(choice: PlaceChoice) -> Result<Entry, Refused> {
    match choice {
        PlaceChoice::Sandbox { nodes } => {
            let entered = sandbox::enter().map_err(|e| Refused::Error(e.into()))?;
            Ok(Entry::Sandbox { entered, nodes })
        }
        PlaceChoice::Inventory(file) => enter_inventory(&file).map(Entry::Inventory),
    }
}

fn enter_inventory(file: &Path) -> Result<Inventory, Refused> {
    let inventory = inventory::load(file).map_err(|error| match error {
        InventoryError::Invalid { origin, problems } => {
            for problem in &problems {
                print::err(&diagnostics::render_one(&origin, problem, true));
            }
            Refused::Said(Exit::Invalid)
        }
        error @ InventoryError::Read { .. } => {
            print::error(&run::one_line(&error));
            Refused::Said(Exit::Invalid)
        }
    })?;
    inventory.enter().map_err(|e| Refused::Error(e.into()))?;
    Ok(inventory)
}

fn runtime() -> anyhow::Result<Runtime> {
    Builder::new_multi_thread()
        .worker_threads(WORKERS)
        .enable_all()
        .build()
        .context("cannot start the asynchronous runtime")
}

/// Enters, and does the work in a runtime. What went wrong with the place is told here.
fn inside<F: Future<Output = anyhow::Result<Exit>>>(
    choice: PlaceChoice,
    work: impl FnOnce(Entry) -> F,
) -> anyhow::Result<Exit> {
    match enter(choice) {
        Ok(entry) => runtime()?.block_on(work(entry)),
        Err(Refused::Said(exit)) => Ok(exit),
        Err(Refused::Error(error)) => Err(error),
    }
}

pub(super) fn run(request: RunRequest) -> anyhow::Result<Exit> {
    let RunRequest { experiments, place, output, report_dir } = request;
    inside(place, async |mut entry| {
        let interrupt = Interrupt::listen().context("cannot listen for Ctrl-C")?;
        let console = Console::new(output);
        let mut exit = Exit::Held;
        for loaded in &experiments {
            let (verdict, next) =
                run_one(loaded, entry, &console, &interrupt, report_dir.as_deref()).await?;
            entry = next;
            exit = exit.worse(verdict.into());
            if interrupt.is_set() {
                break;
            }
        }
        Ok(exit)
    })
}

/// Runs one experiment in its place; a sandbox is built for it and taken down after it.
async fn run_one(
    loaded: &Loaded,
    entry: Entry,
    console: &Console,
    interrupt: &Interrupt,
    report_dir: Option<&Path>,
) -> anyhow::Result<(Verdict, Entry)> {
    let experiment = &loaded.experiment;
    let (place, kept) = match entry {
        Entry::Inventory(inventory) => (Place::Inventory(inventory), None),
        Entry::Sandbox { entered, nodes } => {
            let spec = SandboxSpec::resolve(experiment.sandbox.as_ref(), nodes)
                .map_err(anyhow::Error::msg)?;
            let sandbox = build(&entered, &spec, console).await?;
            (Place::Sandbox(sandbox), Some((entered, nodes)))
        }
    };
    let place = Arc::new(place);
    let mut report = run::run(experiment, &place, console, interrupt).await;
    let entry = match (reclaim(place).await, kept) {
        (Place::Sandbox(sandbox), Some((entered, nodes))) => {
            let left = take_down(sandbox, console).await;
            if !left.is_empty() {
                report.add_residue(left);
            }
            Entry::Sandbox { entered, nodes }
        }
        (Place::Inventory(inventory), _) => Entry::Inventory(inventory),
        (Place::Sandbox(_), None) => unreachable!("a sandbox is kept with what it was entered by"),
    };
    console.report(&report);
    if let Some(dir) = report_dir {
        let file = report.write(dir)?;
        console.say("report", &file.display().to_string());
    }
    Ok((report.verdict, entry))
}

/// The place again, once the last attempt of a probe has let go of it.
async fn reclaim(mut place: Arc<Place>) -> Place {
    loop {
        match Arc::try_unwrap(place) {
            Ok(place) => return place,
            Err(shared) => place = shared,
        }
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
}

async fn build(
    entered: &Entered,
    spec: &SandboxSpec,
    console: &Console,
) -> anyhow::Result<Sandbox> {
    for missing in entered.missing() {
        console.warn("missing", &missing);
    }
    let began = std::time::Instant::now();
    let sandbox = Sandbox::up(entered, spec, None).await?;
    for swept in sandbox.swept() {
        console.say("swept", swept);
    }
    let (nodes, pods) = (sandbox.agents().len(), sandbox.pods().len());
    let size = format!("{} with an agent each, {}", counted(nodes, "node"), counted(pods, "pod"));
    console.say("sandbox", &format!("{size}, up in {}", time(began.elapsed())));
    Ok(sandbox)
}

async fn take_down(sandbox: Sandbox, console: &Console) -> Vec<String> {
    let left = sandbox.down().await;
    if left.is_empty() {
        console.say("sandbox", "down, nothing is left of it");
    }
    left
}

pub(super) fn plan(request: PlanRequest) -> anyhow::Result<Exit> {
    let PlanRequest { experiments, place, output } = request;
    inside(place, async |mut entry| {
        let console = Console::new(output);
        let mut exit = Exit::Held;
        for loaded in &experiments {
            let (result, next) = plan_one(loaded, entry, &console).await?;
            entry = next;
            exit = exit.worse(result);
        }
        Ok(exit)
    })
}

async fn plan_one(
    loaded: &Loaded,
    entry: Entry,
    console: &Console,
) -> anyhow::Result<(Exit, Entry)> {
    let experiment = &loaded.experiment;
    let show = async |place: &Place| {
        let pods = place.pods();
        let planned = run::dry_run(experiment, place).await;
        let refused = planned.is_err();
        console.plan(&PlanReport::new(&experiment.name, experiment.seed, &pods, planned));
        if refused { Exit::Refused } else { Exit::Held }
    };
    Ok(match entry {
        Entry::Inventory(inventory) => {
            let place = Place::Inventory(inventory);
            let exit = show(&place).await;
            let Place::Inventory(inventory) = place else { unreachable!("it was made of one") };
            (exit, Entry::Inventory(inventory))
        }
        Entry::Sandbox { entered, nodes } => {
            let spec = SandboxSpec::resolve(experiment.sandbox.as_ref(), nodes)
                .map_err(anyhow::Error::msg)?;
            let place = Place::Sandbox(build(&entered, &spec, console).await?);
            let exit = show(&place).await;
            if let Place::Sandbox(sandbox) = place {
                take_down(sandbox, console).await;
            }
            (exit, Entry::Sandbox { entered, nodes })
        }
    })
}

pub(super) fn ps(request: PsRequest) -> anyhow::Result<Exit> {
    let PsRequest { inventory, output } = request;
    inside(PlaceChoice::Inventory(inventory), async |entry| {
        let Entry::Inventory(inventory) = entry else { unreachable!("asked for an inventory") };
        let overview = ops::ps(&Place::Inventory(inventory)).await?;
        show_overview(&overview, output)?;
        Ok(if overview.has_residue() { Exit::Residue } else { Exit::Held })
    })
}

pub(super) fn halt(request: HaltRequest) -> anyhow::Result<Exit> {
    let HaltRequest { inventory, reason, output } = request;
    inside(PlaceChoice::Inventory(inventory), async |entry| {
        let Entry::Inventory(inventory) = entry else { unreachable!("asked for an inventory") };
        let overview = ops::halt(&Place::Inventory(inventory), &reason).await?;
        show_overview(&overview, output)?;
        let unproven = overview.has_residue() || !overview.unreachable.is_empty();
        Ok(if unproven { Exit::Residue } else { Exit::Held })
    })
}

pub(super) fn resume(request: ResumeRequest) -> anyhow::Result<Exit> {
    let ResumeRequest { inventory, output } = request;
    inside(PlaceChoice::Inventory(inventory), async |entry| {
        let Entry::Inventory(inventory) = entry else { unreachable!("asked for an inventory") };
        let failed = ops::resume(&Place::Inventory(inventory)).await?;
        match output {
            Output::Json => {
                print::out(&format!("{}\n", serde_json::json!({ "notResumed": failed })))?;
            }
            Output::Text if failed.is_empty() => print::out("resumed on every node\n")?,
            Output::Text => {
                for failure in &failed {
                    print::error(&format!("not resumed: {failure}"));
                }
            }
        }
        Ok(if failed.is_empty() { Exit::Held } else { Exit::Refused })
    })
}

fn show_overview(overview: &Overview, output: Output) -> anyhow::Result<()> {
    match output {
        Output::Text => print::out(&overview.text())?,
        Output::Json => print::out(&format!("{}\n", serde_json::to_string_pretty(overview)?))?,
    }
    Ok(())
}

pub(super) fn sandbox(request: SandboxRequest) -> anyhow::Result<Exit> {
    let SandboxRequest { sandbox: spec, output } = request;
    inside(PlaceChoice::Sandbox { nodes: None }, async |entry| {
        let Entry::Sandbox { entered, .. } = entry else { unreachable!("asked for a sandbox") };
        let interrupt = Interrupt::listen().context("cannot listen for Ctrl-C")?;
        let console = Console::new(output);
        let sandbox = build(&entered, &spec, &console).await?;
        let inventory = sandbox.directory().join("inventory.json");
        match output {
            Output::Text => {
                console.say("inventory", &inventory.display().to_string());
                console.say("", "kept until Ctrl-C");
            }
            Output::Json => {
                print::out(&format!("{}\n", serde_json::json!({ "inventory": inventory })))?;
            }
        }
        interrupt.wait().await;
        let left = take_down(sandbox, &console).await;
        for residue in &left {
            print::error(&format!("left: {residue}"));
        }
        Ok(if left.is_empty() { Exit::Held } else { Exit::Residue })
    })
}

impl From<Verdict> for Exit {
    fn from(verdict: Verdict) -> Self {
        match verdict {
            Verdict::Held => Self::Held,
            Verdict::Deviated => Self::Deviated,
            Verdict::Refused => Self::Refused,
            Verdict::Residue => Self::Residue,
            Verdict::Interrupted => Self::Interrupted,
        }
    }
}
