//! Doing to a node what a round's action says.

use std::{fs, path::PathBuf, time::Duration};

use anyhow::ensure;
use faultline::agents::{ANSWER_MAX, Fleet};
use faultline_proto::{boottime::BootTime, id::FaultId};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tokio::time::{Instant, sleep};

use super::{
    action::Action,
    draw::{PLANTED, Plan},
    measure::now,
    node::Node,
    order::Orders,
    rng::Rng,
    round::{prepare, takes_faults},
};

/// How long an agent may take to end, and to be started again.
const AGENT_MAX: Duration = Duration::from_secs(8);
/// How long after its start an agent is killed the second time, in milliseconds.
const SWEEP_MS_MAX: u64 = 12;

/// What was done.
pub(super) struct Struck {
    /// When it was complete.
    pub(super) at: BootTime,
    /// What was wrong about how it went.
    pub(super) problems: Vec<String>,
    /// To be called when all leases are over.
    pub(super) resume: Option<Box<dyn Fn() + Send + Sync>>,
    /// New faults may have been refused by what was done.
    pub(super) may_refuse: bool,
    torn: Option<PathBuf>,
}

impl Struck {
    fn new() -> Self {
        Self { at: now(), problems: Vec::new(), resume: None, may_refuse: false, torn: None }
    }
}

/// Does it, now.
pub(super) async fn strike(
    node: &Node,
    fleet: &Fleet,
    plan: &Plan,
    orders: &mut Orders,
) -> anyhow::Result<Struck> {
    let mut rng = plan.rng.clone();
    let mut struck = Struck::new();
    match plan.action {
        Action::KillAgent => end_agent(node, Signal::SIGKILL).await?,
        Action::TerminateAgent => end_agent(node, Signal::SIGTERM).await?,
        Action::KillAgentTwice => {
            end_agent(node, Signal::SIGKILL).await?;
            start_of_agent(node).await?;
            sleep(rng.millis(0..SWEEP_MS_MAX)).await;
            end_agent(node, Signal::SIGKILL).await?;
        }
        Action::AgentStaysDead => {
            // Nobody starts it again while pid 1 of the node is stopped.
            node.signal_init(Signal::SIGSTOP);
            end_agent(node, Signal::SIGKILL).await?;
            let node = node.clone();
            struck.resume = Some(Box::new(move || node.signal_init(Signal::SIGCONT)));
        }
        Action::StopAgent => {
            node.signal_agent(Signal::SIGSTOP);
            let node = node.clone();
            struck.resume = Some(Box::new(move || {
                node.signal_agent(Signal::SIGCONT);
            }));
        }
        Action::KillHelpers => kill_all(&node.helpers()),
        Action::KillAgentAndHelpers => {
            let helpers = node.helpers();
            node.signal_agent(Signal::SIGKILL);
            kill_all(&helpers);
            wait_for_end(node).await?;
            kill_all(&node.helpers());
        }
        Action::CutLink => {
            node.cut_link()?;
            let node = node.clone();
            struck.resume = Some(Box::new(move || node.mend_link()));
        }
        Action::FillDisk => {
            struck.may_refuse = true;
            struck.problems = fill_disk(node, fleet, plan, &mut rng).await?;
        }
        Action::Revert => struck.problems = revert(node, fleet, plan).await,
        Action::RenewOn => {
            let lifetimes = plan.faults.iter().map(|fault| fault.lifetime);
            sleep(lifetimes.max().unwrap_or_default()).await;
        }
        Action::Halt => {
            struck.may_refuse = true;
            struck.problems = halt(fleet, &mut rng).await;
        }
        Action::KillContainer => {
            let pods = plan.faults.iter().map(|fault| fault.pod);
            let pod = pods.into_iter().find(|pod| *pod != PLANTED).unwrap_or(0);
            kill_all(&node.main_process(pod).into_iter().collect::<Vec<_>>());
        }
        // Where its step has not been reached yet, the way there: a start or a revert.
        Action::Failpoint if plan.step.is_some_and(|step| step.at_start) => {
            end_agent(node, Signal::SIGKILL).await?;
            // Twice: the start that dies at the step, and the one that does not.
            let start = Instant::now();
            while plan.step.is_some_and(|step| node.is_armed(step)) {
                ensure!(start.elapsed() < AGENT_MAX, "the agent does not reach {:?}", plan.step);
                sleep(Duration::from_millis(1)).await;
            }
        }
        // It may die before it answers.
        Action::Failpoint if rng.chance(50) => drop(revert(node, fleet, plan).await),
        Action::Failpoint | Action::Silence => {}
        Action::TearJournal => {
            end_agent(node, Signal::SIGKILL).await?;
            struck.torn = tear(node, &mut rng)?;
        }
    }
    orders.abort();
    struck.at = now();
    Ok(struck)
}

/// Ends the agent, and waits until it has ended.
async fn end_agent(node: &Node, signal: Signal) -> anyhow::Result<()> {
    node.signal_agent(signal);
    wait_for_end(node).await
}

async fn wait_for_end(node: &Node) -> anyhow::Result<()> {
    let start = Instant::now();
    while node.agent().is_some() {
        ensure!(start.elapsed() < AGENT_MAX, "the agent does not end");
        sleep(Duration::from_millis(1)).await;
    }
    Ok(())
}

async fn start_of_agent(node: &Node) -> anyhow::Result<()> {
    let start = Instant::now();
    while node.agent().is_none() {
        ensure!(start.elapsed() < AGENT_MAX, "the agent is not started again");
        sleep(Duration::from_millis(1)).await;
    }
    Ok(())
}

fn kill_all(pids: &[i32]) {
    for pid in pids {
        // One that has ended meanwhile is as good.
        kill(Pid::from_raw(*pid), Signal::SIGKILL).ok();
    }
}

async fn revert(node: &Node, fleet: &Fleet, plan: &Plan) -> Vec<String> {
    let ids = plan.faults.iter().map(|fault| fault.id.to_string()).collect();
    let answers = fleet.revert(&[(node.name.clone(), ids)].into(), ANSWER_MAX).await;
    let problem = |answer: Result<Vec<_>, faultline::agents::AgentError>| {
        answer.err().map(|error| format!("not reverted: {error}"))
    };
    answers.into_values().filter_map(problem).collect()
}

async fn halt(fleet: &Fleet, rng: &mut Rng) -> Vec<String> {
    let mut problems = Vec::new();
    for answer in fleet.halt("torture").await.into_values() {
        problems.extend(answer.err().map(|error| format!("not halted: {error}")));
    }
    sleep(rng.millis(0..100)).await;
    for answer in fleet.resume().await.into_values() {
        problems.extend(answer.err().map(|error| format!("not resumed: {error}")));
    }
    problems
}

/// How often a disk is filled up before a fault that is accepted all the same is a failure.
const FILLS_MAX: usize = 5;

/// With a full disk a fault is refused, and what there is can be reverted.
async fn fill_disk(
    node: &Node,
    fleet: &Fleet,
    plan: &Plan,
    rng: &mut Rng,
) -> anyhow::Result<Vec<String>> {
    // A record of this round that is removed meanwhile makes room for another one: filled up again.
    let mut accepted = Vec::new();
    let mut said = Vec::new();
    for _ in 0..FILLS_MAX {
        node.fill_disk()?;
        let id = FaultId::from_bits(rng.bits());
        said = prepare(node, fleet, plan, id, false).await?;
        if !said.is_empty() {
            break;
        }
        accepted.push(id.to_string());
    }
    let mut problems = revert(node, fleet, plan).await;
    if !accepted.is_empty() {
        let ids = [(node.name.clone(), accepted)].into();
        let answers = fleet.revert(&ids, ANSWER_MAX).await.into_values();
        problems.extend(answers.filter_map(Result::err).map(|e| e.to_string()));
    }
    node.free_disk()?;
    if said != ["journal"] {
        problems.push(format!("a full disk, and a fault is answered with {said:?}"));
    }
    Ok(problems)
}

/// Cuts off the end of a record, as a loss of power could on a file system that does not keep order.
fn tear(node: &Node, rng: &mut Rng) -> anyhow::Result<Option<PathBuf>> {
    let mut records = node.journal();
    records.retain(|path| path.extension().is_some_and(|e| e == "json"));
    if records.is_empty() {
        return Ok(None);
    }
    let path = rng.pick(&records).clone();
    let whole = fs::read(&path)?;
    fs::write(&path, &whole[..rng.index(whole.len())])?;
    Ok(Some(path))
}

/// What must be so when the agent is back: a torn record makes the node take nothing until a person
/// has removed it.
pub(super) async fn aftermath(
    node: &Node,
    fleet: &Fleet,
    struck: &Struck,
    plan: &Plan,
) -> anyhow::Result<Vec<String>> {
    let Some(torn) = &struck.torn else { return Ok(Vec::new()) };
    let said = takes_faults(node, fleet, plan).await?;
    fs::remove_file(torn)?;
    let is_stuck = said.iter().any(|why| why == "stuck");
    let problem = format!("a torn record, and the node is not stuck but said {said:?}");
    Ok((!is_stuck).then_some(problem).into_iter().collect())
}
