//! What is told of pods that are killed: compared with an observer of the test's own, who connects to them
//! all the time and knows nothing of what the sandbox says.

use std::{
    fs,
    net::{SocketAddr, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use faultline_tests::{
    observer::{can_run, in_net_ns_of},
    program::{Ended, Running, project_file},
    sandbox::wait_for,
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;

use super::{alone, inventory};

const LIMIT: Duration = Duration::from_mins(1);
/// Between two connections.
const EVERY: Duration = Duration::from_millis(2);
/// What a machine that does other things at the same time may add.
const SLACK_MS: f64 = 150.0;

/// Connects to a service again and again. Returns for how long it refused, each time.
struct Connector {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Vec<Duration>>,
}

impl Connector {
    fn start(network_of: i32, address: SocketAddr) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let look = move || {
            let (mut outages, mut since) = (Vec::new(), None::<Instant>);
            // The sandbox may still be on its way up.
            while TcpStream::connect_timeout(&address, Duration::from_secs(1)).is_err() {
                thread::sleep(EVERY);
            }
            while !stopped.load(Ordering::Relaxed) {
                let well = TcpStream::connect_timeout(&address, Duration::from_secs(1)).is_ok();
                match (well, since) {
                    (true, Some(began)) => {
                        outages.push(began.elapsed());
                        since = None;
                    }
                    (false, None) => since = Some(Instant::now()),
                    _ => {}
                }
                thread::sleep(EVERY);
            }
            outages
        };
        Self { stop, thread: thread::spawn(move || in_net_ns_of(network_of, look)) }
    }

    /// The outages that have ended, in milliseconds.
    fn stop(self) -> Vec<f64> {
        self.stop.store(true, Ordering::Relaxed);
        let outages = self.thread.join().expect("it looked");
        outages.iter().map(|outage| outage.as_secs_f64() * 1e3).collect()
    }
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("a number, not {value}"))
}

fn json(ended: &Ended) -> Value {
    let start = ended.text.find('{').unwrap_or_else(|| panic!("JSON, not {}", ended.text));
    serde_json::from_str(&ended.text[start..]).expect("nothing but JSON")
}

#[test]
fn a_killed_container_is_not_ready_for_as_long_as_it_refuses_connections() {
    if !can_run("a killed container") {
        return;
    }
    let alone = alone();
    let file = project_file("examples/restart.yaml").display().to_string();
    let run = Running::start(&["run", "--sandbox", &file, "--output", "json"]);
    let (_, seen) = inventory(run.pid());
    let mut pods = seen["pods"].as_array().expect("pods").iter();
    let pod = pods.find(|pod| pod["name"] == "echo-3").expect("the pod");
    let address = pod["addresses"][0].as_str().expect("an address");
    let address = SocketAddr::new(address.parse().expect("an address"), 8080);
    let connector = Connector::start(run.pid(), address);
    let ended = run.end(LIMIT);
    let outages = connector.stop();
    assert_eq!(ended.code, Some(0), "{}", ended.text);
    let report = json(&ended);
    assert_eq!(report["injections"][0]["pod"], "echo-3", "the seed chooses it");
    let [outage] = outages[..] else { panic!("one outage, not {outages:?}") };
    let ready = &report["probes"][0];
    let total = number(&ready["downtime"]["totalMs"]);
    let uncertainty = number(&ready["downtime"]["uncertaintyMs"]);
    println!("refused for {outage} ms; not ready for {total} ± {uncertainty} ms");
    assert!((total - outage).abs() <= uncertainty + SLACK_MS, "{total} ± {uncertainty}, {outage}");
    let [lost] = report["pods"].as_array().expect("pods").as_slice() else {
        panic!("one pod was lost: {}", report["pods"]);
    };
    assert_eq!((&lost["pod"], &lost["insteadOf"]), (&"echo-3".into(), &Value::Null));
    assert_eq!((number(&lost["restarts"]), &lost["timeToRecreatedMs"]), (1.0, &Value::Null));
    let (back, off) = (number(&lost["timeToReadyMs"]), number(&lost["uncertaintyMs"]));
    println!("ready again after {back} ± {off} ms");
    assert!((back - outage).abs() <= off + SLACK_MS, "{back} ± {off}, {outage}");
    assert_eq!(report["assertions"][0]["outcome"], "held");
    assert_eq!(report["assertions"][1]["was"], "was 1");
    assert_eq!(ready["commonestFailure"], "ready 2 of 3, >= 3 is asked");
    assert_eq!(report["probes"][1]["during"]["failures"], serde_json::json!({}));
    alone.check_clean();
}

/// A fault on one pod, while another one is deleted by somebody else.
const DELETED: &str = "apiVersion: faultline.dev/v1alpha1
kind: Experiment
metadata: { name: deleted }
spec:
  targets:
    cut: { names: [echo-1] }
    lost: { names: [echo-2] }
  method:
    - partition: { between: [cut, everything] }
      for: 1500ms
  assertions:
    - { timeToRecreated: '< 10s', target: lost }
    - { timeToScheduled: '< 10s' }
    - { timeToReady: '< 10s' }
    - { timeToReady: '< 1ms' }
    - { restarts: '<= 0' }
";

#[test]
fn a_pod_that_is_deleted_is_told_with_the_time_that_its_successor_took() {
    if !can_run("a deleted pod") {
        return;
    }
    let alone = alone();
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("deleted.yaml");
    fs::write(&path, DELETED).expect("written");
    let path = path.display().to_string();
    let reports = dir.path().join("reports");
    let into = reports.display().to_string();
    let mut run = Running::start(&["run", "--sandbox", "2", &path, "--report-dir", &into]);
    run.wait_for("default/echo-1: proven", LIMIT);
    let (file, seen) = inventory(run.pid());
    let pod = |seen: &Value| {
        let mut pods = seen["pods"].as_array().expect("pods").iter();
        pods.find(|pod| pod["name"] == "echo-2").cloned()
    };
    let old = pod(&seen).expect("the pod");
    let uid = old["uid"].as_str().expect("a uid");
    let holder = seen["holders"][uid]["pid"].as_i64().and_then(|pid| i32::try_from(pid).ok());
    kill(Pid::from_raw(holder.expect("a holder")), Signal::SIGKILL).expect("it runs");
    let killed = Instant::now();
    // Whoever connects to the new one finds it ready; the file is replaced as a whole.
    let mut took = None;
    wait_for("a new pod", Duration::from_secs(10), || {
        let text = fs::read_to_string(&file).unwrap_or_default();
        let now = serde_json::from_str(&text).ok().and_then(|seen: Value| pod(&seen));
        let new = now.filter(|new| new["uid"] != old["uid"]);
        let address = new.and_then(|new| new["addresses"][0].as_str()?.parse().ok());
        let answers = |address| {
            let to = SocketAddr::new(address, 8080);
            let network_of = run.pid();
            in_net_ns_of(network_of, move || TcpStream::connect_timeout(&to, EVERY * 10).is_ok())
        };
        let is_there = address.is_some_and(answers);
        took = is_there.then(|| killed.elapsed().as_secs_f64() * 1e3);
        is_there
    });
    let took = took.expect("it took some time");
    let ended = run.end(LIMIT);
    assert_eq!(ended.code, Some(1), "{}", ended.text);
    assert!(ended.text.contains("pod default/echo-2 anew was gone at "), "{}", ended.text);
    let of_run = fs::read_dir(&reports).expect("reports").next().expect("a run").expect("a run");
    let report = fs::read_to_string(of_run.path().join("run.json")).expect("a report");
    let report: Value = serde_json::from_str(&report).expect("JSON");
    let pods = report["pods"].as_array().expect("pods");
    let [lost] = pods.as_slice() else { panic!("one pod was lost: {pods:?}") };
    assert_eq!((&lost["pod"], &lost["insteadOf"]), (&"echo-2".into(), &"echo-2".into()));
    assert_eq!((&lost["loss"], &lost["targets"][0]), (&"gone".into(), &"lost".into()));
    assert_ne!(lost["uid"], old["uid"]);
    let times = ["timeToRecreatedMs", "timeToScheduledMs", "timeToReadyMs"];
    let [recreated, scheduled, ready] = times.map(|name| number(&lost[name]));
    let off = number(&lost["uncertaintyMs"]);
    println!("ready {took} ms after it was killed; told {ready} ± {off} ms after it was lost");
    assert!(recreated <= scheduled && scheduled <= ready, "{lost}");
    assert!((ready - took).abs() <= off + SLACK_MS, "{ready} ± {off}, {took}");
    let outcomes = report["assertions"].as_array().expect("assertions").iter();
    let outcomes: Vec<_> = outcomes.map(|a| a["outcome"].as_str().unwrap_or_default()).collect();
    assert_eq!(outcomes, ["held", "held", "held", "deviated", "held"], "{}", report["assertions"]);
    alone.check_clean();
}

#[test]
fn a_bound_on_restarts_that_is_broken_is_a_deviation() {
    if !can_run("a bound on restarts") {
        return;
    }
    let alone = alone();
    let dir = tempfile::tempdir().expect("a directory");
    let text = fs::read_to_string(project_file("examples/restart.yaml")).expect("the example");
    let path = dir.path().join("none.yaml");
    fs::write(&path, text.replace("restarts: \"<= 1\"", "restarts: \"== 0\"")).expect("written");
    let path = path.display().to_string();
    let Ended { code, text } = Running::start(&["run", "--sandbox", &path]).end(LIMIT);
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("(restarts of default/echo-3: 1, == 0 is asked)"), "{text}");
    alone.check_clean();
}
