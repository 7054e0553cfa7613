//! A run as a trace: the run, its steps and their phases, every fault with what its agent was asked, outages of probes
//! and pods that were lost, as spans. From a report alone, and told when the run is over: nothing waits for it.

mod otlp;
#[cfg(test)]
mod tests;

pub use otlp::Collector;

use std::time::Duration;

use crate::report::{InjectionReport, PhaseReport, Report, Verdict};

/// A part of a run, and of another span.
#[derive(Debug, Clone, PartialEq)]
pub struct Span {
    /// Of this trace alone.
    pub id: u64,
    /// The span that it is a part of; `None`: it is the run.
    pub parent: Option<u64>,
    /// What it is.
    pub name: String,
    /// When it began and ended, since 1970.
    pub from: Duration,
    /// See `from`.
    pub to: Duration,
    /// What is known of it.
    pub attributes: Vec<(&'static str, String)>,
    /// Whether it was as it should be, and if not, why; `None`: nothing is judged.
    pub outcome: Option<Result<(), String>>,
}

/// The spans of a run, the run first.
#[derive(Debug, Clone, PartialEq)]
pub struct Trace {
    /// 32 hexadecimal digits.
    pub id: String,
    /// The spans.
    pub spans: Vec<Span>,
}

impl Trace {
    /// Of a run that came to this.
    pub fn of(report: &Report) -> Self {
        let mut build = Build::new(report);
        let run = build.run();
        for step in steps(&report.phases, report.duration_ms) {
            build.step(run, &step);
        }
        report.injections.iter().for_each(|injection| build.injection(run, injection));
        build.observed(run);
        Self { id: trace_id(&report.run_id), spans: build.spans }
    }
}

/// The id of a run's trace: the run's id, and as many digits that follow from it.
pub fn trace_id(run_id: &str) -> String {
    let bits = u64::from_str_radix(run_id, 16).unwrap_or(0);
    format!("{bits:016x}{:016x}", mixed(bits))
}

/// Bits that look like nothing in particular (`SplitMix64`'s finalizer, by Sebastiano Vigna), and are not 0.
fn mixed(bits: u64) -> u64 {
    let mut z = bits.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (z ^ (z >> 31)).max(1)
}

/// A step of the method, or a phase that belongs to none, with its phases and their ends.
struct Step<'a> {
    number: Option<usize>,
    from_ms: f64,
    to_ms: f64,
    phases: Vec<(&'a PhaseReport, f64)>,
}

fn steps(phases: &[PhaseReport], end_ms: f64) -> Vec<Step<'_>> {
    let ends = phases.iter().skip(1).map(|next| next.began_ms).chain([end_ms]);
    let mut steps: Vec<Step<'_>> = Vec::new();
    for (phase, to_ms) in phases.iter().zip(ends) {
        let is_same = |last: &&mut Step<'_>| phase.step.is_some() && last.number == phase.step;
        // What is repeated is another step each time it is injected.
        let begins = matches!(phase.phase.name(), "inject" | "wait" | "quiet");
        match steps.last_mut().filter(|last| is_same(last) && !begins) {
            Some(last) => {
                last.to_ms = to_ms;
                last.phases.push((phase, to_ms));
            }
            None => steps.push(Step {
                number: phase.step,
                from_ms: phase.began_ms,
                to_ms,
                phases: vec![(phase, to_ms)],
            }),
        }
    }
    steps
}

struct Build<'a> {
    report: &'a Report,
    spans: Vec<Span>,
    seed: u64,
    /// The steps, for what was done in them: their spans, and when they began and ended.
    steps: Vec<(u64, f64, f64)>,
}

impl<'a> Build<'a> {
    fn new(report: &'a Report) -> Self {
        let seed = mixed(u64::from_str_radix(&report.run_id, 16).unwrap_or(0));
        Self { report, spans: Vec::new(), seed, steps: Vec::new() }
    }

    fn add(
        &mut self,
        parent: Option<u64>,
        name: String,
        [from_ms, to_ms]: [f64; 2],
        attributes: Vec<(&'static str, String)>,
        outcome: Option<Result<(), String>>,
    ) -> u64 {
        let began = Duration::from_millis(self.report.started_unix_ms);
        let at = |ms: f64| began + Duration::try_from_secs_f64(ms / 1e3).unwrap_or_default();
        let number = u64::try_from(self.spans.len()).unwrap_or(u64::MAX);
        let id = mixed(self.seed.wrapping_add(number));
        let (from, to) = (at(from_ms), at(to_ms.max(from_ms)));
        self.spans.push(Span { id, parent, name, from, to, attributes, outcome });
        id
    }

    fn run(&mut self) -> u64 {
        let report = self.report;
        let first = report.residue.first().or(report.reasons.first()).cloned();
        let outcome = match report.verdict {
            Verdict::Held => Ok(()),
            other => Err(first.unwrap_or_else(|| other.name().into())),
        };
        let attributes = vec![
            ("faultline.run.id", report.run_id.clone()),
            ("faultline.experiment", report.experiment.clone()),
            ("faultline.verdict", report.verdict.name().into()),
            ("faultline.place", report.place.clone()),
            ("faultline.seed", report.seed.to_string()),
        ];
        let name = format!("run {}", report.experiment);
        self.add(None, name, [0.0, report.duration_ms], attributes, Some(outcome))
    }

    fn step(&mut self, run: u64, step: &Step<'_>) {
        let mut parent = run;
        if let Some(number) = step.number {
            let attributes = vec![("faultline.step", number.to_string())];
            let times = [step.from_ms, step.to_ms];
            parent = self.add(Some(run), format!("step {number}"), times, attributes, None);
            self.steps.push((parent, step.from_ms, step.to_ms));
        }
        for (phase, to_ms) in &step.phases {
            let times = [phase.began_ms, *to_ms];
            self.add(Some(parent), phase.phase.name().into(), times, Vec::new(), None);
        }
    }

    fn injection(&mut self, run: u64, injection: &InjectionReport) {
        let Some(prepared) = injection.prepared_at_ms.or(injection.ordered_at_ms) else { return };
        let mut steps = self.steps.iter();
        let step = steps.find(|(_, from, to)| (*from..*to).contains(&prepared));
        let parent = step.map_or(run, |(id, _, _)| *id);
        let end = injection.reverted_at_ms.unwrap_or(self.report.duration_ms);
        let is_well = injection.state == "reverted" && injection.residue.is_empty();
        let outcome = match (injection.effect.as_str(), is_well) {
            ("proven", true) => Ok(()),
            (effect, true) => Err(format!("its effect is {effect}")),
            (_, false) => Err(format!("it is {}", injection.state)),
        };
        let attributes = vec![
            ("faultline.fault.id", injection.fault_id.clone()),
            ("faultline.fault.kind", injection.kind.clone()),
            ("k8s.node.name", injection.node.clone()),
            ("k8s.namespace.name", injection.namespace.clone()),
            ("k8s.pod.name", injection.pod.clone()),
            ("faultline.evidence", injection.evidence.clone()),
        ];
        let name = format!("{} of {}", injection.kind, injection.target);
        let fault = self.add(Some(parent), name, [prepared, end], attributes, Some(outcome));
        let ordered = injection.ordered_at_ms;
        let reverted = injection.reverted_at_ms;
        let parts = [
            ("prepared", Some(prepared), ordered),
            ("commit", ordered, injection.injected_at_ms),
            ("effect", ordered, ordered.zip(injection.time_to_effect_ms).map(|(a, b)| a + b)),
            ("revert", reverted.zip(injection.time_to_revert_ms).map(|(a, b)| a - b), reverted),
        ];
        for (name, from, to) in parts {
            if let (Some(from), Some(to)) = (from, to) {
                let node = vec![("k8s.node.name", injection.node.clone())];
                self.add(Some(fault), name.into(), [from, to], node, None);
            }
        }
    }

    fn observed(&mut self, run: u64) {
        for probe in &self.report.probes {
            for outage in &probe.outages {
                let attributes = vec![
                    ("faultline.probe", probe.name.clone()),
                    ("faultline.uncertainty_ms", outage.uncertainty_ms.to_string()),
                ];
                let why = probe.commonest_failure.clone().unwrap_or_default();
                let (name, times) =
                    (format!("outage of {}", probe.name), [outage.began_ms, outage.ended_ms]);
                self.add(Some(run), name, times, attributes, Some(Err(why)));
            }
        }
        for pod in &self.report.pods {
            let end = pod.time_to_ready_ms.map(|after| pod.lost_at_ms + after);
            let attributes = vec![
                ("k8s.namespace.name", pod.namespace.clone()),
                ("k8s.pod.name", pod.pod.clone()),
                ("k8s.pod.uid", pod.uid.clone()),
            ];
            let times = [pod.lost_at_ms, end.unwrap_or(self.report.duration_ms)];
            let outcome = end.is_none().then(|| Err("it is not back".to_owned()));
            self.add(
                Some(run),
                format!("pod {} {}", pod.who(), pod.how()),
                times,
                attributes,
                outcome,
            );
        }
    }
}
