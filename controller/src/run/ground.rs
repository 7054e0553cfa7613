//! What a place is asked before anything is planned in it: who leads, and whom no fault may be on.

use std::collections::BTreeMap;

use super::{leaders, one_line};
use crate::{
    cluster::{Cluster, names},
    experiment::{ALWAYS_PROTECTED, Experiment, FaultSpec, Leaf},
    place::{Needs, Place, Pod},
    plan::{Ground, Guard, OptIn},
};

/// Asks. Returns the pods that there are now, too.
///
/// # Errors
/// When a place does not tell what is needed.
pub(super) async fn survey(
    experiment: &Experiment,
    place: &Place,
) -> Result<(Vec<Pod>, Ground), Vec<String>> {
    let said = |error| vec![one_line(&error)];
    place.provide(Needs::of(experiment)).await.map_err(said)?;
    let guard = match place.cluster() {
        Some(cluster) => of_cluster(experiment, cluster).await.map_err(said)?,
        None => Guard { opt_in: opt_in(experiment), ..Guard::default() },
    };
    let pods = place.pods();
    let leaders = leaders::ask(experiment, place, &pods).await;
    let aside = place.cluster().map(Cluster::pods_aside).unwrap_or_default();
    Ok((pods, Ground { leaders, guard, aside }))
}

fn opt_in(experiment: &Experiment) -> Option<OptIn> {
    let span = experiment.safety.opt_in?;
    Some(OptIn { asked_by: "`safety.optIn`".into(), span: Some(span), ..OptIn::default() })
}

/// Whether a fault is on nodes as such.
fn changes_nodes(experiment: &Experiment) -> bool {
    let injects = experiment.leaves().flat_map(|leaf| match leaf {
        Leaf::Inject(injects) => injects,
        Leaf::Rest => &[],
    });
    let mut injects = injects.into_iter();
    injects.any(|inject| matches!(&inject.spec, FaultSpec::Api(spec) if spec.is_on_nodes()))
}

async fn of_cluster(
    experiment: &Experiment,
    cluster: &Cluster,
) -> Result<Guard, crate::cluster::ClusterError> {
    let mut namespaces = BTreeMap::new();
    for name in ALWAYS_PROTECTED {
        if !experiment.safety.allowed_namespaces.contains(name) {
            let what_to_do = format!(
                "; `safety.allowProtectedNamespaces: [{name}]` allows it, beside the `requirePlace` of this cluster"
            );
            namespaces.insert(name.to_owned(), what_to_do);
        }
    }
    let own = "; Faultline itself is there, which takes every fault back".to_owned();
    let installation = cluster.installation().ok();
    namespaces.extend(installation.iter().map(|installation| (installation.clone(), own.clone())));
    let policy = cluster.requires_opt_in().await?.then(|| OptIn {
        asked_by: format!(
            "{}=true on the Secret {}/{}",
            names::OPT_IN_ANNOTATION,
            installation.unwrap_or_default(),
            names::CONTROLLER_SECRET
        ),
        ..OptIn::default()
    });
    let opt_in = match opt_in(experiment).or(policy) {
        Some(opt_in) => Some(OptIn { namespaces: cluster.enabled_namespaces().await?, ..opt_in }),
        None => None,
    };
    let nodes =
        if changes_nodes(experiment) { cluster.nodes_of_faults().await? } else { BTreeMap::new() };
    Ok(Guard { namespaces, opt_in, nodes })
}
