//! Probes that agents make from pods: one for each pod, and what is told of one that goes on from another pod, because its
//! own has gone.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};

use super::{Ended, Run, connect};
use crate::{
    experiment::{Probe, ProbeKind},
    place::{Place, Pod},
    plan::{Observers, Plan},
    probe::{self, Move, Observer, Running},
    report::{MoveReport, journal::Event},
};

/// The pods that probes of a run are made from.
#[derive(Debug)]
pub(super) struct FromPods {
    all: Arc<Mutex<Observers>>,
    tell: UnboundedSender<Move>,
    told: UnboundedReceiver<Move>,
    /// What was heard so far.
    moves: Vec<Move>,
}

impl Default for FromPods {
    fn default() -> Self {
        Self::new(&[])
    }
}

impl FromPods {
    /// Nobody yet, of the pods that a run begins with.
    pub(super) fn new(pods: &[Pod]) -> Self {
        let (tell, told) = mpsc::unbounded_channel();
        let all = Arc::new(Mutex::new(Observers::new(pods)));
        Self { all, tell, told, moves: Vec::new() }
    }

    /// From which other pods a probe went on.
    pub(super) fn moves_of(&self, probe: &str) -> Vec<MoveReport> {
        self.moves.iter().filter(|one| one.probe == probe).map(MoveReport::from).collect()
    }
}

impl Run<'_> {
    /// Starts a probe from each of the pods of its target.
    pub(super) fn start_from_pods(
        &mut self,
        probe: &Probe,
        place: &Arc<Place>,
        plan: &Plan,
        pods: &[Pod],
    ) -> Result<(), Ended> {
        let (Some(from), ProbeKind::Network(spec)) = (&probe.from, &probe.kind) else {
            return Ok(());
        };
        let target = self.experiment.targets.get(&from.value);
        let chosen: Vec<&Pod> = connect::observers(probe, plan, pods).collect();
        let Some(target) = target.filter(|_| !chosen.is_empty()) else {
            let why = format!("probe `{}`: target `{}` is nobody", probe.name, from.value);
            return Err(Ended::Refused(vec![why]));
        };
        for pod in chosen {
            let all = Arc::clone(&self.from_pods.all);
            let seat = all.lock().unwrap_or_else(PoisonError::into_inner).seat(pod, target);
            let remote = probe::Remote {
                place: Arc::clone(place),
                fleet: Arc::clone(&self.fleet),
                observer: Observer::new(&all, seat),
                spec: spec.clone(),
                moves: self.from_pods.tell.clone(),
            };
            let seen = Probe { name: probe.name_from(&pod.target()), ..probe.clone() };
            let running = Running::start_from(seen, remote, pod, self.origin);
            self.take_probe(&probe.name, running);
        }
        Ok(())
    }

    /// Takes in which probes go on from other pods, and says so.
    pub(super) fn hear_moves(&mut self) {
        while let Ok(one) = self.from_pods.told.try_recv() {
            let Move { probe, to, from, .. } = &one;
            let text = format!("probe `{probe}` goes on from {to}, in the place of {from}");
            self.console.say("observe", &text);
            let MoveReport { pod, instead_of, since_ms } = MoveReport::from(&one);
            self.recorder.tell(Event::Moved { probe: probe.clone(), pod, instead_of, since_ms });
            self.from_pods.moves.push(one);
        }
    }
}
