//! What probes observed in a run that has no end, measured again from the attempts in its journal by the
//! same code that measures a run that goes on.

use std::{collections::BTreeMap, time::Duration};

use faultline_probe::Sample;
use faultline_proto::yaml::Source;

use super::{Begun, Event, Journal, Phase};
use crate::{
    experiment::{self, Experiment, Probe},
    probe::{Fold, Times},
    report::{DowntimeReport, ProbeReport},
    run::{over_all, probe_report},
};

/// The experiment, as its text is in the journal; `None` if this version finds mistakes in it.
pub(super) fn experiment(begun: &Begun) -> Option<Experiment> {
    let source = Source { name: begun.file.clone(), text: begun.source.clone() };
    let loaded = experiment::load_source(source).ok()?.into_iter();
    let mut experiments = loaded.map(|loaded| loaded.experiment);
    experiments.find(|experiment| experiment.name == begun.experiment)
}

/// What was observed until the journal ends, and for how long anything failed.
pub(super) fn probes(
    journal: &Journal,
    experiment: &Experiment,
) -> (Vec<ProbeReport>, Option<DowntimeReport>) {
    let times = times(journal);
    let mut samples: BTreeMap<&str, Vec<Sample>> = BTreeMap::new();
    for line in &journal.lines {
        if let Event::Sample(sample) = &line.event {
            samples.entry(&sample.probe).or_default().push(sample.clone().sample());
        }
    }
    let seen: Vec<Probe> =
        experiment.probes.iter().flat_map(|probe| seen(probe, samples.keys())).collect();
    let measured: Vec<(&Probe, Fold)> = seen
        .iter()
        .map(|probe| {
            let mut fold = Fold::new(probe);
            let mut samples = samples.remove(probe.name.as_str()).unwrap_or_default();
            samples.sort_by_key(|sample| sample.began);
            for sample in &samples {
                fold.push(sample, &times);
            }
            (probe, fold)
        })
        .collect();
    let reports =
        measured.iter().map(|(probe, fold)| probe_report(probe, fold, &times, false)).collect();
    let until = times.ended.unwrap_or_default();
    let downtime = (!measured.is_empty()).then(|| over_all(&measured, until).into());
    (reports, downtime)
}

/// A probe as it was recorded: once for each pod that it was made from, where it was.
fn seen<'a>(probe: &Probe, recorded: impl Iterator<Item = &'a &'a str>) -> Vec<Probe> {
    if probe.from.is_none() {
        return vec![probe.clone()];
    }
    let of_probe = |name: &&&str| name.split_once('@').is_some_and(|(own, _)| own == probe.name);
    let named = |name: &&str| Probe { name: (*name).to_owned(), ..probe.clone() };
    recorded.filter(of_probe).map(named).collect()
}

/// The points in time that measures are taken between, as far as the journal goes.
fn times(journal: &Journal) -> Times {
    let mut times = Times::default();
    for line in &journal.lines {
        let at = Duration::try_from_secs_f64(line.at_ms / 1e3).unwrap_or_default();
        times.ended = Some(at);
        match &line.event {
            Event::Phase { phase: Phase::Steady, .. } => times.steady_from = Some(at),
            Event::Phase { phase: Phase::Inject | Phase::Wait | Phase::Quiet, .. } => {
                times.steady_to.get_or_insert(at);
            }
            Event::Ordered { .. } => {
                times.injected.get_or_insert(at);
            }
            Event::Phase { phase: Phase::Recovery, .. } => {
                times.method_end = Some(at);
                times.recover_from = Some(at);
            }
            _ => {}
        }
    }
    times
}
