//! What probes observed in a run that has no end, measured again from the attempts in its journal by the
//! same code that measures a run that goes on.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use faultline_probe::Sample;
use faultline_proto::yaml::Source;

use super::{Begun, Event, Journal, Line, Phase};
use crate::{
    experiment::{self, Experiment, Probe, is_made_from},
    probe::{Fold, Times},
    report::{DowntimeReport, MoveReport, ProbeReport},
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
    let times = times(&journal.lines);
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
    let report = |(probe, fold): &(&Probe, Fold)| ProbeReport {
        moves: moves(journal, &probe.name),
        ..probe_report(probe, fold, &times, false)
    };
    let reports = measured.iter().map(report).collect();
    let until = times.ended.unwrap_or_default();
    let downtime = (!measured.is_empty()).then(|| over_all(&measured, until).into());
    (reports, downtime)
}

/// From which other pods a probe went on.
fn moves(journal: &Journal, name: &str) -> Vec<MoveReport> {
    let of_event = |event: &Event| match event {
        Event::Moved { probe, pod, instead_of, since_ms } if probe == name => Some(MoveReport {
            pod: pod.clone(),
            instead_of: instead_of.clone(),
            since_ms: *since_ms,
        }),
        _ => None,
    };
    journal.lines.iter().filter_map(|line| of_event(&line.event)).collect()
}

/// A probe as it was recorded: once for each pod that it was made from, where it was.
fn seen<'a>(probe: &Probe, recorded: impl Iterator<Item = &'a &'a str>) -> Vec<Probe> {
    if probe.from.is_none() {
        return vec![probe.clone()];
    }
    let of_probe = |name: &&&str| is_made_from(name, &probe.name);
    let named = |name: &&str| Probe { name: (*name).to_owned(), ..probe.clone() };
    recorded.filter(of_probe).map(named).collect()
}

/// The points in time that measures are taken between, as far as the journal goes: as a run notes them.
fn times(lines: &[Line]) -> Times {
    let run_time = |ms: f64| Duration::try_from_secs_f64(ms / 1e3).unwrap_or_default();
    let mut times = Times::default();
    let mut instant: BTreeSet<&str> = BTreeSet::new();
    // Of the step that was begun last: what it injects, whether an agent told when, what was reverted.
    let mut step: BTreeSet<&str> = BTreeSet::new();
    let (mut told, mut reverted) = (false, None);
    for line in lines {
        let at = run_time(line.at_ms);
        times.ended = Some(at);
        match &line.event {
            Event::Phase { phase: Phase::Steady, .. } => times.steady_from = Some(at),
            Event::Phase { phase: Phase::Wait | Phase::Quiet, .. } => {
                times.steady_to.get_or_insert(at);
            }
            Event::Prepared(prepared) if prepared.lasts_ms <= 0.0 => {
                instant.insert(&prepared.fault);
            }
            Event::Phase { phase: Phase::Inject, .. } => {
                times.steady_to.get_or_insert(at);
                step.clear();
            }
            Event::Ordered { faults } => {
                times.injected.get_or_insert(at);
                if step.is_empty() {
                    (told, reverted) = (false, None);
                    times.step_injected = Some(at);
                    times.ends_with_instant =
                        faults.iter().all(|fault| instant.contains(fault.as_str()));
                }
                step.extend(faults.iter().map(String::as_str));
            }
            Event::Committed { fault, injected_ms } if step.contains(fault.as_str()) => {
                let injected = run_time(*injected_ms);
                let first = times.step_injected.filter(|_| told);
                times.step_injected = Some(first.map_or(injected, |first| first.min(injected)));
                times.injected = times.injected.map(|first| first.min(injected));
                told = true;
            }
            Event::Reverted { fault, reverted_ms, .. } if step.contains(fault.as_str()) => {
                reverted = reverted.max(Some(reverted_ms.map_or(at, run_time)));
                times.recover_from =
                    if times.ends_with_instant { times.step_injected } else { reverted };
            }
            Event::Phase { phase: Phase::Recovery, .. } => {
                times.method_end = Some(at);
                times.recover_from.get_or_insert(at);
            }
            _ => {}
        }
    }
    times
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The points in time of a step with one fault that `lasts` so long, and is told to be over at 900 ms.
    fn of_step(lasts_ms: u64) -> Times {
        let events = [
            (10, "\"event\":\"phase\",\"phase\":\"steady\",\"step\":null".to_owned()),
            (200, "\"event\":\"phase\",\"phase\":\"inject\",\"step\":1".to_owned()),
            (
                250,
                format!(
                    "\"event\":\"prepared\",\"fault\":\"f\",\"kind\":\"k\",\"node\":\"n\",\"target\":\"t\",
                    \"plan\":\"\",\"lastsMs\":{lasts_ms},\"deadlineMs\":5000"
                ),
            ),
            (300, "\"event\":\"ordered\",\"faults\":[\"f\"]".to_owned()),
            (305, "\"event\":\"committed\",\"fault\":\"f\",\"injectedMs\":302".to_owned()),
            (
                950,
                "\"event\":\"reverted\",\"fault\":\"f\",\"revertedMs\":900,\"reason\":null".to_owned(),
            ),
            (1000, "\"event\":\"phase\",\"phase\":\"recovery\",\"step\":null".to_owned()),
        ];
        let line = |(at, event): &(u64, String)| {
            let text = format!("{{\"atMs\":{at},\"wallUnixMs\":0,{event}}}");
            serde_json::from_str(&text).expect("a line")
        };
        times(&events.iter().map(line).collect::<Vec<Line>>())
    }

    #[test]
    fn from_where_a_probe_went_on_is_told_of_that_one_alone() {
        let begun = "\"event\":\"begun\",\"journalVersion\":2,\"runId\":\"1\",\"experiment\":\"a\",
            \"hypothesis\":null,\"file\":\"a.yaml\",\"source\":\"\",\"seed\":1,\"leaseMs\":1000.0,
            \"place\":\"here\",\"startedUnixSeconds\":1,
            \"environment\":{\"faultlineVersion\":\"0\",\"kernel\":\"6\",\"architecture\":\"x\"}";
        let moved = |probe: &str| {
            format!(
                "\"event\":\"moved\",\"probe\":\"{probe}\",\"pod\":\"shop/api-c\",
                \"insteadOf\":\"shop/api-a\",\"sinceMs\":700.0"
            )
        };
        let line = |event: &str| -> Line {
            let text = format!("{{\"atMs\":900,\"wallUnixMs\":0,{event}}}");
            serde_json::from_str(&text).expect("a line")
        };
        let lines = vec![line(begun), line(&moved("seen@shop/api-a")), line(&moved("other@x/y"))];
        let Event::Begun(begun) = lines[0].event.clone() else { panic!("{lines:?}") };
        let journal = Journal {
            begun: *begun,
            lines,
            torn: false,
            is_live: false,
            read_at: Duration::ZERO,
            left_out: None,
        };
        let (pod, instead_of) = ("shop/api-c".to_owned(), "shop/api-a".to_owned());
        let told = MoveReport { pod, instead_of, since_ms: 700.0 };
        assert_eq!(moves(&journal, "seen@shop/api-a"), [told]);
        assert_eq!(moves(&journal, "seen@shop/api-b"), []);
    }

    #[test]
    fn windows_are_those_of_a_run_that_goes_on() {
        let ms = |millis| Some(Duration::from_millis(millis));
        let lasting = of_step(500);
        assert_eq!((lasting.steady_from, lasting.steady_to), (ms(10), ms(200)));
        assert_eq!((lasting.injected, lasting.step_injected), (ms(300), ms(302)));
        assert_eq!((lasting.method_end, lasting.ended), (ms(1000), ms(1000)));
        assert!(!lasting.ends_with_instant);
        assert_eq!(lasting.recover_from, ms(900), "the proof of the revert");
        let instant = of_step(0);
        assert!(instant.ends_with_instant);
        assert_eq!(instant.recover_from, ms(302), "what is over at once: the injection");
    }
}
