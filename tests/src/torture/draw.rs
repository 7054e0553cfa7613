//! What happens in a round: drawn from the seed and the round's number alone.

use std::{fmt, net::IpAddr, time::Duration};

use anyhow::Context as _;
use faultline_agent::failpoint::{STEPS, Step};
use faultline_proto::{
    fault::{Around, Fault, KINDS, KindInfo, Scope},
    id::FaultId,
    limits::LEASE_MIN,
    pb,
};

use super::{action::Action, plant::ECHO_PORT, rng::Rng};

/// The nodes that a round is played on.
pub(super) const NODES: usize = 2;
/// The pods of a node, by position: an echo, the one that may be deleted, and the one with foreign
/// objects in its container.
pub(super) const PODS: usize = 3;
/// The pod that may be deleted: nothing is planted in it, as that would go with it.
pub(super) const BARE: usize = 1;
/// The pod whose container is never killed, because what is planted in it would go with it.
pub(super) const PLANTED: usize = 2;

/// Faults in one round, at most.
const FAULTS_MAX: u64 = 4;
/// The longest lease, in milliseconds: a round lasts about as long.
const LEASE_MS_MAX: u64 = 900;
/// How early a fault is changed after its Commit, in milliseconds.
const AMEND_MS_MAX: u64 = 400;

/// A pod of the round: its node's position, and its own there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Spot {
    /// The node.
    pub(super) node: usize,
    /// The pod.
    pub(super) pod: usize,
}

/// A fault of a round.
#[derive(Debug, Clone)]
pub(super) struct Drawn {
    /// On which pod.
    pub(super) spot: Spot,
    /// The kind's name.
    pub(super) kind: &'static str,
    /// Its id, the same whenever the round is repeated.
    pub(super) id: FaultId,
    /// What of the pod it is on.
    pub(super) scope: Scope,
    /// What it is.
    pub(super) fault: Fault,
    /// How long it lives without a renewal.
    pub(super) lease: Duration,
    /// From its Prepare to its latest end.
    pub(super) lifetime: Duration,
    /// What it is changed to, and how long after its Commit.
    pub(super) amend: Option<(Duration, Fault)>,
}

/// A round, before it happens.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    /// The round's number.
    pub(super) number: u64,
    /// Its faults, in the order in which they are prepared.
    pub(super) faults: Vec<Drawn>,
    /// All of them are one run: all are injected at one instant, or none is.
    pub(super) together: bool,
    /// That run has one more fault, which the node of this position refuses: it must not take place.
    pub(super) spoiled_on: Option<usize>,
    /// What goes wrong meanwhile.
    pub(super) action: Action,
    /// To which nodes.
    pub(super) struck: Vec<usize>,
    /// The step at which an agent or helper dies, where that is what goes wrong.
    pub(super) step: Option<Step>,
    /// When, counted from the first Prepare.
    pub(super) at: Duration,
    /// For what the action itself leaves to chance.
    pub(super) rng: Rng,
}

impl Plan {
    /// Draws a round for pods with these addresses, by node and pod.
    pub(super) fn draw(
        seed: u64,
        number: u64,
        addresses: &[Vec<Vec<IpAddr>>],
    ) -> anyhow::Result<Self> {
        let mut rng = Rng::of_round(seed, number);
        let around: Vec<IpAddr> = addresses.iter().flatten().flatten().copied().collect();
        let count = rng.within(1..FAULTS_MAX + 1);
        let home = rng.index(NODES);
        let is_spread = rng.chance(60);
        let mut faults = Vec::new();
        for _ in 0..count {
            let node = if is_spread { rng.index(NODES) } else { home };
            faults.push(fault(&mut rng, node, &around)?);
        }
        let together = rng.chance(40);
        let spoiled_on = (together && rng.chance(12)).then(|| rng.index(NODES));
        let action = *rng.pick(Action::ALL);
        let step = (action == Action::Failpoint).then(|| *rng.pick(STEPS));
        // Where there is something to strike, mostly; sometimes everywhere, sometimes beside it.
        let struck = match rng.within(0..100) {
            0..20 => (0..NODES).collect(),
            20..90 => vec![faults[0].spot.node],
            _ => vec![rng.index(NODES)],
        };
        let lease = faults.iter().map(|f| f.lease).max().unwrap_or(LEASE_MIN);
        let lease_ms = u64::try_from(lease.as_millis()).unwrap_or(LEASE_MS_MAX);
        // Prepare, Commit and proof are a few milliseconds of a round: half of all is aimed at them.
        // Where somebody is to die at a step, there is time to get there.
        let early = step.is_none_or(|step| step.at_start) && rng.chance(50);
        let at = if early { rng.millis(0..25) } else { rng.millis(0..lease_ms * 5 / 4) };
        Ok(Self { number, faults, together, spoiled_on, action, struck, step, at, rng })
    }

    /// The pods that faults are on, each once.
    pub(super) fn spots(&self) -> Vec<Spot> {
        let mut spots: Vec<Spot> = self.faults.iter().map(|fault| fault.spot).collect();
        spots.sort_unstable();
        spots.dedup();
        spots
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "round {}: {}", self.number, self.action)?;
        if let Some(step) = self.step {
            write!(f, " {}", step.name)?;
        }
        write!(f, " after {:?} on nodes {:?}", self.at, self.struck)?;
        if self.together {
            write!(f, "; one run")?;
        }
        if let Some(node) = self.spoiled_on {
            write!(f, ", refused by node {node}")?;
        }
        for drawn in &self.faults {
            let Drawn { spot, id, fault, lease, lifetime, amend, .. } = drawn;
            let on = format!("node {} pod {}", spot.node, spot.pod);
            write!(f, "\n  {id} on {on}, lease {lease:?} of {lifetime:?}: {fault:?}")?;
            if let Some((after, fault)) = amend {
                write!(f, "\n    after {after:?}: {fault:?}")?;
            }
        }
        Ok(())
    }
}

fn fault(rng: &mut Rng, node: usize, addresses: &[IpAddr]) -> anyhow::Result<Drawn> {
    let info = rng.pick(KINDS);
    let pod = rng.index(PODS);
    let process = if pod == PLANTED { "sleep" } else { "echo" };
    let is_shared = pod == PLANTED;
    let around = Around { addresses, port: ECHO_PORT, process, is_shared };
    let fault = sample(rng, info, &around)?;
    let shortest = u64::try_from(LEASE_MIN.as_millis())?;
    let lease_ms = rng.within(shortest..LEASE_MS_MAX);
    let lifetime = Duration::from_millis(rng.within(lease_ms / 2..lease_ms * 2));
    let (id, lease) = (FaultId::from_bits(rng.bits()), Duration::from_millis(lease_ms));
    let after = rng.millis(0..AMEND_MS_MAX);
    let other = sample(rng, info, &around)?;
    let amend = rng.chance(20).then_some((after, other));
    let (kind, scope) = (info.name, info.scope);
    Ok(Drawn { spot: Spot { node, pod }, kind, id, scope, fault, lease, lifetime, amend })
}

fn sample(rng: &mut Rng, info: &KindInfo, around: &Around<'_>) -> anyhow::Result<Fault> {
    let wire = (info.sample)(rng, around);
    let fault = pb::Fault { kind: Some(wire) };
    Fault::try_from(fault.clone()).with_context(|| format!("{fault:?}"))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn addresses() -> Vec<Vec<Vec<IpAddr>>> {
        let address = |node, pod| vec![IpAddr::from([10, 244, node, pod])];
        (1..=2).map(|node| (2..5).map(|pod| address(node, pod)).collect()).collect()
    }

    fn text(seed: u64, number: u64) -> String {
        format!("{:?}", Plan::draw(seed, number, &addresses()).expect("a plan"))
    }

    #[test]
    fn a_round_is_the_same_whenever_it_is_drawn() {
        let all: Vec<String> = (0..50).map(|number| text(7, number)).collect();
        assert_eq!(text(7, 49), all[49], "without the rounds before it");
        assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), 50, "each is another");
        assert_ne!(text(8, 49), all[49], "of another seed");
    }

    #[test]
    fn every_kind_action_and_step_has_its_turn() {
        let (mut kinds, mut actions, mut steps) =
            (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
        let (mut spoiled, mut spread) = (0, 0);
        for number in 0..2_000 {
            let plan = Plan::draw(1, number, &addresses()).expect("a plan");
            kinds.extend(plan.faults.iter().map(|fault| fault.kind));
            steps.extend(plan.step.map(|step| step.name));
            actions.insert(plan.action);
            spoiled += u32::from(plan.spoiled_on.is_some());
            let nodes: BTreeSet<usize> = plan.faults.iter().map(|f| f.spot.node).collect();
            spread += u32::from(plan.together && nodes.len() > 1);
        }
        assert_eq!(kinds.len(), KINDS.len());
        assert_eq!(steps.len(), STEPS.len());
        assert!(Action::ALL.iter().all(|action| actions.contains(action)));
        assert!(spoiled > 20 && spread > 100, "{spoiled} {spread}");
    }
}
