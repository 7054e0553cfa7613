//! Which agents a run is connected to.

use super::{one_line, one_lines};
use crate::{agents::Fleet, experiment::Experiment, place::Place, plan::Plan};

/// Connects to the agents that a plan needs.
pub(super) async fn connect(place: &Place, plan: &Plan) -> Result<Fleet, Vec<String>> {
    let nodes = plan.nodes();
    let endpoints: Vec<_> =
        place.agents().into_iter().filter(|agent| nodes.contains(agent.node.as_str())).collect();
    let credentials = place.credentials().map_err(|e| vec![one_line(&e)])?;
    Fleet::connect(&endpoints, &credentials).await.map_err(|errors| one_lines(&errors))
}

/// Connects to the agents that a run begins with; and where targets are followed or have to be left
/// healthy, to the others, as far as they can be reached now.
pub(super) async fn connect_for(
    experiment: &Experiment,
    place: &Place,
    plan: &Plan,
) -> Result<Fleet, Vec<String>> {
    if !experiment.follows() && experiment.blast_radius.min_healthy.is_none() {
        return connect(place, plan).await;
    }
    let nodes = plan.nodes();
    let agents = place.agents().into_iter();
    let others: Vec<_> = agents.filter(|agent| !nodes.contains(agent.node.as_str())).collect();
    let credentials = place.credentials().map_err(|e| vec![one_line(&e)])?;
    let (fleet, (others, _)) =
        tokio::join!(connect(place, plan), Fleet::connect_some(&others, &credentials));
    let mut fleet = fleet?;
    fleet.join(others);
    Ok(fleet)
}
