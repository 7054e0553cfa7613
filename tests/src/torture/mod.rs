//! The torture test: faults on real agents in a sandbox, and in the middle of each something goes
//! wrong. Afterwards everything must be as it was, and nothing foreign may have changed.
//!
//! Rounds run on several nodes at once, one at a time on each. What a round does follows from the seed
//! and its number alone, so that a failed one can be played again with `--only`.

mod action;
mod attack;
mod draw;
mod dump;
mod kinds;
mod measure;
mod node;
mod order;
mod plant;
mod rng;
mod round;
mod tally;
mod verdict;

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use faultline::{
    experiment::{SandboxPod, SandboxSpec, Workload},
    sandbox::{Entered, Sandbox},
};
use faultline_proto::yaml::{Span, Spanned};
use tokio::runtime::Handle;

use self::{
    draw::{PLANTED, PODS, Plan},
    dump::Dump,
    node::Node,
    round::Outcome,
    tally::Tally,
};

/// How soon a killed agent is started again.
const RESTART_AFTER: Duration = Duration::from_millis(300);
/// The memory limit of every container: room for pressure above what an echo needs.
const MEMORY_LIMIT_BYTES: u64 = 64 << 20;
/// How long a new node may take until nothing changes by itself any more.
const CALM_MAX: Duration = Duration::from_secs(10);

/// What is asked for on the command line.
#[derive(Debug, Clone)]
pub struct Options {
    /// How many rounds.
    pub rounds: u64,
    /// What chance starts from.
    pub seed: u64,
    /// Only the round of this number.
    pub only: Option<u64>,
    /// How many rounds are played at once, each on a node of its own.
    pub nodes: u32,
}

/// Plays the rounds. Returns whether all of them were good.
///
/// # Errors
/// When there could be no sandbox, or a round could not be played.
pub async fn run(entered: &Entered, options: Options) -> anyhow::Result<bool> {
    draw::check_catalogue()?;
    let sandbox = Arc::new(Sandbox::up(entered, &spec(options.nodes), None).await?);
    let start = Instant::now();
    let (result, tally) = play_all(&sandbox, &options).await;
    let mut tally = Arc::into_inner(tally).and_then(|t| t.into_inner().ok()).unwrap_or_default();
    tally.print(start.elapsed());
    let sandbox = Arc::into_inner(sandbox).context("somebody still has the sandbox")?;
    let residue = sandbox.down().await;
    result?;
    if !residue.is_empty() {
        bail!("the sandbox left {residue:?}");
    }
    Ok(tally.failures() == 0)
}

async fn play_all(
    sandbox: &Arc<Sandbox>,
    options: &Options,
) -> (anyhow::Result<()>, Arc<Mutex<Tally>>) {
    let tally = Arc::new(Mutex::new(Tally::default()));
    let next = Arc::new(AtomicU64::new(options.only.unwrap_or(0)));
    let end = options.only.map_or(options.rounds, |only| only + 1);
    let mut lanes = tokio::task::JoinSet::new();
    for index in 1..=options.nodes {
        let lane = Lane {
            sandbox: Arc::clone(sandbox),
            next: Arc::clone(&next),
            end,
            seed: options.seed,
            tally: Arc::clone(&tally),
        };
        // A thread each: the looks from outside block.
        let runtime = Handle::current();
        lanes.spawn_blocking(move || runtime.block_on(lane.play(&format!("node{index}"))));
    }
    let mut result = Ok(());
    while let Some(lane) = lanes.join_next().await {
        if let Err(error) = lane.map_err(Into::into).flatten() {
            eprintln!("{error:#}");
            result = Err(error);
        }
    }
    (result, tally)
}

/// What plays on one node.
struct Lane {
    sandbox: Arc<Sandbox>,
    next: Arc<AtomicU64>,
    end: u64,
    seed: u64,
    tally: Arc<Mutex<Tally>>,
}

impl Lane {
    /// Plays rounds until there is none left, or the node is not as it was.
    async fn play(self, node: &str) -> anyhow::Result<()> {
        let node = Node::of(&self.sandbox, node)?;
        node.plant()?;
        let before = calm(&node).await?;
        loop {
            let number = self.next.fetch_add(1, Ordering::SeqCst);
            if number >= self.end {
                return Ok(());
            }
            let plan = Plan::draw(self.seed, number, &node.addresses)?;
            let what = format!("seed {}, round {number}: {plan:?}", self.seed);
            let outcome = round::play(&node, &before, plan).await.context(what)?;
            tell(self.seed, &outcome);
            self.tally.lock().unwrap_or_else(PoisonError::into_inner).add(&outcome);
            if !outcome.problems.is_empty() && dirty(&node, &before).await? {
                bail!("{} is not as it was; no further round is played on it", node.name);
            }
        }
    }
}

async fn dirty(node: &Node, before: &Dump) -> anyhow::Result<bool> {
    Ok(!node.dump().await?.differs_from(before).is_empty())
}

/// The node as it is when it has stopped changing by itself.
async fn calm(node: &Node) -> anyhow::Result<Dump> {
    let start = Instant::now();
    let mut last = node.dump().await?;
    loop {
        tokio::time::sleep(Duration::from_millis(500)).await;
        let dump = node.dump().await?;
        if dump == last && node.traffic().await?.is_empty() {
            return Ok(dump);
        }
        if start.elapsed() > CALM_MAX {
            bail!("{} does not come to rest: {:?}", node.name, dump.differs_from(&last));
        }
        last = dump;
    }
}

fn tell(seed: u64, outcome: &Outcome) {
    if outcome.problems.is_empty() {
        return;
    }
    let plan = &outcome.plan;
    eprintln!(
        "FAILED: seed {seed}, round {} on {}: {} after {:?}",
        plan.number, outcome.node, plan.action, plan.at
    );
    for fault in &plan.faults {
        eprintln!("  {} {} on pod {}: {:?}", fault.id, fault.kind, fault.pod, fault.fault);
    }
    for problem in &outcome.problems {
        eprintln!("  {problem}");
    }
}

/// On every node two echoes and the pod in which foreign things are planted.
fn spec(nodes: u32) -> SandboxSpec {
    let command = plant::PLANTED_COMMAND.map(String::from).to_vec();
    let pod = |node: u32, position: usize| SandboxPod {
        name: format!("pod-{node}-{position}"),
        namespace: "torture".into(),
        labels: BTreeMap::new(),
        replicas: None,
        node: Some(Spanned { value: format!("node{node}"), span: Span::default() }),
        workload: if position == PLANTED {
            Workload::Command(command.clone())
        } else {
            Workload::Echo
        },
        memory_limit_bytes: Some(MEMORY_LIMIT_BYTES),
    };
    SandboxSpec {
        nodes,
        pods: (1..=nodes)
            .flat_map(|node| (0..PODS).map(move |p| (node, p)))
            .map(|(n, p)| pod(n, p))
            .collect(),
        restart_agents_after: Some(RESTART_AFTER),
    }
}
