//! Waiting until the nodes of a round are as they were before it, and saying what is not.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use faultline::agents::{ANSWER_MAX, ByNode, Fleet, Orders};
use faultline_proto::{
    fault::{Around, KINDS, Scope},
    id::{FaultId, RunId},
    pb,
    status::State,
};
use tokio::time::sleep;

use super::{
    attack::Struck,
    draw::{PODS, Plan},
    dump::Dump,
    measure::now,
    order::reason,
    pair::{Pair, differences},
    plant::ECHO_PORT,
};

/// How long after everything is back the nodes may take to be as they were.
const CLEAN_MAX: Duration = Duration::from_secs(8);
/// How long agents, pods and containers may take to be back: each waits up to 5 s before it starts.
const BACK_MAX: Duration = Duration::from_secs(25);
/// How long a fault that is only prepared may live.
const PREPARED_LIFETIME: Duration = Duration::from_secs(10);

/// Waits until the nodes are as in `before`, and says what is not. A pod that was deleted is another
/// one now: `before` is changed to have that.
///
/// # Errors
/// When they cannot be looked at.
pub(super) async fn settle(
    pair: &Pair,
    fleet: &Fleet,
    before: &mut [Dump],
    plan: &Plan,
    struck: &Struck,
) -> anyhow::Result<Vec<String>> {
    let start = Instant::now();
    let running = || {
        let mut pods = pair.nodes.iter().flat_map(|node| (0..PODS).map(move |pod| (node, pod)));
        pods.all(|(node, pod)| node.running_container(pod).is_some())
    };
    while !running() {
        if start.elapsed() > BACK_MAX {
            return Ok(vec!["a pod or container does not come back".into()]);
        }
        sleep(Duration::from_millis(20)).await;
    }
    for spot in &struck.deleted {
        pair.nodes[spot.node].plant_echo(spot.pod)?;
    }
    let start = Instant::now();
    loop {
        let mut left = unsettled(pair, fleet, plan).await;
        if left.is_empty() {
            left = compare(pair, before, struck).await?;
        }
        if left.is_empty() {
            left = pair.traffic().await?;
        }
        if left.is_empty() {
            for position in 0..pair.nodes.len() {
                left.extend(takes_faults(pair, position, fleet, plan).await?);
            }
        }
        if left.is_empty() {
            return Ok(left);
        }
        if start.elapsed() > CLEAN_MAX {
            let about = |name: &str| left.iter().any(|line| line.contains(&format!(" {name}:")));
            let shown: Vec<String> = pair.nodes.iter().flat_map(|node| node.show(about)).collect();
            left.extend(shown);
            return Ok(left);
        }
        sleep(Duration::from_millis(50)).await;
    }
}

/// Compares full dumps. What has a new identity since its pod was deleted must be as much as before.
async fn compare(pair: &Pair, before: &mut [Dump], struck: &Struck) -> anyhow::Result<Vec<String>> {
    for spot in &struck.deleted {
        before[spot.node].forget_rules(pair.nodes[spot.node].pod_name(spot.pod));
    }
    let is = pair.dump(before).await?;
    let mut left = Vec::new();
    for spot in &struck.deleted {
        let node = &pair.nodes[spot.node];
        let (own, pod) = (node.name.as_str(), node.pod_name(spot.pod));
        left.extend(before[spot.node].adopt(&is[spot.node], own, pod));
    }
    left.extend(differences(&is, before));
    if left.is_empty() {
        // The same, but for how often rules have changed: those need not be printed again.
        before.clone_from_slice(&is);
    }
    Ok(left)
}

/// What is not over, by the agents' word, their journals and the control groups of faults.
async fn unsettled(pair: &Pair, fleet: &Fleet, plan: &Plan) -> Vec<String> {
    let ids: Vec<FaultId> = plan.faults.iter().map(|fault| fault.id).collect();
    let mut left: Vec<String> = pair.nodes.iter().flat_map(|node| node.left_of(&ids)).collect();
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

/// Why a node would take no new fault; nothing if it would.
pub(super) async fn takes_faults(
    pair: &Pair,
    position: usize,
    fleet: &Fleet,
    plan: &Plan,
) -> anyhow::Result<Vec<String>> {
    prepare(pair, position, fleet, plan, FaultId::from_bits(plan.number), true).await
}

/// Prepares one more fault on a node, and says with which words it was refused.
pub(super) async fn prepare(
    pair: &Pair,
    position: usize,
    fleet: &Fleet,
    plan: &Plan,
    id: FaultId,
    dry_run: bool,
) -> anyhow::Result<Vec<String>> {
    let node = &pair.nodes[position];
    // On a pod as a whole: its containers may be starting.
    let kind = KINDS.iter().find(|kind| kind.scope == Scope::Pod).context("a kind for pods")?;
    let around = Around { addresses: &[], port: ECHO_PORT, process: "", is_shared: false };
    let fault = (kind.sample)(&mut plan.rng.clone(), &around);
    let injection = pb::Injection {
        fault_id: id.to_string(),
        target: Some(node.pod(0).context("a pod")?.target().into()),
        fault: Some(pb::Fault { kind: Some(fault) }),
        lease_ms: 1000,
        deadline_boottime_ns: now().after(PREPARED_LIFETIME).as_nanos(),
    };
    let orders = Orders::from(ByNode::from([(node.name.clone(), vec![injection])]));
    // Of a run of its own: where it is refused, only that is given up.
    let run = RunId::from_bits(!plan.number.rotate_left(32));
    let refused = fleet.prepare(run, &orders, dry_run).await.err();
    Ok(refused.into_iter().flatten().map(|error| reason(&error)).collect())
}
