//! One round: faults are ordered, something goes wrong, leases run out, and then everything must be as
//! it was before.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use faultline::agents::{ANSWER_MAX, Fleet};
use faultline_proto::{boottime::BootTime, pb};
use nix::sys::signal::Signal;
use tokio::time::sleep;

use super::{
    action::Action,
    attack::{self, Scene, Struck},
    draw::{Drawn, Plan},
    dump::Dump,
    measure::{Watch, now},
    order::{Heard, Orders},
    pair::Pair,
    script::Known,
    settle,
    verdict::{self, Case, Figure},
};

/// How long after its lease an effect is watched for its end.
const LATE_MAX: Duration = Duration::from_millis(600);
/// What the watches need to see that an effect is over.
const SEEN_AFTER: Duration = Duration::from_millis(60);
/// How long a controller that was stopped goes on before it is killed, in milliseconds.
const GO_ON_MS_MAX: u64 = 200;
/// Words of refusals that nothing in a round is a reason for.
const UNEXPECTED: [&str; 7] =
    ["stuck", "halted", "kernel", "journal", "invalid", "foreign", "protected"];

/// What a round came to.
#[derive(Debug)]
pub(super) struct Outcome {
    /// What was drawn.
    pub(super) plan: Plan,
    /// On which nodes.
    pub(super) nodes: String,
    /// What is wrong; empty for a good round.
    pub(super) problems: Vec<String>,
    /// Faults that are known to have been committed.
    pub(super) committed: u64,
    /// Why faults were not injected.
    pub(super) refused: Vec<String>,
    /// Somebody died at the step that was drawn.
    pub(super) died: bool,
    /// How late effects ended.
    pub(super) late: Vec<Figure>,
    /// Between the first and the last Commit of one run over two nodes, in microseconds.
    pub(super) spread_us: Option<i64>,
}

/// Plays a round on nodes that are as in `before`, which has their deleted pods' successors then.
///
/// # Errors
/// When the round could not be played to its end.
pub(super) async fn play(pair: &Pair, before: &mut [Dump], plan: Plan) -> anyhow::Result<Outcome> {
    let began = Instant::now();
    let mut orders = Orders::start(&pair.script(&plan)?, plan.faults.len())?;
    let fleet = pair.connect().await?;
    let watch = pair.watch(&plan).await?;
    if let Some(step) = plan.step {
        for position in &plan.struck {
            pair.nodes[*position].arm(step)?;
        }
    }
    orders.go()?;
    sleep(plan.at).await;
    let scene = Scene { pair, fleet: &fleet, plan: &plan, watch: &watch };
    let struck = attack::strike(&scene, &mut orders).await?;
    let mut problems = struck.problems.clone();
    let (heard, mut limits) = leases_end(&plan, &struck, &mut orders, &watch).await;
    // While it is so: what is wrong may be over by the time it is told.
    let shown = if watch.acts() { show(pair, &plan) } else { Vec::new() };
    let died = plan.step.is_some_and(|step| {
        // All of them: also where the first has died.
        let disarm = |position: &usize| pair.nodes[*position].disarm(step);
        plan.struck.iter().map(disarm).fold(false, |any, one| any | one)
    });
    let (fleet, back) = (pair.connect().await?, now());
    problems.extend(attack::aftermath(pair, &fleet, &struck, &plan).await?);
    let (seen, held_up) = watch.seen();
    let said = hear(&fleet, &plan, &heard.known, &mut limits).await;
    let case = Case {
        plan: &plan,
        known: &heard.known,
        limits: &limits,
        struck: &struck,
        died,
        back,
        held_up,
        said: &said,
    };
    let (late, untimely) = verdict::judge(&case, &seen);
    if !untimely.is_empty() {
        problems.extend(untimely.into_iter().chain(shown));
    }
    problems.extend(settle::settle(pair, &fleet, before, &plan, &struck).await?);
    let words = heard.known.iter().flat_map(|k| [&k.refused, &k.not_amended]);
    let refused: Vec<String> = words.flatten().cloned().collect();
    problems.extend(unexpected(&refused, &struck));
    // What could not be removed from a disk that cannot be written to is removed later.
    problems.extend(heard.problems.into_iter().filter(|_| plan.action != Action::ReadOnlyDisk));
    if !problems.is_empty() {
        problems.push(format!("the round took {:?}", began.elapsed()));
    }
    Ok(Outcome {
        nodes: pair.name(),
        problems,
        committed: count(&heard.known, |known| known.lease_end.is_some()),
        refused,
        died,
        late,
        spread_us: spread_us(&plan, &heard.known),
        plan,
    })
}

/// Waits until all leases are over, and takes back what held somebody up until then. Returns what the
/// controller had said when it died, and when each fault had to be over.
async fn leases_end(
    plan: &Plan,
    struck: &Struck,
    orders: &mut Orders,
    watch: &Watch,
) -> (Heard, Vec<Option<BootTime>>) {
    let mut heard = orders.heard();
    let mut limits = limits(plan, &heard.known, struck.at);
    wait_until_over(&limits, watch).await;
    for resume in &struck.resume {
        resume();
    }
    if plan.action == Action::StopController {
        // It goes on with what it was about to do, which may be a Commit.
        orders.signal(Signal::SIGCONT);
        sleep(plan.rng.clone().millis(0..GO_ON_MS_MAX)).await;
        orders.kill();
        heard = orders.heard();
        limits = self::limits(plan, &heard.known, now());
        wait_until_over(&limits, watch).await;
    }
    (heard, limits)
}

/// The networks of the nodes that faults are on, for a person.
fn show(pair: &Pair, plan: &Plan) -> Vec<String> {
    let nodes: BTreeSet<usize> = plan.spots().iter().map(|spot| spot.node).collect();
    nodes.into_iter().flat_map(|node| pair.nodes[node].show(|_any| true)).collect()
}

async fn wait_until_over(limits: &[Option<BootTime>], watch: &Watch) {
    if let Some(last) = limits.iter().flatten().max() {
        sleep(last.since(now()) + SEEN_AFTER).await;
    }
    // What is not over then is watched for as long as it takes to be sure that it is too late.
    let until = Instant::now() + LATE_MAX;
    while watch.acts() && Instant::now() < until {
        sleep(Duration::from_millis(5)).await;
    }
}

/// For each fault the latest time at which it may end by itself; `None` if it was never committed.
fn limits(plan: &Plan, known: &[Known], dead: BootTime) -> Vec<Option<BootTime>> {
    let of = |(fault, known): (&Drawn, &Known)| {
        let deadline = known.deadline.filter(|_| known.committing)?;
        // A request without an answer may have been the last thing that was done.
        let open = (known.open > 0).then(|| dead.after(fault.lease));
        let latest = open.into_iter().chain(known.lease_end).max().unwrap_or(deadline);
        Some(latest.min(deadline))
    };
    plan.faults.iter().zip(known).map(of).collect()
}

/// Corrects limits by the agents' own word where a request was on its way when the controller died:
/// an agent that is busy or stopped may have obeyed it much later. Returns what they say of the faults.
async fn hear(
    fleet: &Fleet,
    plan: &Plan,
    known: &[Known],
    limits: &mut [Option<BootTime>],
) -> Vec<String> {
    let answers = fleet.list(ANSWER_MAX).await.into_values();
    let by_id: BTreeMap<String, pb::InjectionStatus> =
        answers.flatten().flatten().map(|status| (status.fault_id.clone(), status)).collect();
    let mut said = Vec::new();
    for (index, fault) in plan.faults.iter().enumerate() {
        let Some(status) = by_id.get(&fault.id.to_string()) else { continue };
        said.push(format!("{status:?}"));
        if known[index].open > 0 && status.committed_boottime_ns > 0 {
            let own = BootTime::from_nanos(status.lease_end_boottime_ns);
            limits[index] = limits[index].max(Some(own));
        }
    }
    said
}

fn unexpected(refused: &[String], struck: &Struck) -> Vec<String> {
    let expected = |why: &str| matches!(why, "halted" | "journal" | "stuck") && struck.may_refuse;
    // `commit: halted` and `amend: halted` are of one word.
    let word = |why: &String| why.rsplit(' ').next().unwrap_or_default().to_owned();
    let words = refused.iter().filter(|why| {
        let word = word(why);
        UNEXPECTED.contains(&word.as_str()) && !expected(&word)
    });
    words.map(|why| format!("refused: {why}")).collect()
}

fn count(known: &[Known], wanted: impl Fn(&Known) -> bool) -> u64 {
    u64::try_from(known.iter().filter(|known| wanted(known)).count()).unwrap_or(u64::MAX)
}

/// How far apart the faults of one run over several nodes were injected.
fn spread_us(plan: &Plan, known: &[Known]) -> Option<i64> {
    let mut first: BTreeMap<usize, BootTime> = BTreeMap::new();
    for (drawn, known) in plan.faults.iter().zip(known) {
        let at = known.committed?;
        let of_node = first.entry(drawn.spot.node).or_insert(at);
        *of_node = at.min(*of_node);
    }
    let spread = first.values().max()?.since(*first.values().min()?);
    (plan.together && first.len() > 1).then(|| i64::try_from(spread.as_micros()).ok()).flatten()
}
