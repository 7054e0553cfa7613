//! `faultline run`, `plan` and what `inject` comes to: one experiment after the other, each in a
//! place that is left as it was found.

use std::{fs, io, path::Path, sync::Arc, time::Duration};

use anyhow::Context;
use faultline_proto::yaml::Problem;
use serde::Serialize;

use super::{
    Exit, Output, PlanRequest, RunRequest,
    enter::{Entry, build, inside, take_down},
    print,
    record::{Kept, Record},
};
use crate::{
    cluster::{Cluster, Events},
    diagnostics,
    experiment::{Loaded, SandboxSpec},
    place::{Needs, Place},
    plan::Plan,
    report::{Console, PlanReport, Report, Verdict},
    run::{self, Interrupt, Recorder},
    sandbox::{Entered, Sandbox},
};

pub(super) fn run(request: RunRequest) -> anyhow::Result<Exit> {
    let RunRequest { experiments, place, output, report_dir, metrics } = request;
    let report_dir = report_dir.as_deref();
    // A run whose report has nowhere to go is better not begun.
    if let Some(dir) = report_dir
        && let Err(error) = fs::create_dir_all(dir).and_then(|()| may_be_written(dir))
    {
        let text = format!("cannot write into {}: {error}", dir.display());
        print::failure(output, &text, Exit::Invalid);
        return Ok(Exit::Invalid);
    }
    if let Err(error) = metrics.check() {
        print::failure(output, &run::one_line(&error), Exit::Invalid);
        return Ok(Exit::Invalid);
    }
    let keep = Kept { report_dir, traced: metrics.is_traced() };
    inside(place, output, async |mut entry| {
        let interrupt = Interrupt::listen().context("cannot listen for Ctrl-C")?;
        let console = Console::new(output);
        let mut exit = Exit::Held;
        let mut reports = Vec::new();
        for loaded in &experiments {
            let (report, next) = run_one(loaded, entry, &console, &interrupt, keep).await;
            entry = next;
            metrics.tell(&report, &console).await;
            exit = exit.worse(report.verdict.into());
            reports.push(report);
            if interrupt.is_set() {
                break;
            }
        }
        // What the runs came to is in the exit code, whoever reads the rest.
        if output == Output::Json
            && let Err(error) = print_all(&reports, experiments.len())
        {
            print::error(&format!("the report could not be printed: {error:#}"));
        }
        Ok(exit)
    })
}

/// Whether files can be made in a directory.
fn may_be_written(dir: &Path) -> io::Result<()> {
    let file = dir.join(format!(".faultline-{}", std::process::id()));
    fs::File::create_new(&file)?;
    fs::remove_file(&file)
}

/// Runs one experiment in its place; a sandbox is built for it and taken down after it.
async fn run_one(
    loaded: &Loaded,
    entry: Entry,
    console: &Console,
    interrupt: &Interrupt,
    keep: Kept<'_>,
) -> (Report, Entry) {
    match entry {
        Entry::Inventory(inventory) => {
            let place = Place::Inventory(inventory);
            let (report, place) = run_in(loaded, place, console, interrupt, keep).await;
            let Some(Place::Inventory(inventory)) = place else {
                unreachable!("it was made of one")
            };
            (report, Entry::Inventory(inventory))
        }
        Entry::Cluster(cluster) => {
            let place = Place::Cluster(cluster);
            let (report, place) = run_in(loaded, place, console, interrupt, keep).await;
            let Some(Place::Cluster(cluster)) = place else { unreachable!("it was made of one") };
            (report, Entry::Cluster(cluster))
        }
        Entry::Sandbox { entered, nodes } => {
            let report = match sandbox_for(loaded, nodes, &entered, console).await {
                Ok(sandbox) => {
                    let directory = sandbox.directory().display();
                    interrupt.leaves(Some(format!(
                        "the sandbox's directory {directory} is left; the next sandbox removes it"
                    )));
                    let place = Place::Sandbox(sandbox);
                    let ran = run_in(loaded, place, console, interrupt, keep).await;
                    interrupt.leaves(None);
                    ran.0
                }
                Err(error) => not_begun(loaded, format!("{error:#}"), console, keep),
            };
            (report, Entry::Sandbox { entered, nodes })
        }
    }
}

async fn run_in(
    loaded: &Loaded,
    place: Place,
    console: &Console,
    interrupt: &Interrupt,
    keep: Kept<'_>,
) -> (Report, Option<Place>) {
    show_nobody(loaded, &place, console).await;
    let place = Arc::new(place);
    let record = Record::begin(loaded, keep);
    let mut events = None;
    let mut report = match &record {
        Ok(Record { recorder, .. }) => {
            let mut recorder = recorder.clone();
            if let Some(cluster) = place.cluster() {
                let run_id = recorder.run_id().to_string();
                let (listener, telling) = cluster.tell_events(&run_id, &loaded.experiment.name);
                events = Some(telling);
                recorder = recorder.heard_by(listener);
            }
            run::run_recorded(&loaded.experiment, &place, console, interrupt, &recorder).await
        }
        Err(error) => {
            let recorder = Recorder::nowhere();
            let reason = format!("the report has nowhere to go: {error}");
            run::refused(&loaded.experiment, &place.describe(), reason, &recorder)
        }
    };
    let (left, place) = leave(reclaim(place).await, console).await;
    report.add_residue(left.clone());
    console.report(&report);
    if let Ok(record) = record {
        record.finish(&report, &left, console);
    }
    if let Some(cluster) = place.as_ref().and_then(Place::cluster) {
        keep_in_cluster(cluster, &report, events, console).await;
    }
    (report, place)
}

/// Keeps what a run came to where others look for it. What it came to has been said: that it cannot be kept is told, and
/// no more.
async fn keep_in_cluster(
    cluster: &Cluster,
    report: &Report,
    events: Option<Events>,
    console: &Console,
) {
    let told = async {
        match events {
            Some(events) => events.finish().await,
            None => Vec::new(),
        }
    };
    let (complaints, kept) = tokio::join!(told, cluster.record(report));
    for complaint in complaints {
        console.warn("cluster", &complaint);
    }
    if let Err(error) = kept {
        let why = format!("this run is not recorded in the cluster: {}", run::one_line(&error));
        console.warn("cluster", &why);
    }
}

/// What a run came to whose place could not be made.
fn not_begun(loaded: &Loaded, reason: String, console: &Console, keep: Kept<'_>) -> Report {
    let record = Record::begin(loaded, keep);
    let recorder = record.as_ref().map_or_else(|_| Recorder::nowhere(), |r| r.recorder.clone());
    let report = run::refused(&loaded.experiment, "a sandbox", reason, &recorder);
    console.report(&report);
    match record {
        Ok(record) => record.finish(&report, &[], console),
        Err(error) => print::error(&format!("no report is written: {error}")),
    }
    report
}

/// The place again, once the last attempt of a probe has let go of it.
async fn reclaim(mut place: Arc<Place>) -> Place {
    loop {
        match Arc::try_unwrap(place) {
            Ok(place) => return place,
            Err(shared) => place = shared,
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn sandbox_for(
    loaded: &Loaded,
    nodes: Option<u32>,
    entered: &Entered,
    console: &Console,
) -> anyhow::Result<Sandbox> {
    let spec = SandboxSpec::resolve(loaded.experiment.sandbox.as_ref(), nodes)
        .map_err(anyhow::Error::msg)?;
    build(entered, &spec, console).await
}

/// Takes a sandbox down. Returns what is left of it; or the place, if it is one that stays.
async fn leave(place: Place, console: &Console) -> (Vec<String>, Option<Place>) {
    match place {
        Place::Sandbox(sandbox) => (take_down(sandbox, console).await, None),
        Place::Inventory(_) | Place::Cluster(_) => (Vec::new(), Some(place)),
    }
}

/// Shows a target that is nobody where the file says who it should be. What follows refuses it.
async fn show_nobody(loaded: &Loaded, place: &Place, console: &Console) {
    let experiment = &loaded.experiment;
    // Where a place does not tell what is needed, or somebody has to be asked, the run says it better.
    let is_known =
        !experiment.asks_who_leads() && place.provide(Needs::of(experiment)).await.is_ok();
    if console.output() == Output::Text
        && is_known
        && let Err(error) = Plan::new(experiment, &place.pods())
        && let Some(span) = error.span()
    {
        let problem = Problem { span, message: error.to_string(), expected: None, help: None };
        print::err(&diagnostics::render_one(&loaded.source, &problem, true));
    }
}

pub(super) fn plan(request: PlanRequest) -> anyhow::Result<Exit> {
    let PlanRequest { experiments, place, output } = request;
    inside(place, output, async |mut entry| {
        let interrupt = Interrupt::listen().context("cannot listen for Ctrl-C")?;
        let console = Console::new(output);
        let mut exit = Exit::Held;
        let mut reports = Vec::new();
        for loaded in &experiments {
            let (report, next, left) = plan_one(loaded, entry, &console, &interrupt).await?;
            entry = next;
            for residue in &left {
                print::error(&format!("left of the sandbox: {residue}"));
                exit = exit.worse(Exit::Residue);
            }
            if !report.refused.is_empty() {
                exit = exit.worse(Exit::Refused);
            }
            console.plan(&report);
            reports.push(report);
            if interrupt.is_set() {
                exit = exit.worse(Exit::Interrupted);
                break;
            }
        }
        if output == Output::Json {
            print_all(&reports, experiments.len())?;
        }
        Ok(exit)
    })
}

/// Plans one experiment in its place. Returns the plan, the place, and what is left of its sandbox.
async fn plan_one(
    loaded: &Loaded,
    entry: Entry,
    console: &Console,
    interrupt: &Interrupt,
) -> anyhow::Result<(PlanReport, Entry, Vec<String>)> {
    Ok(match entry {
        Entry::Inventory(inventory) => {
            let place = Place::Inventory(inventory);
            let report = plan_in(loaded, &place, console, interrupt).await;
            let Place::Inventory(inventory) = place else { unreachable!("it was made of one") };
            (report, Entry::Inventory(inventory), Vec::new())
        }
        Entry::Cluster(cluster) => {
            let place = Place::Cluster(cluster);
            let report = plan_in(loaded, &place, console, interrupt).await;
            let Place::Cluster(cluster) = place else { unreachable!("it was made of one") };
            (report, Entry::Cluster(cluster), Vec::new())
        }
        Entry::Sandbox { entered, nodes } => {
            let place = Place::Sandbox(sandbox_for(loaded, nodes, &entered, console).await?);
            let report = plan_in(loaded, &place, console, interrupt).await;
            let (left, _) = leave(place, console).await;
            (report, Entry::Sandbox { entered, nodes }, left)
        }
    })
}

async fn plan_in(
    loaded: &Loaded,
    place: &Place,
    console: &Console,
    interrupt: &Interrupt,
) -> PlanReport {
    show_nobody(loaded, place, console).await;
    let experiment = &loaded.experiment;
    let pods = place.pods();
    let mut rules = Vec::new();
    let planned = tokio::select! {
        planned = run::dry_run(experiment, place, &mut rules) => planned,
        () = interrupt.wait() => Err(vec!["interrupted".into()]),
    };
    PlanReport::new(&experiment.name, experiment.seed, &pods, planned, rules)
}

/// The report of the one experiment that was given, or a list of those of several.
fn print_all<T: Serialize>(reports: &[T], experiments: usize) -> anyhow::Result<()> {
    match reports {
        [only] if experiments == 1 => print::json(only)?,
        all => print::json(&all)?,
    }
    Ok(())
}

impl From<Verdict> for Exit {
    fn from(verdict: Verdict) -> Self {
        match verdict {
            Verdict::Held => Self::Held,
            Verdict::Deviated | Verdict::Unfinished => Self::Deviated,
            Verdict::Refused => Self::Refused,
            Verdict::Residue => Self::Residue,
            Verdict::Interrupted => Self::Interrupted,
        }
    }
}
