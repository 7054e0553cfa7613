//! What is in effect through the API server: read off the records on the objects themselves, whoever put them there.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use futures::future::join_all;
use tokio::time::sleep;

use super::{
    Overview, Refused, Resumed,
    overview::{Halted, Injected, Stuck},
};
use crate::{
    cluster::{
        Cluster, ClusterError,
        fault::{API_SERVER, Bearer, find, take_back},
    },
    place::Place,
    report::{millis, utc},
    run::one_line,
};

/// How long a halt goes on trying.
const HALT_MAX: Duration = Duration::from_secs(20);
/// How long after its deadline something may be in effect: a controller looks, writes, and looks again.
const OVERDUE: Duration = Duration::from_secs(30);
/// After this time is looked once more: a run that had asked whether there is a halt, right before it was kept, has
/// written what it was about to write.
const HALT_AGAIN: Duration = Duration::from_secs(1);

/// What is in effect, where the place is a cluster.
pub(super) async fn ps(place: &Place) -> Overview {
    let mut overview = Overview::default();
    let Some(cluster) = place.cluster() else { return overview };
    note_missing(&mut overview, cluster);
    match cluster.halted().await {
        Ok(reason) => overview.halted.extend(reason.map(halted)),
        Err(error) => overview.refused.push(refused(&error)),
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    for bearer in bearers(&mut overview, cluster).await {
        match &bearer.undo {
            Ok(_) => {
                // Whoever was to take it back has not.
                let late = is_overdue(&bearer, now).into_iter().collect();
                overview.injections.push(injected(&bearer, "active", late));
            }
            Err(why) => overview.stuck.push(stuck(&bearer, why)),
        }
    }
    overview
}

/// Restores all of it at once, where the place is a cluster, and keeps that nothing may be injected.
pub(super) async fn halt(place: &Place, reason: &str) -> Overview {
    let mut overview = Overview::default();
    let Some(cluster) = place.cluster() else { return overview };
    note_missing(&mut overview, cluster);
    // First, so that no run begins after the look.
    match cluster.halt(reason).await {
        Ok(true) => overview.halted.push(halted(reason.into())),
        Ok(false) => {
            let why =
                "no halt is kept for what goes through the API server, since nothing is installed";
            overview.notes.push(why.into());
        }
        Err(error) => overview.refused.push(refused(&error)),
    }
    let found = bearers(&mut overview, cluster).await;
    restore_all(&mut overview, cluster, found).await;
    sleep(HALT_AGAIN).await;
    let (late, _) = find(cluster.connection()).await;
    let known = |bearer: &Bearer| overview.stuck.iter().any(|stuck| stuck.fault_id == bearer.fault);
    let late: Vec<Bearer> = late.into_iter().filter(|bearer| !known(bearer)).collect();
    restore_all(&mut overview, cluster, late).await;
    overview
}

/// Lets runs inject through the API server again.
pub(super) async fn resume(place: &Place, resumed: &mut Resumed) {
    let Some(cluster) = place.cluster() else { return };
    match cluster.resume().await {
        Ok(true) => resumed.resumed.push(API_SERVER.into()),
        Ok(false) => {}
        Err(error) => resumed.not_resumed.push(refused(&error)),
    }
}

/// The same, where they may not for just this reason. What cannot be told stays as it is.
pub(super) async fn resume_halted_for(place: &Place, reason: &str) -> Vec<String> {
    let Some(cluster) = place.cluster() else { return Vec::new() };
    match cluster.halted().await {
        Ok(Some(kept)) if kept == reason && cluster.resume().await.is_ok() => {
            vec![API_SERVER.into()]
        }
        _ => Vec::new(),
    }
}

async fn restore_all(overview: &mut Overview, cluster: &Cluster, bearers: Vec<Bearer>) {
    let connection = cluster.connection();
    let restoring = bearers.into_iter().map(async |bearer| {
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
}

/// What is in effect past its deadline, a sentence for each, and why it is not known, where it is not.
pub(super) async fn overdue(cluster: &Cluster) -> (Vec<String>, Vec<String>) {
    let (bearers, errors) = find(cluster.connection()).await;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let overdue = bearers.iter().filter_map(|bearer| is_overdue(bearer, now)).collect();
    (overdue, errors.iter().map(|error| one_line(error)).collect())
}

/// What should have been taken back before `now`, in a sentence.
fn is_overdue(bearer: &Bearer, now: Duration) -> Option<String> {
    let what = match &bearer.undo {
        Ok(undo) => {
            let deadline = Duration::from_millis(undo.deadline_unix_ms);
            if deadline + OVERDUE > now {
                return None;
            }
            format!("bears a {} that was to be taken back at {}", undo.kind, utc(deadline))
        }
        Err(why) => why.clone(),
    };
    Some(format!("{}: {what}; `faultline halt` restores what can be", bearer.object))
}

async fn bearers(overview: &mut Overview, cluster: &Cluster) -> Vec<Bearer> {
    let (bearers, errors) = find(cluster.connection()).await;
    overview.refused.extend(errors.iter().map(refused));
    bearers
}

fn refused(error: &ClusterError) -> Refused {
    Refused { node: API_SERVER.into(), reason: one_line(error) }
}

fn halted(reason: String) -> Halted {
    Halted { node: API_SERVER.into(), reason }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::fault::{Object, ObjectKind, Undo};

    #[test]
    fn what_should_have_been_taken_back_is_overdue() {
        let bearer = |undo| Bearer {
            object: Object {
                kind: ObjectKind::Node,
                namespace: None,
                name: "node1".into(),
                uid: None,
            },
            fault: "f".into(),
            undo,
        };
        let held = bearer(Ok(Undo::new("r", "f", "cordon", 100_000, Vec::new())));
        assert_eq!(is_overdue(&held, Duration::from_secs(110)), None, "whoever restores is at it");
        let why = is_overdue(&held, Duration::from_secs(131)).expect("overdue");
        assert!(why.contains("bears a cordon that was to be taken back at "), "{why}");
        assert!(is_overdue(&bearer(Err("its record is gone".into())), Duration::ZERO).is_some());
    }
}
