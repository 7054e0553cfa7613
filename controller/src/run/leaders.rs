//! Who leads, asked of whoever knows it, before anything is planned.

use std::{collections::BTreeSet, time::Duration};

use faultline_proto::probe::Pattern;
use futures::{StreamExt as _, stream};

use super::one_line;
use crate::{
    experiment::{Experiment, Leader, Mode, Selector},
    place::{Place, Pod},
    plan::{Leaders, candidates, holder_of},
};

/// How long a command may take that says whether a pod leads.
const ANSWER_MAX: Duration = Duration::from_secs(10);
/// Commands that run at the same time.
const COMMANDS_MAX: usize = 8;

/// Asks for every target whose leader is not known by a look at the pods.
pub(super) async fn ask(experiment: &Experiment, place: &Place, pods: &[Pod]) -> Leaders {
    let mut leaders = Leaders::default();
    for (name, selector) in &experiment.targets {
        let Mode::Leader(leader) = &selector.mode else { continue };
        if leader.is_asked() {
            leaders.0.insert(name.clone(), leads(leader, selector, place, pods).await);
        }
    }
    leaders
}

/// The uid of the one that leads.
async fn leads(
    leader: &Leader,
    selector: &Selector,
    place: &Place,
    pods: &[Pod],
) -> Result<String, String> {
    let candidates: Vec<&Pod> =
        candidates(selector, pods).into_iter().map(|index| &pods[index]).collect();
    match leader {
        Leader::Command { command, says } => {
            by_command(command, says.as_ref(), place, &candidates).await
        }
        Leader::Lease(name) => {
            let what = format!("the Lease `{name}`");
            by_election(&what, place, &candidates, async |cluster, namespace| {
                cluster.lease_holder(namespace, name).await
            })
            .await
        }
        Leader::Endpoints(name) => {
            let what = format!("the election of the Endpoints `{name}`");
            by_election(&what, place, &candidates, async |cluster, namespace| {
                cluster.endpoints_leader(namespace, name).await
            })
            .await
        }
        Leader::Label { .. } | Leader::Annotation { .. } => {
            Err("a label or an annotation is not asked for".into())
        }
    }
}

async fn by_election(
    what: &str,
    place: &Place,
    candidates: &[&Pod],
    holder: impl AsyncFnOnce(
        &crate::cluster::Cluster,
        &str,
    ) -> Result<Option<String>, crate::cluster::ClusterError>,
) -> Result<String, String> {
    let Some(cluster) = place.cluster() else {
        return Err(format!("{what} is only known in a cluster, and this is {}", place.describe()));
    };
    let namespaces: BTreeSet<&str> = candidates.iter().map(|pod| pod.namespace.as_str()).collect();
    let namespace = match namespaces.iter().collect::<Vec<_>>().as_slice() {
        [] => return Err("no pod matches".into()),
        [one] => **one,
        several => {
            let all = several.iter().map(|one| **one).collect::<Vec<_>>().join(", ");
            return Err(format!(
                "{what} is of one namespace, and the pods that match are in {all}; write `namespace`"
            ));
        }
    };
    let holder = holder(cluster, namespace).await.map_err(|error| one_line(&error))?;
    let what = format!("{what} in namespace {namespace}");
    holder_of(&what, holder.as_deref(), candidates.iter().copied()).map(|pod| pod.uid.clone())
}

/// Runs the command in each of them: the leader is the one in which it does as is asked.
async fn by_command(
    command: &[String],
    says: Option<&Pattern>,
    place: &Place,
    candidates: &[&Pod],
) -> Result<String, String> {
    let answer = async |pod: &Pod| {
        let outcome = place.exec(pod, command, ANSWER_MAX).await;
        let is_leader = outcome.map_err(|error| one_line(&error)).map(|outcome| {
            outcome.code == 0 && says.is_none_or(|says| says.find(&outcome.stdout).is_some())
        });
        (pod.target().to_string(), pod.uid.clone(), is_leader)
    };
    let answers = stream::iter(candidates).map(|pod| answer(pod)).buffered(COMMANDS_MAX);
    let answers: Vec<_> = answers.collect().await;
    let (mut leaders, mut silent) = (Vec::new(), Vec::new());
    for (name, uid, answer) in answers {
        match answer {
            Ok(true) => leaders.push((name, uid)),
            Ok(false) => {}
            Err(why) => silent.push(format!("{name}: {why}")),
        }
    }
    // Of one that does not answer nobody knows whether it leads as well.
    if !silent.is_empty() {
        return Err(format!("it could not be asked who leads: {}", silent.join("; ")));
    }
    let asked = candidates.len();
    let program = command.first().map(String::as_str).unwrap_or_default();
    match leaders.as_slice() {
        [(_, uid)] => Ok(uid.clone()),
        [] => Err(format!("`{program}` says in none of the {asked} pods that match that it leads")),
        several => {
            let names: Vec<&str> = several.iter().map(|(name, _)| name.as_str()).collect();
            Err(format!(
                "`{program}` says in {} of the {asked} pods that match that they lead, not in one: {}",
                several.len(),
                names.join(", ")
            ))
        }
    }
}
