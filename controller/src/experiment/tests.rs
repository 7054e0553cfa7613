//! What a file without mistakes comes to: every field, and every default.

use std::time::Duration;

use faultline_proto::{limits::LEASE_DEFAULT, probe::Spec, yaml::Source};

use super::{
    AGENT_RESTART_DEFAULT, BlastRadius, Bound, Comparison, Experiment, Inject, Mode, ProbeKind,
    Recovery, SandboxSpec, Step, Tolerance, Workload, load_source,
};

fn experiment(spec: &str) -> Experiment {
    let head = "apiVersion: faultline.dev/v1alpha1\nkind: Experiment\nmetadata: { name: x, labels: { team: platform, faultline.dev/experiment-type: cut } }\n";
    let source = Source { name: "test".into(), text: format!("{head}spec:\n{spec}") };
    match load_source(source) {
        Ok(mut loaded) => loaded.remove(0).experiment,
        Err(errors) => panic!("{}", crate::diagnostics::render(&errors, false)),
    }
}

#[test]
fn everything_that_is_written_is_kept() {
    let experiment = experiment(
        r#"
  hypothesis: It holds.
  seed: 18446744073709551615
  lease: 500ms
  targets:
    a: { namespace: shop, labels: { app: api, example.com/tier: "" }, mode: one }
    b: { names: [db-0, db-1], nodes: [n1], mode: { percent: 12.5% } }
    c: { namespace: shop, mode: leader, leader: { label: role=primary } }
    d: { labels: { app: d }, mode: { count: 2 } }
  probes:
    - name: web
      http: { url: "http://a.shop/x", status: 503 }
      every: 10ms
      timeout: 2s
      steady: { success: ">=99.5%" }
      during: { success: "< 25%" }
      recovery: { within: 30s, stableFor: 0s }
    - { name: rows, exec: { target: b, command: [psql, -c, "select 1"] } }
    - { name: port, tcp: { address: "[::1]:80" } }
  method:
    - partition: { between: [a, b] }
      for: 1m30s
    - wait: 250ms
    - parallel:
        - kill: { target: c }
        - kill: { target: d, every: 1s }
          for: 10s
  blastRadius: { maxTargets: 5, maxPercent: 50 }
"#,
    );
    assert_eq!(experiment.hypothesis.as_deref(), Some("It holds."));
    assert_eq!(experiment.labels["faultline.dev/experiment-type"], "cut");
    assert_eq!((experiment.seed, experiment.lease), (u64::MAX, Duration::from_millis(500)));
    let modes: Vec<&Mode> = experiment.targets.values().map(|target| &target.mode).collect();
    let leader =
        Mode::Leader(super::Leader::Label { name: "role".into(), value: "primary".into() });
    assert_eq!(modes, [&Mode::One, &Mode::Percent(1250), &leader, &Mode::Count(2)]);
    assert_eq!(experiment.targets["a"].labels["example.com/tier"], "");
    assert_eq!(experiment.targets["a"].span.line, 10, "the target's name");
    assert_eq!(experiment.targets["b"].names, ["db-0", "db-1"]);
    let [web, rows, port] = experiment.probes.as_slice() else { panic!("three probes") };
    assert!(matches!(&web.kind, ProbeKind::Network(Spec::Http(http))
        if http.url.to_string() == "http://a.shop/x" && http.status.contains(503)));
    assert_eq!((web.every, web.timeout), (Duration::from_millis(10), Duration::from_secs(2)));
    let bound = |comparison, value| Tolerance {
        success: Some(Bound { comparison, value }),
        ..Tolerance::default()
    };
    assert_eq!(web.steady, Some(bound(Comparison::AtLeast, 9_950)));
    assert_eq!(web.during, Some(bound(Comparison::LessThan, 2_500)));
    let recovery =
        Recovery { within: Duration::from_secs(30), stable_for: Duration::ZERO, value: None };
    assert_eq!(web.recovery, Some(recovery));
    assert!(matches!(&rows.kind, ProbeKind::Exec(exec)
        if exec.target.value == "b" && exec.command.len() == 3));
    assert!(matches!(&port.kind, ProbeKind::Network(Spec::Tcp(tcp))
        if tcp.address.to_string() == "[::1]:80"));
    let [Step::Inject(Inject { duration, .. }), Step::Wait(wait), Step::Parallel(both)] =
        experiment.method.as_slice()
    else {
        panic!("three steps: {:?}", experiment.method)
    };
    assert_eq!((*duration, *wait), (Duration::from_secs(90), Duration::from_millis(250)));
    let lasting: Vec<Duration> = both.iter().map(|inject| inject.duration).collect();
    assert_eq!(lasting, [Duration::ZERO, Duration::from_secs(10)]);
    let BlastRadius { max_targets, max_basis_points, .. } = experiment.blast_radius;
    let limits = [max_targets, max_basis_points].map(|limit| limit.map(|limit| limit.value));
    assert_eq!(limits, [Some(5), Some(5_000)]);
    assert_eq!(experiment.sandbox, None);
}

#[test]
fn what_is_not_written_has_its_default() {
    let spec = "
  targets: { a: { labels: { app: a } } }
  probes: [{ name: p, http: { url: http://a/ } }]
  method: [{ kill: { target: a } }]
";
    let first = experiment(spec);
    assert_eq!((first.lease, first.hypothesis.as_ref()), (LEASE_DEFAULT, None));
    assert_eq!(first.blast_radius, BlastRadius::default());
    assert_eq!(first.targets["a"].mode, Mode::All);
    let probe = &first.probes[0];
    assert_eq!((probe.every, probe.timeout), (Duration::from_millis(100), Duration::from_secs(1)));
    assert!(probe.steady.is_none() && probe.during.is_none() && probe.recovery.is_none());
    assert!(matches!(&probe.kind, ProbeKind::Network(Spec::Http(http))
        if http.status.contains(200) && !http.status.contains(201)));
    assert_ne!(first.seed, experiment(spec).seed, "a new one each time");
}

#[test]
fn a_sandbox_is_as_written_or_has_an_echo_pod_on_each_node() {
    let spec = |sandbox: &str| {
        let spec =
            "  targets: { a: { labels: { app: echo } } }\n  method: [{ kill: { target: a } }]\n";
        experiment(&format!("{spec}  sandbox: {sandbox}\n")).sandbox.expect("a sandbox")
    };
    let five = spec("{ nodes: 5, agents: { restartAfter: never } }");
    assert_eq!((five.nodes, five.pods[0].replicas, five.restart_agents_after), (5, Some(5), None));
    let own = spec(
        "{ pods: [{ name: w, labels: { app: echo }, node: node3, memoryLimit: 64MiB,
                    workload: { command: [sleep, inf] } }] }",
    );
    assert_eq!((own.nodes, own.restart_agents_after), (3, Some(AGENT_RESTART_DEFAULT)));
    let pod = &own.pods[0];
    assert_eq!((pod.namespace.as_str(), pod.memory_limit_bytes), ("default", Some(64 << 20)));
    assert_eq!(pod.workload, Workload::Command(vec!["sleep".into(), "inf".into()]));
    assert_eq!(pod.names(), ["w"]);

    let resolve = SandboxSpec::resolve;
    assert_eq!(resolve(None, None), Ok(SandboxSpec::echo(3)));
    assert_eq!(resolve(None, Some(2)).map(|s| s.pods[0].names().len()), Ok(2));
    assert_eq!(resolve(Some(&five), Some(2)).map(|s| s.restart_agents_after), Ok(None));
    assert_eq!(resolve(Some(&own), Some(4)).map(|s| (s.nodes, s.pods.len())), Ok((4, 1)));
    assert!(resolve(Some(&own), Some(2)).is_err_and(|error| error.contains("node3")));
}
