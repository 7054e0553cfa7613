//! What happens in a round: drawn from the seed and the round's number alone.

use std::{net::IpAddr, time::Duration};

use anyhow::Context as _;
use faultline_agent::failpoint::{STEPS, Step};
use faultline_proto::{
    fault::{Fault, KINDS, Scope},
    id::FaultId,
    limits::LEASE_MIN,
    pb,
};

use super::{action::Action, kinds, rng::Rng};

/// The pods of a node, by position: two echoes, and the one with foreign objects in its container.
pub(super) const PODS: usize = 3;
/// The pod whose container is never killed, because what is planted in it would go with it.
pub(super) const PLANTED: usize = 2;

/// Faults in one round, at most.
const FAULTS_MAX: u64 = 3;
/// The longest lease, in milliseconds: a round lasts about as long.
const LEASE_MS_MAX: u64 = 1_200;

/// A fault of a round.
#[derive(Debug, Clone)]
pub(super) struct Drawn {
    /// The pod's position.
    pub(super) pod: usize,
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
    /// What it is changed into, and how long after its Commit was answered. Of kinds that cannot be
    /// changed this is refused.
    pub(super) amended: Option<(Duration, Fault)>,
}

/// A round, before it happens.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    /// The round's number.
    pub(super) number: u64,
    /// Its faults, in the order in which they are prepared.
    pub(super) faults: Vec<Drawn>,
    /// What goes wrong meanwhile.
    pub(super) action: Action,
    /// The step at which the agent dies, where that is what goes wrong.
    pub(super) step: Option<Step>,
    /// When, counted from the first Prepare.
    pub(super) at: Duration,
    /// For what the action itself leaves to chance.
    pub(super) rng: Rng,
}

/// Fails where the catalogue has a kind that nothing here can draw.
pub(super) fn check_catalogue() -> anyhow::Result<()> {
    for kind in KINDS {
        kinds::generator(kind.name).with_context(|| {
            format!(
                "the torture test cannot draw the fault kind {}: teach it in kinds.rs",
                kind.name
            )
        })?;
    }
    Ok(())
}

impl Plan {
    /// Draws a round for pods with these addresses.
    pub(super) fn draw(seed: u64, number: u64, addresses: &[Vec<IpAddr>]) -> anyhow::Result<Self> {
        let mut rng = Rng::of_round(seed, number);
        let count = rng.within(1..FAULTS_MAX + 1);
        let faults: Vec<Drawn> =
            (0..count).map(|_| fault(&mut rng, addresses)).collect::<anyhow::Result<_>>()?;
        let action = *rng.pick(Action::ALL);
        let step = (action == Action::Failpoint).then(|| *rng.pick(STEPS));
        let lease = faults.iter().map(|f| f.lease).max().unwrap_or(LEASE_MIN);
        let lease_ms = u64::try_from(lease.as_millis()).unwrap_or(LEASE_MS_MAX);
        // Prepare, Commit and proof are a few milliseconds of a round: half of all is aimed at them.
        // Where the agent is to die at a step, it has time to get there.
        let early = step.is_none_or(|step| step.at_start) && rng.chance(50);
        let at = if early { rng.millis(0..25) } else { rng.millis(0..lease_ms * 5 / 4) };
        Ok(Self { number, faults, action, step, at, rng })
    }
}

fn fault(rng: &mut Rng, addresses: &[Vec<IpAddr>]) -> anyhow::Result<Drawn> {
    let kind = rng.pick(KINDS).name;
    let pod = rng.index(PODS);
    let generator = kinds::generator(kind).context("a kind without a generator")?;
    let around = kinds::Around { pod, addresses };
    let draw = |rng: &mut Rng| {
        let (scope, wire) = generator(rng, &around);
        let fault = Fault::try_from(pb::Fault { kind: Some(wire.clone()) });
        fault.with_context(|| format!("{wire:?}")).map(|fault| (scope, fault))
    };
    let (scope, fault) = draw(rng)?;
    let shortest = u64::try_from(LEASE_MIN.as_millis())?;
    let lease_ms = rng.within(shortest..LEASE_MS_MAX);
    let lifetime = Duration::from_millis(rng.within(lease_ms / 2..lease_ms * 2));
    let (id, lease) = (FaultId::from_bits(rng.bits()), Duration::from_millis(lease_ms));
    let amended = if rng.chance(50) { Some((rng.millis(0..100), draw(rng)?.1)) } else { None };
    Ok(Drawn { pod, kind, id, scope, fault, lease, lifetime, amended })
}
