//! The phases of a run, in their order: what is asked and begun before the first step, the method, the recovery.

use std::{collections::BTreeMap, sync::Arc};

use faultline_probe::HostDialer;

use super::{
    Ended, Run, connect::connect_for, follow::Following, ground, inject, observers::FromPods,
    one_lines, pods::Pods, preflight, said_at, watch,
};
use crate::{
    cluster::ObjectWatch,
    experiment::{Experiment, ProbeKind},
    place::{Place, Pod},
    plan::{Follower, Plan, PlannedStep},
    probe::{self, CurrentPod, Running},
    report::journal::{Event, Phase},
};

impl Run<'_> {
    /// From the first look to the recovery.
    pub(super) async fn phases(&mut self, place: &Arc<Place>) -> Result<(), Ended> {
        self.phase(Phase::Preflight, None);
        let (experiment, ends) = (self.experiment, self.ends.clone());
        let fences = ends.unless(preflight::fences(experiment, place)).await?;
        let refused = fences.check();
        refused.map_err(|refused| Ended::Refused(and_the_plan(refused, experiment, place)))?;
        let objects = preflight::objects(experiment, place);
        let (rules, objects) = ends.unless(objects).await?;
        rules.check().map_err(Ended::Refused)?;
        let survey = ends.unless(ground::survey(experiment, place)).await?;
        let (pods, ground) = survey.map_err(Ended::Refused)?;
        self.note_apps(&pods);
        let plan = Plan::on(experiment, &pods, &ground)
            .map_err(|e| Ended::Refused(vec![said_at(experiment, &e)]))?;
        let budgets = preflight::budgets(experiment, place, &plan, &pods, false);
        ends.unless(budgets).await?.check().map_err(Ended::Refused)?;
        for (name, selection) in &plan.targets {
            let names: Vec<String> =
                selection.chosen.iter().map(|i| pods[*i].target().to_string()).collect();
            self.console.say("target", &format!("{name}: {}", names.join(", ")));
            self.recorder.tell(Event::Target { name: name.clone(), chosen: names });
        }
        let connecting = connect_for(self.experiment, place, &plan, &pods);
        let fleet = ends.unless(connecting).await?.map_err(Ended::Refused)?;
        self.fleet = Arc::new(fleet);
        self.record_agents();
        ends.unless(self.preflight(&plan, &pods)).await??;
        let run = self.id.to_string();
        // Not to be dropped half done: what has been claimed is to be given back.
        self.claims = preflight::claim(experiment, place, &plan, &pods, &run, &ends)
            .await
            .map_err(Ended::Refused)?;
        self.pods = Pods::watch(place, &self.experiment.targets, self.recorder);
        self.from_pods = FromPods::new(&pods);
        self.start_probes(place, &plan, &pods, objects)?;
        self.steady_state().await?;
        let follower = Follower::new(self.experiment, &plan, &pods).with_away(self.away.clone());
        self.following = Some(Following::new(follower, place));
        self.method().await?;
        self.times.method_end = Some(self.now());
        self.recovery().await?;
        self.pods_back().await
    }

    /// Looks at the rules that agents are asked for, and has every step planned by the agents before the first one is begun.
    async fn preflight(&mut self, plan: &Plan, pods: &[Pod]) -> Result<(), Ended> {
        let fleet = Arc::clone(&self.fleet);
        let (rules, away) = preflight::agents(self.experiment, plan, pods, &fleet, self.id).await;
        rules.check().map_err(Ended::Refused)?;
        self.away = away;
        for step in &plan.steps {
            let PlannedStep::Inject(faults) = step else { continue };
            let wired = inject::wire(&self.fleet, self.experiment.lease, faults)
                .map_err(|e| Ended::Refused(vec![e]))?;
            let planned = self.fleet.prepare(self.id, &wired, true).await;
            planned.map_err(|errors| Ended::Refused(one_lines(&errors)))?;
        }
        Ok(())
    }

    fn start_probes(
        &mut self,
        place: &Arc<Place>,
        plan: &Plan,
        pods: &[Pod],
        mut objects: BTreeMap<String, ObjectWatch>,
    ) -> Result<(), Ended> {
        let (dialer, targets) = (HostDialer::default(), &self.experiment.targets);
        for probe in &self.experiment.probes {
            if probe.from.is_some() {
                self.start_from_pods(probe, place, plan, pods)?;
                continue;
            }
            let exec_pod = match &probe.kind {
                ProbeKind::Exec(exec) => {
                    let target = &exec.target;
                    let selection = plan.targets.get(&target.value);
                    let first = selection.and_then(|selection| selection.chosen.first());
                    let pod = first.map(|i| CurrentPod::new(pods[*i].clone()));
                    let known = pod.iter().map(|pod| (target.value.clone(), pod.clone()));
                    self.exec_pods.extend(known);
                    pod
                }
                ProbeKind::Network(_) | ProbeKind::Pods(_) | ProbeKind::Kubernetes(_) => None,
            };
            let object = objects.remove(&probe.name);
            let target = probe::Target::new(&probe.kind, place, exec_pod, object, &dialer, targets);
            let target = target
                .map_err(|why| Ended::Refused(vec![format!("probe `{}`: {why}", probe.name)]))?;
            self.take_probe(&probe.name, Running::start(probe.clone(), target, self.origin));
        }
        Ok(())
    }

    /// Watches and records a probe that runs, of this name in the experiment.
    pub(super) fn take_probe(&mut self, name: &str, running: Running) {
        let conditions = watch::conditions_on(name, &running, self.experiment, self.origin);
        self.watched.extend(conditions);
        self.taps.add(self.recorder, &running);
        self.probes.push(running);
    }
}

/// What else speaks against a run that is refused already: whoever is refused is told all of it at once. A cluster that may
/// be the wrong one is asked nothing for that.
pub(super) fn and_the_plan(
    mut refused: Vec<String>,
    experiment: &Experiment,
    place: &Place,
) -> Vec<String> {
    if place.cluster().is_none()
        && let Err(error) = Plan::new(experiment, &place.pods())
    {
        refused.push(said_at(experiment, &error));
    }
    refused
}
