//! Metrics in our own names: `faultline_runs_total`, `faultline_run_*`.

use faultline_proto::units;

use super::{Labels, Metrics, seconds, yes};
use crate::{
    experiment::labels::OBJECTIVES,
    report::{InjectionReport, ProbeReport, Report, Verdict, WindowReport},
};

/// Every verdict: those that a run did not come to are told as 0.
const VERDICTS: [Verdict; 5] =
    [Verdict::Held, Verdict::Deviated, Verdict::Refused, Verdict::Residue, Verdict::Interrupted];

impl Metrics {
    pub(super) fn take_in_ours(&self, report: &Report) {
        let of = || -> Labels { vec![("experiment", report.experiment.clone())] };
        let with = |label: &'static str, value: &str| -> Labels {
            vec![("experiment", report.experiment.clone()), (label, value.into())]
        };
        for verdict in VERDICTS {
            let labels = with("verdict", verdict.name());
            self.set("faultline_run_verdict", labels, yes(verdict == report.verdict));
        }
        self.count("faultline_runs", with("verdict", report.verdict.name()));
        let ended = seconds_of(report.started_unix_seconds) + seconds(report.duration_ms);
        self.set("faultline_run_last_timestamp_seconds", of(), ended.round());
        self.set("faultline_run_duration_seconds", of(), seconds(report.duration_ms));
        let residue = u32::try_from(report.residue.len()).unwrap_or(u32::MAX);
        self.set("faultline_run_residue", of(), residue.into());
        self.set("faultline_run_stopped", of(), yes(report.stopped.is_some()));
        let reverted = report.stopped.as_ref().and_then(|stopped| stopped.time_to_reverted_ms);
        self.set_known("faultline_run_time_to_reverted_seconds", of(), reverted.map(seconds));
        let skew = report.commit_skew_ms.map(seconds);
        self.set_known("faultline_run_commit_skew_seconds", of(), skew);
        for (label, objective) in OBJECTIVES {
            let asked = report.labels.get(label).and_then(|text| units::parse_duration(text).ok());
            let asked = asked.map(|duration| duration.as_secs_f64());
            self.set_known("faultline_run_objective_seconds", with("objective", objective), asked);
        }
        self.take_in_injections(report);
        for probe in &report.probes {
            self.take_in_probe(&report.experiment, probe);
        }
    }

    fn take_in_injections(&self, report: &Report) {
        for injection in &report.injections {
            let labels = vec![
                ("experiment", report.experiment.clone()),
                ("kind", injection.kind.clone()),
                ("effect", injection.effect.clone()),
            ];
            self.count("faultline_run_injections", labels);
            let of = |of: fn(&InjectionReport) -> Option<f64>| {
                let same = report.injections.iter().filter(|i| i.kind == injection.kind);
                same.filter_map(of).reduce(f64::max).map(seconds)
            };
            let labels = || -> Labels {
                vec![("experiment", report.experiment.clone()), ("kind", injection.kind.clone())]
            };
            let effect = of(|injection| injection.time_to_effect_ms);
            self.set_known("faultline_run_time_to_effect_seconds", labels(), effect);
            let revert = of(|injection| injection.time_to_revert_ms);
            self.set_known("faultline_run_time_to_revert_seconds", labels(), revert);
        }
    }

    fn take_in_probe(&self, experiment: &str, probe: &ProbeReport) {
        let of =
            || -> Labels { vec![("experiment", experiment.into()), ("probe", probe.name.clone())] };
        let downtime = &probe.downtime;
        self.set("faultline_run_downtime_seconds", of(), seconds(downtime.total_ms));
        let uncertainty = seconds(downtime.uncertainty_ms);
        self.set("faultline_run_downtime_uncertainty_seconds", of(), uncertainty);
        self.set("faultline_run_probe_failing", of(), yes(downtime.ongoing));
        for (phase, window) in
            [("steady", &probe.steady), ("during", &probe.during), ("after", &probe.after)]
        {
            let labels = || {
                let mut labels = of();
                labels.push(("phase", phase.into()));
                labels
            };
            self.set_known("faultline_run_probe_success_ratio", labels(), ratio(window));
            self.set_known("faultline_run_probe_within", labels(), window.within.map(yes));
        }
        let known = |of: Option<f64>| of.map(seconds);
        self.set_known(
            "faultline_run_time_to_detect_seconds",
            of(),
            known(probe.time_to_detect_ms),
        );
        let recover = known(probe.time_to_recover_ms);
        self.set_known("faultline_run_time_to_recover_seconds", of(), recover);
        self.set_known(
            "faultline_run_time_to_stable_seconds",
            of(),
            known(probe.time_to_stable_ms),
        );
    }
}

/// `None` where nothing was attempted.
fn ratio(window: &WindowReport) -> Option<f64> {
    let number = |count: u64| u32::try_from(count).map_or(f64::MAX, f64::from);
    (window.attempts > 0).then(|| number(window.successes) / number(window.attempts))
}

fn seconds_of(unix: u64) -> f64 {
    // Exact until the year 2106, when it is off by less than a metric's reader sees.
    u32::try_from(unix).map_or(f64::from(u32::MAX), f64::from)
}
