//! Which agents a run is connected to.

use std::collections::BTreeSet;

use super::{one_line, one_lines};
use crate::{
    agents::{AgentError, Fleet},
    experiment::{Experiment, Probe},
    place::{Place, Pod},
    plan::Plan,
};

/// Connects to the agents of these nodes.
async fn connect_to(place: &Place, nodes: &BTreeSet<&str>) -> Result<Fleet, Vec<String>> {
    let endpoints: Vec<_> =
        place.agents().into_iter().filter(|agent| nodes.contains(agent.node.as_str())).collect();
    let has_agent = |node: &&&str| endpoints.iter().any(|agent| agent.node == ***node);
    let missing = nodes.iter().filter(|node| !has_agent(node)).map(|node| {
        let (node, why) = ((*node).to_owned(), place.why_no_agent(node));
        AgentError::Missing { node, why }
    });
    let missing: Vec<AgentError> = missing.collect();
    if !missing.is_empty() {
        return Err(one_lines(&missing));
    }
    if endpoints.is_empty() {
        return Ok(Fleet::default());
    }
    let credentials = place.credentials().await.map_err(|e| vec![one_line(&e)])?;
    Fleet::connect(&endpoints, &credentials).await.map_err(|errors| one_lines(&errors))
}

/// The pods that a probe is made from; none where it is made from here.
pub(super) fn observers<'a>(
    probe: &Probe,
    plan: &'a Plan,
    pods: &'a [Pod],
) -> impl Iterator<Item = &'a Pod> + use<'a> {
    let selection = probe.from.as_ref().and_then(|from| plan.targets.get(&from.value));
    selection.into_iter().flat_map(|selection| &selection.chosen).map(|index| &pods[*index])
}

/// Connects to the agents that a run begins with, those that observe among them; and where targets are
/// followed or have to be left healthy, or who observes may come back elsewhere, to the others, as far as they can be
/// reached now.
pub(super) async fn connect_for(
    experiment: &Experiment,
    place: &Place,
    plan: &Plan,
    pods: &[Pod],
) -> Result<Fleet, Vec<String>> {
    let mut nodes = plan.nodes();
    let observers = experiment.probes.iter().flat_map(|probe| observers(probe, plan, pods));
    nodes.extend(observers.map(|pod| pod.node.as_str()));
    let api = match place.cluster() {
        Some(cluster) if plan.needs_cluster() => {
            let injector = cluster.injector(experiment.safety.without_controller);
            Some(injector.map_err(|error| vec![one_line(&error)])?)
        }
        _ => None,
    };
    let with_api = |fleet: Fleet| match api {
        Some(api) => fleet.with_api(api),
        None => fleet,
    };
    let may_move = experiment.probes.iter().any(|probe| probe.from.is_some());
    let needs_healthy = experiment.blast_radius.min_healthy.is_some();
    if !experiment.follows() && !may_move && !needs_healthy {
        return connect_to(place, &nodes).await.map(with_api);
    }
    let agents = place.agents().into_iter();
    let others: Vec<_> = agents.filter(|agent| !nodes.contains(agent.node.as_str())).collect();
    if others.is_empty() {
        return connect_to(place, &nodes).await.map(with_api);
    }
    let credentials = place.credentials().await.map_err(|e| vec![one_line(&e)])?;
    let (fleet, (others, _)) =
        tokio::join!(connect_to(place, &nodes), Fleet::connect_some(&others, &credentials));
    let mut fleet = fleet?;
    fleet.join(others);
    Ok(with_api(fleet))
}
