//! The names of all metrics of runs, and what they mean. Counters are written here without the `_total`
//! that is read.
//!
//! Those that begin with `chaos_` are the ones that dashboards exist for already.

/// What goes up and down.
pub(super) const GAUGES: &[(&str, &str)] = &[
    (
        "faultline_run_verdict",
        "How the last run of an experiment ended: 1 at its verdict, 0 at the others",
    ),
    (
        "faultline_run_last_timestamp_seconds",
        "When the last run of an experiment ended, since 1970",
    ),
    ("faultline_run_duration_seconds", "How long the last run of an experiment took"),
    (
        "faultline_run_residue",
        "What the last run left in a kernel, or could not prove not to be left",
    ),
    ("faultline_run_stopped", "1 if the last run was ended by a stop condition"),
    (
        "faultline_run_time_to_reverted_seconds",
        "From what broke a stop condition until every fault was proven to be reverted",
    ),
    (
        "faultline_run_commit_skew_seconds",
        "Between the first and the last commit of one step, at most",
    ),
    (
        "faultline_run_time_to_effect_seconds",
        "From the order to inject to the proof of the effect, at most",
    ),
    (
        "faultline_run_time_to_revert_seconds",
        "From the order to revert to the proof that nothing is left, at most",
    ),
    ("faultline_run_downtime_seconds", "For how long a probe failed in the last run"),
    ("faultline_run_downtime_uncertainty_seconds", "The truth is within this of the downtime"),
    ("faultline_run_probe_failing", "1 if a probe still failed when the last run ended"),
    ("faultline_run_probe_success_ratio", "Which share of a probe's attempts succeeded in a phase"),
    ("faultline_run_probe_within", "Whether that share is within what was asked for the phase"),
    (
        "faultline_run_time_to_detect_seconds",
        "From the first injection to the first attempt that failed",
    ),
    (
        "faultline_run_time_to_recover_seconds",
        "From the end of the faults to the first attempt that succeeded for good",
    ),
    ("faultline_run_time_to_stable_seconds", "The same, and the time it had to stay well"),
    (
        "faultline_run_objective_seconds",
        "What the labels of an experiment ask for: `faultline.dev/rto`, `rpo` and `every`",
    ),
    (
        "chaos_experiment_status",
        "How the last run of a type of experiment ended: 1 at its status, 0 at the others",
    ),
    ("chaos_experiment_duration_seconds", "How long the last run of a type of experiment took"),
    (
        "chaos_partition_health_status",
        "1 if a service stayed within what was asked while traffic was cut",
    ),
    ("chaos_stress_health_status", "1 if a service stayed within what was asked under stress"),
    ("chaos_fallback_verification_status", "1 if a probe proved that a fallback took over"),
    ("chaos_region_isolation_status", "1 at the status that a probe proved a region to have"),
    ("chaos_database_promotion_status", "1 if a probe proved that a database was promoted"),
    ("chaos_traffic_redirection_status", "1 if a probe proved that traffic went to another region"),
];

/// What only goes up.
pub(super) const COUNTERS: &[(&str, &str)] = &[
    ("faultline_runs", "Runs, by experiment and by how they ended"),
    ("faultline_run_injections", "Injections, by kind and by whether their effect was proven"),
    ("chaos_pods_killed", "Containers of pods whose life was ended"),
    (
        "chaos_pod_kill_failures",
        "Containers of pods that were to be ended, and were not seen to be",
    ),
    ("chaos_network_partitions_created", "Pods whose traffic was cut"),
    ("chaos_stress_pods_created", "Pods in which something was used up"),
    ("chaos_dependency_failures_created", "Pods for which a dependency was made to fail"),
];
