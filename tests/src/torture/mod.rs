//! The torture test: faults on real agents in a sandbox, and in the middle of each something goes
//! wrong. Afterwards everything must be as it was, and nothing foreign may have changed.
//!
//! Rounds run on several pairs of nodes at once, one at a time on each. What a round does, and on which
//! pair, follows from the seed and its number alone, so that a failed one can be played again with
//! `--only`.

mod action;
mod attack;
mod controller;
mod disk;
mod draw;
mod dump;
mod measure;
mod netlink;
mod node;
mod order;
mod pair;
mod plant;
pub(crate) mod rng;
mod round;
mod script;
mod settle;
mod tally;
mod traffic;
mod verdict;

use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use faultline::{
    experiment::{SandboxPod, SandboxSpec, Workload},
    sandbox::{Entered, Sandbox},
};
use faultline_proto::yaml::{Span, Spanned};
use tokio::runtime::Handle;

pub use self::controller::run_if_asked;
use self::{
    draw::{NODES, PLANTED, PODS, Plan},
    pair::{Pair, differences},
    round::Outcome,
    tally::Tally,
};
use crate::sandbox::control_groups;

/// How soon a killed agent is started again.
const RESTART_AFTER: Duration = Duration::from_millis(300);
/// The memory limit of every container: room for pressure above what an echo needs.
const MEMORY_LIMIT_BYTES: u64 = 64 << 20;
/// Between two words about how far it has got.
const PROGRESS_EVERY: u64 = 1_000;

/// What is asked for on the command line.
#[derive(Debug, Clone)]
pub struct Options {
    /// How many rounds.
    pub rounds: u64,
    /// What chance starts from.
    pub seed: u64,
    /// Only the round of this number.
    pub only: Option<u64>,
    /// How many rounds are played at once, each on a pair of nodes of its own.
    pub pairs: u32,
    /// Print what every round does before it does it.
    pub show: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self { rounds: 60, seed: 1, only: None, pairs: 10, show: false }
    }
}

/// Plays the rounds. Returns whether all of them were good.
///
/// # Errors
/// When there could be no sandbox, or a round could not be played.
pub async fn run(entered: &Entered, options: Options) -> anyhow::Result<bool> {
    let nodes = options.pairs * u32::try_from(NODES)?;
    let sandbox = Arc::new(Sandbox::up(entered, &spec(nodes), None).await?);
    for group in control_groups(sandbox.id()) {
        weigh(&group, nodes);
    }
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
    let asked = if options.only.is_some() { 1 } else { options.rounds };
    if tally.rounds() < asked {
        bail!("{} rounds of {asked} were played", tally.rounds());
    }
    Ok(tally.failures() == 0)
}

/// Gives a control group the weight of so many processes as it has nodes: otherwise a sandbox weighs as
/// much as one thread of this program, and nobody in it has time when there are many.
fn weigh(group: &Path, nodes: u32) {
    for (file, weight) in [("cpu.shares", 1024), ("cpu.weight", 100)] {
        let file = group.join(file);
        if file.exists()
            && let Err(error) = fs::write(&file, (weight * nodes).to_string())
        {
            eprintln!("{}: {error}", file.display());
        }
    }
}

async fn play_all(
    sandbox: &Arc<Sandbox>,
    options: &Options,
) -> (anyhow::Result<()>, Arc<Mutex<Tally>>) {
    let tally = Arc::new(Mutex::new(Tally::default()));
    let mut lanes = tokio::task::JoinSet::new();
    for number in 0..options.pairs {
        let lane = Lane {
            sandbox: Arc::clone(sandbox),
            number,
            options: options.clone(),
            tally: Arc::clone(&tally),
        };
        // A thread each: the looks from outside block.
        let runtime = Handle::current();
        lanes.spawn_blocking(move || runtime.block_on(lane.play()));
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

/// What plays on one pair of nodes.
struct Lane {
    sandbox: Arc<Sandbox>,
    number: u32,
    options: Options,
    tally: Arc<Mutex<Tally>>,
}

impl Lane {
    /// The rounds that are played here: the same ones whichever others are.
    fn rounds(&self) -> Vec<u64> {
        let pairs = u64::from(self.options.pairs);
        let is_here = |round: &u64| round % pairs == u64::from(self.number);
        match self.options.only {
            Some(only) => std::iter::once(only).filter(is_here).collect(),
            None => (0..self.options.rounds).filter(is_here).collect(),
        }
    }

    /// Plays rounds until there is none left, or the nodes are not as they were.
    async fn play(self) -> anyhow::Result<()> {
        let rounds = self.rounds();
        if rounds.is_empty() {
            return Ok(());
        }
        let pair = Pair::of(&self.sandbox, usize::try_from(self.number)?)?;
        for node in &pair.nodes {
            node.plant()?;
        }
        let mut before = pair.calm().await?;
        for number in rounds {
            let plan = Plan::draw(self.options.seed, number, &pair.addresses())?;
            if self.options.show {
                println!("{plan}");
            }
            let what = format!("{plan}\n{}", self.replay(number));
            let outcome = round::play(&pair, &mut before, plan).await.context(what)?;
            self.tell(&outcome);
            self.count(&outcome);
            if !outcome.problems.is_empty() {
                let left = differences(&pair.dump(&before).await?, &before);
                if !left.is_empty() {
                    bail!("{} are not as they were; no further round is played there", pair.name());
                }
            }
        }
        Ok(())
    }

    fn count(&self, outcome: &Outcome) {
        let mut tally = self.tally.lock().unwrap_or_else(PoisonError::into_inner);
        tally.add(outcome);
        if tally.rounds().is_multiple_of(PROGRESS_EVERY) {
            println!("{} rounds, {} failed", tally.rounds(), tally.failures());
        }
    }

    fn tell(&self, outcome: &Outcome) {
        if outcome.problems.is_empty() {
            return;
        }
        eprintln!("FAILED on {}: {}", outcome.nodes, outcome.plan);
        for problem in &outcome.problems {
            eprintln!("  {problem}");
        }
        eprintln!("{}", self.replay(outcome.plan.number));
    }

    /// How to play a round again.
    fn replay(&self, number: u64) -> String {
        let Options { seed, pairs, .. } = self.options;
        format!("  again: torture --seed {seed} --only {number} --pairs {pairs}")
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
