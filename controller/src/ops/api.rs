//! What is in effect through the API server: read off the records on the objects themselves, whoever put them there.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use futures::future::join_all;

use super::{
    Overview, Refused,
    overview::{Injected, Stuck},
};
use crate::{
    cluster::{
        Cluster,
        fault::{API_SERVER, Bearer, find, take_back},
    },
    place::Place,
    report::millis,
    run::one_line,
};

/// How long a halt goes on trying.
const HALT_MAX: Duration = Duration::from_secs(20);

/// What is in effect, where the place is a cluster.
pub(super) async fn ps(place: &Place) -> Overview {
    let mut overview = Overview::default();
    let Some(cluster) = place.cluster() else { return overview };
    note_missing(&mut overview, cluster);
    for bearer in bearers(&mut overview, cluster).await {
        match &bearer.undo {
            Ok(_) => overview.injections.push(injected(&bearer, "active", Vec::new())),
            Err(why) => overview.stuck.push(stuck(&bearer, why)),
        }
    }
    overview
}

/// Restores all of it at once, where the place is a cluster.
pub(super) async fn halt(place: &Place) -> Overview {
    let mut overview = Overview::default();
    let Some(cluster) = place.cluster() else { return overview };
    note_missing(&mut overview, cluster);
    let connection = cluster.connection();
    let restoring = bearers(&mut overview, cluster).await.into_iter().map(async |bearer| {
        let until = Instant::now() + HALT_MAX;
        let known = bearer.undo.as_ref().ok();
        let result = take_back(connection, &bearer.object, known, until).await;
        (bearer, result)
    });
    for (bearer, result) in join_all(restoring).await {
        match result {
            Ok(taken) => overview.injections.push(injected(&bearer, "reverted", taken.left)),
            Err(error) => overview.stuck.push(stuck(&bearer, &one_line(&error))),
        }
    }
    overview
}

async fn bearers(overview: &mut Overview, cluster: &Cluster) -> Vec<Bearer> {
    let (bearers, errors) = find(cluster.connection()).await;
    let refused =
        errors.iter().map(|error| Refused { node: API_SERVER.into(), reason: one_line(error) });
    overview.refused.extend(refused);
    bearers
}

/// Notes that there are no agents, which is no failure: there is nothing of theirs then.
fn note_missing(overview: &mut Overview, cluster: &Cluster) {
    if let Err(error) = cluster.installation() {
        overview.notes.push(format!("no agents were asked: {}", one_line(&error)));
    }
}

fn injected(bearer: &Bearer, state: &str, residue: Vec<String>) -> Injected {
    let undo = bearer.undo.as_ref().ok();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let left = undo
        .filter(|_| state == "active")
        .map(|undo| millis(Duration::from_millis(undo.deadline_unix_ms).saturating_sub(now)));
    Injected {
        node: API_SERVER.into(),
        fault_id: bearer.fault.clone(),
        run_id: undo.map(|undo| undo.run.clone()).unwrap_or_default(),
        kind: undo.map_or_else(|| "record".into(), |undo| undo.kind.clone()),
        target: bearer.object.to_string(),
        state: state.into(),
        // Only the run that looks for it knows.
        effect: "unknown".into(),
        lease_left_ms: None,
        deadline_left_ms: left,
        residue,
    }
}

fn stuck(bearer: &Bearer, why: &str) -> Stuck {
    Stuck {
        node: API_SERVER.into(),
        fault_id: bearer.fault.clone(),
        reason: format!("{}: {why}", bearer.object),
        acknowledged: false,
    }
}
