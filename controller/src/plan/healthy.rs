//! How many pods of each owner stay up and are not hit. Pure.

use std::collections::{BTreeMap, BTreeSet};

use faultline_proto::fault::Hold;

use super::{PlanError, PlannedFault};
use crate::{experiment::Experiment, place::Pod};

/// An owner, as a person knows it, and the pods that it should have.
type Owners<'p> = BTreeMap<String, Vec<&'p Pod>>;

/// Pods by what made them: where a place does not know, pods alike in namespace and labels are one's.
fn owners(pods: &[Pod]) -> Owners<'_> {
    let mut owners = Owners::new();
    for pod in pods {
        let labels = || pod.labels.iter().map(|(name, value)| format!("{name}={value}"));
        let labels = || labels().collect::<Vec<_>>().join(",");
        let owner = pod.owner.clone().unwrap_or_else(labels);
        owners.entry(format!("{}/{owner}", pod.namespace)).or_default().push(pod);
    }
    owners
}

/// Whether a pod is up and stays: it has an address, a container where others of its owner have one, and is not
/// known to be unready or about to be deleted.
fn is_up(pod: &Pod, of_owner: &[&Pod]) -> bool {
    let knows_containers = of_owner.iter().any(|pod| !pod.containers.is_empty());
    let stays = !pod.terminating && pod.ready != Some(false);
    stays && !pod.addresses.is_empty() && (!knows_containers || !pod.containers.is_empty())
}

/// The owner with the fewest pods left by one of the steps, and how many that are; `None`: none is hit.
///
/// A fault that is over at once leaves its pods down for the steps after it, as far as can be known.
/// `away` are the uids of pods that do not count: somebody else's fault is on them, or nobody knows.
///
/// # Errors
/// When that is fewer than the experiment wants to be healthy.
pub fn fewest_healthy<'f>(
    experiment: &Experiment,
    steps: impl IntoIterator<Item = &'f [PlannedFault]>,
    pods: &[Pod],
    away: &BTreeSet<String>,
) -> Result<Option<(String, usize)>, PlanError> {
    let owners = owners(pods);
    let mut down: BTreeSet<&str> = away.iter().map(String::as_str).collect();
    let mut fewest: Option<(String, usize)> = None;
    for faults in steps {
        let injections = || faults.iter().flat_map(|fault| &fault.injections);
        let hit: BTreeSet<&str> = injections().flat_map(|i| &i.hits).map(String::as_str).collect();
        for (owner, all) in &owners {
            if !all.iter().any(|pod| hit.contains(pod.uid.as_str())) {
                continue;
            }
            let is_left = |pod: &&&Pod| {
                let uid = pod.uid.as_str();
                is_up(pod, all) && !hit.contains(uid) && !down.contains(uid)
            };
            let left = all.iter().filter(is_left).count();
            if fewest.as_ref().is_none_or(|(_, least)| left < *least) {
                fewest = Some((format!("{owner} ({} pods)", all.len()), left));
            }
        }
        let instant = injections().filter(|i| i.fault.hold() == Hold::Instant);
        down.extend(instant.flat_map(|i| &i.hits).map(String::as_str));
    }
    if let (Some(min), Some((owner, left))) = (&experiment.blast_radius.min_healthy, &fewest)
        && *left < usize::try_from(min.value).unwrap_or(usize::MAX)
    {
        return Err(PlanError::BlastRadius {
            rule: "minHealthy",
            asked: format!("{left} healthy of {owner}"),
            limit: min.value.to_string(),
            span: min.span,
        });
    }
    Ok(fewest)
}
