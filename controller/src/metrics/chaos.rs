//! Metrics in the names that dashboards exist for already: `chaos_*`.
//!
//! What a fault is counted as is said by its kind, through the report; nothing here knows the kinds.

use faultline_proto::fault::Family;

use super::{Labels, Metrics, seconds, yes};
use crate::{
    experiment::{labels, verifies::Verifies},
    report::{InjectionReport, ProbeReport, Report, Verdict},
};

/// How a run ended, in the words of those dashboards.
const STATUSES: [&str; 3] = ["completed", "failed", "aborted"];

fn status(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Held => "completed",
        Verdict::Deviated | Verdict::Residue => "failed",
        Verdict::Refused | Verdict::Interrupted | Verdict::Unfinished => "aborted",
    }
}

/// The type that an experiment says it is of, or that of its faults; `None` where nothing was injected.
fn experiment_type(report: &Report) -> Option<String> {
    if let Some(written) = report.labels.get(labels::TYPE) {
        return Some(written.clone());
    }
    let mut types: Vec<&str> = report
        .injections
        .iter()
        .map(|injection| match injection.counted.as_ref().map(|counted| counted.family) {
            Some(Family::Kill) => "pod_kill",
            Some(Family::Partition) => "network_partition",
            Some(Family::Stress) => "resource_stress",
            Some(Family::Dependency) => "dependency_failure",
            None => injection.kind.as_str(),
        })
        .collect();
    types.sort_unstable();
    types.dedup();
    match types.as_slice() {
        [] => None,
        [only] => Some((*only).to_owned()),
        _ => Some("mixed".into()),
    }
}

impl Metrics {
    pub(super) fn take_in_chaos(&self, report: &Report) {
        if let Some(of_type) = experiment_type(report) {
            for known in STATUSES {
                let labels = vec![("experiment_type", of_type.clone()), ("status", known.into())];
                self.set("chaos_experiment_status", labels, yes(known == status(report.verdict)));
            }
            let labels = vec![("experiment_type", of_type)];
            let duration = seconds(report.duration_ms);
            self.set("chaos_experiment_duration_seconds", labels, duration);
        }
        for injection in &report.injections {
            self.take_in_counted(&report.experiment, injection);
        }
        // Of a run that did not come to its end it is not known what would have been proven.
        if matches!(report.verdict, Verdict::Held | Verdict::Deviated) {
            for probe in &report.probes {
                self.take_in_verified(&report.experiment, probe);
            }
        }
        let has = |family| {
            let mut all = report.injections.iter();
            all.any(|i| i.counted.as_ref().is_some_and(|counted| counted.family == family))
        };
        for (family, name) in [
            (Family::Partition, "chaos_partition_health_status"),
            (Family::Stress, "chaos_stress_health_status"),
        ] {
            if has(family) {
                for probe in &report.probes {
                    let labels = vec![("service", probe.name.clone())];
                    self.set_known(name, labels, is_healthy(probe).map(yes));
                }
            }
        }
    }

    fn take_in_verified(&self, scenario: &str, probe: &ProbeReport) {
        let (Some(verifies), Some(held)) = (&probe.verifies, probe.held) else { return };
        match verifies {
            Verifies::Fallback(check) => {
                let labels = vec![("scenario", scenario.into()), ("check_type", check.clone())];
                self.set("chaos_fallback_verification_status", labels, yes(held));
            }
            Verifies::RegionIsolation(region) => {
                for (status, is_it) in [("isolated", held), ("not_isolated", !held)] {
                    let labels = vec![("region", region.clone()), ("status", status.into())];
                    self.set("chaos_region_isolation_status", labels, yes(is_it));
                }
            }
            Verifies::DatabasePromotion { region, service } => {
                let labels = vec![("region", region.clone()), ("service", service.clone())];
                self.set("chaos_database_promotion_status", labels, yes(held));
            }
            Verifies::TrafficRedirection { from, to } => {
                let labels = vec![("source_region", from.clone()), ("target_region", to.clone())];
                self.set("chaos_traffic_redirection_status", labels, yes(held));
            }
        }
    }

    fn take_in_counted(&self, scenario: &str, injection: &InjectionReport) {
        let Some(counted) = &injection.counted else { return };
        let is_proven = injection.effect == "proven";
        let of = |label: &'static str| -> Labels {
            vec![("scenario", scenario.into()), (label, counted.variety.clone())]
        };
        match counted.family {
            Family::Kill if is_proven => {
                let labels = vec![
                    ("namespace", injection.namespace.clone()),
                    ("app", injection.app.clone().unwrap_or_default()),
                    ("scenario", scenario.into()),
                ];
                self.count("chaos_pods_killed", labels);
            }
            Family::Kill => {
                let labels = vec![("pod_name", injection.pod.clone())];
                self.count("chaos_pod_kill_failures", labels);
            }
            // What was not seen to act is not called created.
            _ if !is_proven => {}
            Family::Partition => {
                self.count("chaos_network_partitions_created", of("partition_type"));
            }
            Family::Stress => self.count("chaos_stress_pods_created", of("resource_type")),
            Family::Dependency => {
                self.count("chaos_dependency_failures_created", of("failure_type"));
            }
        }
    }
}

/// Whether a probe stayed within what was asked while faults were in effect, and was well in the end.
/// `None` where nothing was asked.
fn is_healthy(probe: &ProbeReport) -> Option<bool> {
    Some(probe.during.within? && !probe.downtime.ongoing)
}
