//! One round: faults are ordered, something goes wrong, leases run out, and then everything must be as
//! it was before.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use faultline::agents::{ANSWER_MAX, Fleet};
use faultline_proto::{
    boottime::BootTime,
    fault::Fault,
    id::{FaultId, RunId},
    pb,
    status::State,
};
use tokio::{task::spawn_blocking, time::sleep};

use super::{
    attack,
    draw::{PODS, Plan},
    dump::Dump,
    measure::{Watch, now},
    node::Node,
    order::{Known, Orders, reason},
    verdict::{self, Effect},
};

/// How long after its lease an effect is watched for its end.
const LATE_MAX: Duration = Duration::from_millis(600);
/// How long after everything is back the node may take to be as it was.
const CLEAN_MAX: Duration = Duration::from_secs(4);
/// How long agent and containers may take to be back: containers wait up to 5 s before they start.
const BACK_MAX: Duration = Duration::from_secs(20);

/// What a round came to.
#[derive(Debug)]
pub(super) struct Outcome {
    /// What was drawn.
    pub(super) plan: Plan,
    /// On which node.
    pub(super) node: String,
    /// What is wrong; empty for a good round.
    pub(super) problems: Vec<String>,
    /// Faults that are known to have been committed.
    pub(super) committed: u64,
    /// Why faults were not injected.
    pub(super) refused: Vec<String>,
    /// The agent died at the step that was drawn.
    pub(super) died: bool,
    /// How late effects ended, by what held them.
    pub(super) late_us: Vec<(&'static str, i64)>,
}

/// Plays a round on a node that is as in `before`.
///
/// # Errors
/// When the round could not be played to its end.
pub(super) async fn play(node: &Node, before: &Dump, plan: Plan) -> anyhow::Result<Outcome> {
    let fleet = Arc::new(node.connect().await?);
    let watches = watch(node, &plan).await?;
    let began = Instant::now();
    if let Some(step) = plan.step {
        node.arm(step)?;
    }
    let mut orders = Orders::begin(node, &fleet, &plan.faults);
    sleep(plan.at).await;
    let struck = attack::strike(node, &fleet, &plan, &mut orders).await?;
    let mut problems = struck.problems.clone();
    let known = orders.known();
    let mut limits = limits(&plan, &known, struck.at);
    if let Some(last) = limits.iter().flatten().max() {
        // The margin is what the watches need to see that it is over.
        sleep(last.since(now()) + Duration::from_millis(60)).await;
    }
    // What is not over then is watched for as long as it takes to be sure that it is too late.
    let until = Instant::now() + LATE_MAX;
    while watches.iter().any(|(_, watch)| watch.acts()) && Instant::now() < until {
        sleep(Duration::from_millis(5)).await;
    }
    if let Some(resume) = &struck.resume {
        resume();
    }
    let died = plan.step.is_some_and(|step| node.disarm(step));
    let (fleet, back) = come_back(node).await?;
    problems.extend(attack::aftermath(node, &fleet, &struck, &plan).await?);
    let seen = last_seen(watches).await?;
    hear(&fleet, &plan, &known, &mut limits).await;
    let effects = Effect::of(&plan, &known, &limits, &seen);
    let (late_us, late) = verdict::late(&plan, &effects, &struck, back);
    problems.extend(late);
    problems.extend(settle(node, &fleet, before, &plan).await?);
    let refused: Vec<String> = known.iter().filter_map(|known| known.refused.clone()).collect();
    let unexpected = ["stuck", "halted", "kernel", "journal", "invalid", "foreign", "protected"];
    let expected = |why: &str| matches!(why, "halted" | "journal") && struck.may_refuse;
    problems.extend(
        refused
            .iter()
            .filter(|why| unexpected.contains(&why.as_str()) && !expected(why))
            .map(|why| format!("refused: {why}")),
    );
    if !problems.is_empty() {
        problems.push(format!("the round took {:?}", began.elapsed()));
    }
    let committed = known.iter().filter(|known| known.lease_end.is_some()).count();
    let committed = u64::try_from(committed)?;
    Ok(Outcome { plan, node: node.name.clone(), problems, committed, refused, late_us, died })
}

/// For each fault the latest time at which it may end by itself; `None` if it was never committed.
fn limits(plan: &Plan, known: &[Known], struck: BootTime) -> Vec<Option<BootTime>> {
    let of = |(fault, known): (&super::draw::Drawn, &Known)| {
        let deadline = known.deadline.filter(|_| known.committing)?;
        // A request without an answer may have been the last thing that was done.
        let open = (known.open > 0).then(|| struck.after(fault.lease));
        let latest = open.into_iter().chain(known.lease_end).max().unwrap_or(deadline);
        Some(latest.min(deadline))
    };
    plan.faults.iter().zip(known).map(of).collect()
}

/// Corrects limits by the agent's own word where a request was on its way when the controller died:
/// an agent that is busy or stopped may have obeyed it much later.
async fn hear(fleet: &Fleet, plan: &Plan, known: &[Known], limits: &mut [Option<BootTime>]) {
    let statuses: Vec<_> = fleet.list(ANSWER_MAX).await.into_values().flatten().flatten().collect();
    for (index, fault) in plan.faults.iter().enumerate().filter(|(i, _)| known[*i].open > 0) {
        let id = fault.id.to_string();
        let own = statuses.iter().filter(|s| s.fault_id == id && s.committed_boottime_ns > 0);
        let own = own.map(|s| BootTime::from_nanos(s.lease_end_boottime_ns));
        limits[index] = own.chain(limits[index]).max();
    }
}

/// Watches what the first partition and the first stop of a round would act on.
async fn watch(node: &Node, plan: &Plan) -> anyhow::Result<Vec<(usize, Watch)>> {
    let mut wanted = Vec::new();
    let is_partition = |fault: &Fault| matches!(fault, Fault::Partition(_));
    let is_stop = |fault: &Fault| matches!(fault, Fault::Kill(kill) if kill.signal.stops());
    if let Some(index) = plan.faults.iter().position(|drawn| is_partition(&drawn.fault)) {
        wanted.push((index, None));
    }
    if let Some(index) = plan.faults.iter().position(|drawn| is_stop(&drawn.fault)) {
        wanted.push((index, node.running_container(plan.faults[index].pod)));
    }
    let (node, plan) = (node.clone(), plan.clone());
    let started = spawn_blocking(move || {
        let start = |(index, container): (usize, Option<String>)| {
            let pod = plan.faults[index].pod;
            let watch = match container {
                Some(container) => Watch::processes(&container),
                None => Watch::traffic(node.holders[pod], node.echo((pod + 1) % PODS))?,
            };
            Ok((index, watch))
        };
        wanted.into_iter().map(start).collect::<anyhow::Result<Vec<_>>>()
    });
    started.await?
}

async fn last_seen(watches: Vec<(usize, Watch)>) -> anyhow::Result<Vec<(usize, BootTime)>> {
    let seen = spawn_blocking(|| {
        let seen = watches.into_iter().map(|(index, watch)| (index, watch.last_seen()));
        seen.filter_map(|(index, at)| Some((index, at?))).collect()
    });
    Ok(seen.await?)
}

/// Waits until the agent answers, and returns when it did.
async fn come_back(node: &Node) -> anyhow::Result<(Fleet, BootTime)> {
    let fleet = node.connect().await?;
    Ok((fleet, now()))
}

/// Waits until the node is as it was, and says what is not.
async fn settle(
    node: &Node,
    fleet: &Fleet,
    before: &Dump,
    plan: &Plan,
) -> anyhow::Result<Vec<String>> {
    let start = Instant::now();
    while !(0..PODS).all(|pod| node.running_container(pod).is_some()) {
        if start.elapsed() > BACK_MAX {
            return Ok(vec!["a container does not come back".into()]);
        }
        sleep(Duration::from_millis(20)).await;
    }
    let ids: Vec<FaultId> = plan.faults.iter().map(|fault| fault.id).collect();
    let start = Instant::now();
    loop {
        let mut left = unsettled(node, fleet, &ids).await;
        if left.is_empty() {
            left = node.dump().await?.differs_from(before);
        }
        if left.is_empty() {
            left = node.traffic().await?;
        }
        if left.is_empty() {
            left = takes_faults(node, fleet, plan).await?;
        }
        if left.is_empty() || start.elapsed() > CLEAN_MAX {
            return Ok(left);
        }
        sleep(Duration::from_millis(50)).await;
    }
}

/// What is not over, by the agent's word, its journal and the control groups of faults.
async fn unsettled(node: &Node, fleet: &Fleet, ids: &[FaultId]) -> Vec<String> {
    let mut left = node.left_of(ids);
    for answer in fleet.list(ANSWER_MAX).await.into_values() {
        match answer {
            Ok(statuses) => left.extend(
                statuses
                    .iter()
                    .filter(|status| State::from_wire(status.state) != Some(State::Reverted))
                    .map(|status| format!("the agent still has {status:?}")),
            ),
            Err(error) => left.push(format!("the agent does not answer: {error}")),
        }
    }
    left
}

/// Why the node would take no new fault; nothing if it would.
pub(super) async fn takes_faults(
    node: &Node,
    fleet: &Fleet,
    plan: &Plan,
) -> anyhow::Result<Vec<String>> {
    prepare(node, fleet, plan, FaultId::from_bits(plan.number), true).await
}

/// Prepares one more fault, and says with which words it was refused.
pub(super) async fn prepare(
    node: &Node,
    fleet: &Fleet,
    plan: &Plan,
    id: FaultId,
    dry_run: bool,
) -> anyhow::Result<Vec<String>> {
    let fault = plan.faults.first().context("a round has a fault")?;
    let everything = || Some(pb::PeerSet { everything: true, cidrs: Vec::new() });
    let partition = pb::Partition {
        egress: everything(),
        ingress: everything(),
        protocol: pb::Protocol::Any.into(),
        port_side: pb::PortSide::Either.into(),
        verdict: pb::Verdict::Drop.into(),
        ..pb::Partition::default()
    };
    let injection = pb::Injection {
        fault_id: id.to_string(),
        target: Some(node.pod(fault.pod).context("a pod")?.target().into()),
        fault: Some(pb::Fault { kind: Some(pb::fault::Kind::Partition(partition)) }),
        lease_ms: 1000,
        deadline_boottime_ns: now().after(Duration::from_secs(10)).as_nanos(),
    };
    let by_node = [(node.name.clone(), vec![injection])].into();
    let refused = fleet.prepare(RunId::from_bits(plan.number), &by_node, dry_run).await.err();
    Ok(refused.into_iter().flatten().map(|error| reason(&error)).collect())
}
