//! Doing to the nodes of a round what its action says.

use std::{fs, path::PathBuf, time::Duration};

use anyhow::ensure;
use faultline::agents::{ANSWER_MAX, AgentError, Fleet};
use faultline_proto::boottime::BootTime;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tokio::time::{Instant, sleep};

use super::{
    action::Action,
    disk,
    draw::{BARE, Plan, Spot},
    measure::{Watch, now},
    node::Node,
    order::Orders,
    pair::Pair,
    rng::Rng,
    settle::takes_faults,
};

/// How long an agent may take to end, and to be started again.
const AGENT_MAX: Duration = Duration::from_secs(8);
/// How long after its start an agent is killed the second time, in milliseconds.
const SWEEP_MS_MAX: u64 = 12;

type Resume = Box<dyn Fn() + Send + Sync>;

/// What was done.
pub(super) struct Struck {
    /// When it began.
    pub(super) began: BootTime,
    /// When it was complete.
    pub(super) at: BootTime,
    /// What was wrong about how it went.
    pub(super) problems: Vec<String>,
    /// To be called when all leases are over.
    pub(super) resume: Vec<Resume>,
    /// New faults may have been refused by what was done.
    pub(super) may_refuse: bool,
    /// Pods that were deleted.
    pub(super) deleted: Vec<Spot>,
    /// Records that were torn, by the positions of their nodes.
    torn: Vec<(usize, PathBuf)>,
}

impl Struck {
    /// Nothing has been done yet.
    pub(super) fn begin(at: BootTime) -> Self {
        Self {
            began: at,
            at,
            problems: Vec::new(),
            resume: Vec::new(),
            may_refuse: false,
            deleted: Vec::new(),
            torn: Vec::new(),
        }
    }
}

/// Who acts on whom.
pub(super) struct Scene<'a> {
    /// The nodes.
    pub(super) pair: &'a Pair,
    /// What the torture program itself asks agents with: another controller than that of the round.
    pub(super) fleet: &'a Fleet,
    /// What was drawn.
    pub(super) plan: &'a Plan,
    /// Who sees what comes of it.
    pub(super) watch: &'a Watch,
}

/// Does it, now.
pub(super) async fn strike(scene: &Scene<'_>, orders: &mut Orders) -> anyhow::Result<Struck> {
    let plan = scene.plan;
    let mut rng = plan.rng.clone();
    let mut struck = Struck::begin(now());
    match plan.action {
        Action::KillController => orders.kill(),
        Action::StopController => orders.signal(Signal::SIGSTOP),
        Action::KillBoth => {
            // One right after the other, and only then waited for.
            for node in struck_nodes(scene) {
                node.signal_agent(Signal::SIGKILL);
            }
            orders.signal(Signal::SIGKILL);
        }
        Action::Revert => struck.problems = revert(scene).await,
        Action::RenewOn => {
            let lifetimes = plan.faults.iter().map(|fault| fault.lifetime);
            sleep(lifetimes.max().unwrap_or_default()).await;
        }
        Action::Halt => {
            struck.may_refuse = true;
            struck.problems = halt(scene.fleet, &mut rng).await;
        }
        _ => {
            for &position in &plan.struck {
                strike_node(scene, position, &mut rng, &mut struck).await?;
            }
        }
    }
    if plan.action != Action::StopController {
        orders.kill();
    }
    if plan.action == Action::KillBoth {
        for node in struck_nodes(scene) {
            start_of_agent(node).await?;
        }
    }
    struck.at = now();
    Ok(struck)
}

fn struck_nodes<'a>(scene: &'a Scene<'_>) -> impl Iterator<Item = &'a Node> {
    scene.plan.struck.iter().map(|position| &scene.pair.nodes[*position])
}

async fn strike_node(
    scene: &Scene<'_>,
    position: usize,
    rng: &mut Rng,
    struck: &mut Struck,
) -> anyhow::Result<()> {
    let node = &scene.pair.nodes[position];
    match scene.plan.action {
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
            struck.resume.push(Box::new(move || node.signal_init(Signal::SIGCONT)));
        }
        Action::StopAgent => {
            node.signal_agent(Signal::SIGSTOP);
            let node = node.clone();
            struck.resume.push(Box::new(move || {
                node.signal_agent(Signal::SIGCONT);
            }));
        }
        Action::KillHelpers => kill_all(&node.helpers()),
        Action::KillAgentAndHelpers => {
            let (helpers, agent) = (node.helpers(), node.agent());
            node.signal_agent(Signal::SIGKILL);
            kill_all(&helpers);
            wait_for_end(node, agent).await?;
            kill_all(&node.helpers());
        }
        Action::CutLink => {
            node.cut_link()?;
            let node = node.clone();
            struck.resume.push(Box::new(move || node.mend_link()));
        }
        Action::FillDisk => {
            struck.may_refuse = true;
            struck.problems.extend(disk::fill(scene, position, rng).await?);
        }
        Action::ReadOnlyDisk => {
            struck.may_refuse = true;
            struck.problems.extend(disk::write_protect(scene, position, rng).await?);
        }
        Action::KillContainer => {
            // Not the planted one: what is planted in it would go with it.
            let of_node = scene.plan.spots().into_iter().filter(|spot| spot.node == position);
            let pod = of_node.map(|spot| spot.pod).min().map_or(0, |pod| pod.min(BARE));
            kill_all(&node.main_process(pod).into_iter().collect::<Vec<_>>());
        }
        Action::DeletePod => {
            let spot = Spot { node: position, pod: BARE };
            scene.watch.forget(spot);
            struck.deleted.push(spot);
            kill_all(&node.processes_of(BARE));
        }
        // Where its step has not been reached yet, the way there: a start or a revert.
        Action::Failpoint if scene.plan.step.is_some_and(|step| step.at_start) => {
            end_agent(node, Signal::SIGKILL).await?;
            // Twice: the start that dies at the step, and the one that does not.
            let start = Instant::now();
            while scene.plan.step.is_some_and(|step| node.is_armed(step)) {
                let step = scene.plan.step;
                ensure!(start.elapsed() < AGENT_MAX, "the agent does not reach {step:?}");
                sleep(Duration::from_millis(1)).await;
            }
        }
        // It may die before it answers.
        Action::Failpoint if rng.chance(50) => drop(revert(scene).await),
        Action::TearJournal => {
            end_agent(node, Signal::SIGKILL).await?;
            struck.torn.extend(tear(node, rng)?.map(|path| (position, path)));
        }
        // Where the step is reached without help; and what is not of a node.
        Action::Failpoint
        | Action::KillController
        | Action::StopController
        | Action::KillBoth
        | Action::Revert
        | Action::RenewOn
        | Action::Halt => {}
    }
    Ok(())
}

/// Ends the agent, and waits until it has ended.
async fn end_agent(node: &Node, signal: Signal) -> anyhow::Result<()> {
    let agent = node.agent();
    node.signal_agent(signal);
    wait_for_end(node, agent).await
}

/// Waits until this agent has ended: there may be the next one already.
async fn wait_for_end(node: &Node, agent: Option<i32>) -> anyhow::Result<()> {
    let start = Instant::now();
    while agent.is_some() && node.agent() == agent {
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

/// Reverts all faults of the round, and says where that did not work.
pub(super) async fn revert(scene: &Scene<'_>) -> Vec<String> {
    let nodes = scene.pair.nodes.iter().enumerate().map(|(position, node)| {
        let faults = scene.plan.faults.iter().filter(|fault| fault.spot.node == position);
        (node.name.clone(), faults.map(|fault| fault.id.to_string()).collect::<Vec<_>>())
    });
    let ids = nodes.filter(|(_, ids)| !ids.is_empty()).collect();
    let answers = scene.fleet.revert(&ids, ANSWER_MAX).await;
    let problem = |answer: Result<Vec<_>, AgentError>| {
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

/// What must be so when the agents are back: a torn record makes the node take nothing until a person
/// has removed it.
pub(super) async fn aftermath(
    pair: &Pair,
    fleet: &Fleet,
    struck: &Struck,
    plan: &Plan,
) -> anyhow::Result<Vec<String>> {
    let mut problems = Vec::new();
    for (position, torn) in &struck.torn {
        let said = takes_faults(pair, *position, fleet, plan).await?;
        fs::remove_file(torn)?;
        if !said.iter().any(|why| why == "stuck") {
            problems.push(format!("a torn record, and the node is not stuck but said {said:?}"));
        }
    }
    Ok(problems)
}
