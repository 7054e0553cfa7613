//! What is wrong with the disk of a journal, and what agents must do all the same: refuse new faults
//! with a clear reason, and change the kernel back.

use faultline::agents::ANSWER_MAX;
use faultline_proto::{id::FaultId, status::State};

use super::{
    attack::{Scene, revert},
    rng::Rng,
    settle::prepare,
};

/// How often a disk is filled up before a fault that is accepted all the same is a failure.
const FILLS_MAX: usize = 5;

/// With a full disk a fault is refused, and what there is can be reverted.
pub(super) async fn fill(
    scene: &Scene<'_>,
    position: usize,
    rng: &mut Rng,
) -> anyhow::Result<Vec<String>> {
    let node = &scene.pair.nodes[position];
    // A record of this round that is removed meanwhile makes room for another one: filled up again.
    let mut accepted = Vec::new();
    let mut said = Vec::new();
    for _ in 0..FILLS_MAX {
        node.fill_disk()?;
        let id = FaultId::from_bits(rng.bits());
        said = prepare(scene.pair, position, scene.fleet, scene.plan, id, false).await?;
        if !said.is_empty() {
            break;
        }
        accepted.push(id.to_string());
    }
    let mut problems = revert(scene).await;
    if !accepted.is_empty() {
        let ids = [(node.name.clone(), accepted)].into();
        let answers = scene.fleet.revert(&ids, ANSWER_MAX).await.into_values();
        problems.extend(answers.filter_map(Result::err).map(|e| e.to_string()));
    }
    node.free_disk()?;
    if said != ["journal"] {
        problems.push(format!("a full disk, and a fault is answered with {said:?}"));
    }
    Ok(problems)
}

/// With a disk that cannot be written to a fault is refused; what there is is taken back in the kernel,
/// and its record as soon as that is possible.
pub(super) async fn write_protect(
    scene: &Scene<'_>,
    position: usize,
    rng: &mut Rng,
) -> anyhow::Result<Vec<String>> {
    let node = &scene.pair.nodes[position];
    node.write_protect(true)?;
    let id = FaultId::from_bits(rng.bits());
    let said = prepare(scene.pair, position, scene.fleet, scene.plan, id, false).await;
    let mut problems = revert(scene).await;
    node.write_protect(false)?;
    // Records that could not be removed: a person asks once more.
    problems.extend(revert(scene).await);
    let answers = scene.fleet.list(ANSWER_MAX).await;
    for status in answers.into_values().filter_map(Result::ok).flatten() {
        if State::from_wire(status.state) == Some(State::Stuck) {
            problems.push(format!("the disk can be written to again, and there is {status:?}"));
        }
    }
    let said = said?;
    if said != ["journal"] {
        problems.push(format!("a read-only disk, and a fault is answered with {said:?}"));
    }
    Ok(problems)
}
