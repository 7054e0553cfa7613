//! What runs come to as metrics, and what becomes of an earlier text. A real run's report, changed.

use std::{fs, net::TcpListener, sync::OnceLock};

use faultline::{
    experiment::verifies::Verifies,
    metrics::{Metrics, exposition, file, push::Gateway},
    report::{Console, InjectionReport, Output, Report, Verdict},
    run::{Interrupt, run},
};
use faultline_proto::fault::{Counted, Family};
use faultline_tests::{
    fake_agent::{FakeAgent, Flaw},
    pki::Authority,
    sim::{experiment, place, pod},
};

/// A run that cuts two pods, with a probe that succeeds.
fn real_report() -> Report {
    static REPORT: OnceLock<Report> = OnceLock::new();
    let make = || {
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        runtime.block_on(async {
            let authority = Authority::new().expect("an authority");
            let one = FakeAgent::start(&authority, "node1", Flaw::None).await.expect("an agent");
            let two = FakeAgent::start(&authority, "node2", Flaw::None).await.expect("an agent");
            let pods = vec![pod("api-1", "node1", 1), pod("api-2", "node2", 2)];
            let endpoints = vec![one.endpoint.clone(), two.endpoint.clone()];
            let credentials = authority.controller().expect("a certificate");
            let (place, _dir) = place(pods, endpoints, &credentials).expect("a place");
            // Whoever connects waits to be accepted, which is enough to be connected.
            let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
            let address = listener.local_addr().expect("an address");
            let experiment = experiment(&format!(
                "targets: {{ all: {{ labels: {{ app: api }} }} }}
  probes:
    - {{ name: checkout, tcp: {{ address: \"{address}\" }}, every: 50ms, during: {{ success: \">= 90%\" }}, verifies: {{ fallback: cache }} }}
  method:
    - partition: {{ between: [all, everything] }}
      for: 400ms"
            ));
            let console = Console::new(Output::Json);
            run(&experiment, &place, &console, &Interrupt::default()).await
        })
    };
    REPORT.get_or_init(make).clone()
}

/// The same, which deviated: the probe failed for 1.5 s, and of two cuts one was not seen to act.
fn report() -> Report {
    let mut report = real_report();
    report.experiment = "orders".into();
    report.labels = [("faultline.dev/rto".to_owned(), "15m".to_owned())].into();
    (report.started_unix_seconds, report.duration_ms) = (1_000, 2_000.0);
    report.verdict = Verdict::Deviated;
    report.injections = vec![
        injection("api-1", Family::Partition, "two-way", "proven"),
        injection("api-2", Family::Partition, "two-way", "failed"),
    ];
    let probe = &mut report.probes[0];
    probe.downtime.total_ms = 1_500.0;
    probe.time_to_recover_ms = Some(400.0);
    probe.during.within = Some(false);
    (probe.during.attempts, probe.during.successes) = (40, 30);
    report
}

fn injection(pod: &str, family: Family, variety: &str, effect: &str) -> InjectionReport {
    InjectionReport {
        kind: "some".into(),
        pod: pod.into(),
        counted: Some(Counted { family, variety: variety.into() }),
        effect: effect.into(),
        ..real_report().injections.remove(0)
    }
}

fn text_of(report: &Report) -> String {
    exposition::classic(&Metrics::of(report).openmetrics().expect("text"))
}

fn assert_lines(text: &str, lines: &[&str]) {
    for line in lines {
        assert!(text.lines().any(|l| l == *line), "{line} is not in\n{text}");
    }
}

#[test]
fn a_run_is_told_in_our_names_and_in_those_that_dashboards_know() {
    let text = text_of(&report());
    assert_lines(
        &text,
        &[
            r#"faultline_run_verdict{experiment="orders",verdict="deviated"} 1.0"#,
            r#"faultline_run_verdict{experiment="orders",verdict="held"} 0.0"#,
            r#"faultline_runs_total{experiment="orders",verdict="deviated"} 1"#,
            r#"faultline_run_last_timestamp_seconds{experiment="orders"} 1002.0"#,
            r#"faultline_run_downtime_seconds{experiment="orders",probe="checkout"} 1.5"#,
            r#"faultline_run_time_to_recover_seconds{experiment="orders",probe="checkout"} 0.4"#,
            r#"faultline_run_objective_seconds{experiment="orders",objective="rto"} 900.0"#,
            r#"faultline_run_probe_within{experiment="orders",probe="checkout",phase="during"} 0.0"#,
            r#"faultline_run_probe_success_ratio{experiment="orders",probe="checkout",phase="during"} 0.75"#,
            r#"faultline_run_injections_total{experiment="orders",kind="some",effect="proven"} 1"#,
            r#"chaos_experiment_status{experiment_type="network_partition",status="failed"} 1.0"#,
            r#"chaos_experiment_status{experiment_type="network_partition",status="completed"} 0.0"#,
            r#"chaos_network_partitions_created_total{scenario="orders",partition_type="two-way"} 1"#,
            r#"chaos_partition_health_status{service="checkout"} 0.0"#,
        ],
    );
}

#[test]
fn what_is_not_known_has_no_series() {
    let mut quiet = report();
    quiet.injections.clear();
    quiet.commit_skew_ms = None;
    let probe = &mut quiet.probes[0];
    (probe.time_to_recover_ms, probe.held) = (None, None);
    for window in [&mut probe.steady, &mut probe.during, &mut probe.after] {
        (window.attempts, window.within) = (0, None);
    }
    let text = text_of(&quiet);
    for name in [
        "chaos_",
        "time_to_recover",
        "probe_within",
        "commit_skew",
        "success_ratio",
        "objective=\"rpo\"",
    ] {
        let series = text.lines().filter(|line| !line.starts_with('#'));
        assert!(series.clone().all(|line| !line.contains(name)), "{name} is in\n{text}");
    }
}

#[test]
fn kills_are_counted_by_app_and_failures_by_pod() {
    let mut kills = report();
    kills.labels.insert("faultline.dev/experiment-type".into(), "failover".into());
    kills.injections = vec![
        injection("api-1", Family::Kill, "container", "proven"),
        injection("api-2", Family::Kill, "container", "proven"),
        injection("api-3", Family::Kill, "container", "failed"),
        injection("api-4", Family::Stress, "memory", "proven"),
        injection("api-5", Family::Dependency, "503", "proven"),
    ];
    let text = text_of(&kills);
    assert_lines(
        &text,
        &[
            r#"chaos_pods_killed_total{namespace="shop",app="api",scenario="orders"} 2"#,
            r#"chaos_pod_kill_failures_total{pod_name="api-3"} 1"#,
            r#"chaos_stress_pods_created_total{scenario="orders",resource_type="memory"} 1"#,
            r#"chaos_dependency_failures_created_total{scenario="orders",failure_type="503"} 1"#,
            r#"chaos_stress_health_status{service="checkout"} 0.0"#,
            r#"chaos_experiment_status{experiment_type="failover",status="failed"} 1.0"#,
        ],
    );
    assert!(!text.contains("chaos_partition_health_status{"), "{text}");
}

#[test]
fn the_older_format_has_neither_units_nor_an_end_and_counters_bear_their_suffix() {
    let text = text_of(&report());
    assert!(!text.contains("# EOF") && !text.contains("# UNIT"), "{text}");
    assert_lines(&text, &["# TYPE faultline_runs_total counter"]);
    let info = "# HELP x_build A.\n# TYPE x_build info\nx_build_info{version=\"1\"} 1\n# EOF\n";
    let expected =
        "# HELP x_build_info A.\n# TYPE x_build_info gauge\nx_build_info{version=\"1\"} 1\n";
    assert_eq!(exposition::classic(info), expected);
}

#[test]
fn a_file_goes_on_counting_and_keeps_what_others_said() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("faultline.prom");
    file::check(&path).expect("writable");
    let mut other = report();
    other.experiment = "other".into();
    let mut again = report();
    again.verdict = Verdict::Held;
    for report in [&report(), &other, &again] {
        file::add(&path, &Metrics::of(report)).expect("written");
    }
    let text = fs::read_to_string(&path).expect("read");
    assert_lines(
        &text,
        &[
            r#"faultline_runs_total{experiment="orders",verdict="deviated"} 1"#,
            r#"faultline_runs_total{experiment="orders",verdict="held"} 1"#,
            r#"faultline_run_verdict{experiment="orders",verdict="held"} 1.0"#,
            r#"faultline_run_verdict{experiment="orders",verdict="deviated"} 0.0"#,
            r#"faultline_run_verdict{experiment="other",verdict="deviated"} 1.0"#,
            r#"chaos_network_partitions_created_total{scenario="orders",partition_type="two-way"} 2"#,
        ],
    );
    let names: Vec<_> = fs::read_dir(dir.path()).expect("read").flatten().collect();
    assert_eq!(names.len(), 1, "nothing is left beside it: {names:?}");
}

#[test]
fn a_file_of_somebody_else_and_a_directory_that_is_not_there_are_refused() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("node.prom");
    fs::write(&path, "up 1\n").expect("written");
    let error = file::check(&path).expect_err("foreign").to_string();
    assert!(error.contains("was not written by faultline"), "{error}");
    let error = file::add(&path, &Metrics::of(&report())).expect_err("foreign").to_string();
    assert!(error.contains("left alone"), "{error}");
    assert_eq!(fs::read_to_string(&path).expect("read"), "up 1\n");
    let missing = dir.path().join("nowhere/x.prom");
    assert!(file::check(&missing).expect_err("no directory").to_string().contains("cannot write"));
}

#[test]
fn gateways_are_read_and_what_cannot_be_one_is_said() {
    let url = |text: &str| text.parse::<Gateway>().map(|gateway| gateway.to_string());
    assert_eq!(url("http://push:9091/"), Ok("http://push:9091".into()));
    assert_eq!(url("http://push/some/where/"), Ok("http://push:80/some/where".into()));
    assert_eq!(url("http://[fd00::1]:9091"), Ok("http://[fd00::1]:9091".into()));
    for (text, why) in [
        ("https://push", "http only"),
        ("push:9091", "expected http://"),
        ("http://me:secret@push", "password"),
        ("http://push?a=b", "query"),
        ("", "expected http://"),
    ] {
        let error = url(text).expect_err(text);
        assert!(error.contains(why), "{text}: {error}");
    }
}

#[test]
fn what_a_probe_proves_is_told_where_it_was_judged() {
    let text = text_of(&real_report());
    let fallback = r#"chaos_fallback_verification_status{scenario="test",check_type="cache"}"#;
    assert_lines(&text, &[&format!("{fallback} 1.0")]);

    let mut other = real_report();
    let names = || ("eu".to_owned(), "us".to_owned());
    let (region, to) = names();
    for (verifies, line) in [
        (
            Verifies::RegionIsolation(region),
            r#"chaos_region_isolation_status{region="eu",status="not_isolated"} 1.0"#,
        ),
        (
            Verifies::DatabasePromotion { region: to, service: "orders".into() },
            r#"chaos_database_promotion_status{region="us",service="orders"} 0.0"#,
        ),
        (
            Verifies::TrafficRedirection { from: names().0, to: names().1 },
            r#"chaos_traffic_redirection_status{source_region="eu",target_region="us"} 0.0"#,
        ),
    ] {
        (other.probes[0].verifies, other.probes[0].held) = (Some(verifies), Some(false));
        assert_lines(&text_of(&other), &[line]);
    }
    other.verdict = Verdict::Interrupted;
    assert!(!text_of(&other).contains("chaos_traffic_redirection_status{"), "not known");
}
