//! What observing costs: the schedule of a thousand attempts per second, and the measures of an hour.
//!
//! `cargo bench -p faultline-tests --bench probe`. Goals: the schedule takes less than 5 % of a core, and
//! what is kept of an hour at 100 attempts per second is no more than what is kept of some minutes.

use std::{
    collections::BTreeMap,
    fs,
    time::{Duration, Instant},
};

use faultline::{
    experiment::Experiment,
    probe::{CurrentPod, Fold, Running, Target, Times},
};
use faultline_probe::{Failure, FailureKind, HostDialer, Sample};
use faultline_tests::{
    pki::Authority,
    sim::{experiment, place, pod},
};
use nix::time::{ClockId, clock_gettime};

/// Probes, each every 10 ms: a thousand attempts per second.
const PROBES: usize = 10;
/// For how long they are made.
const LASTS: Duration = Duration::from_secs(20);
/// Attempts of an hour at 100 per second.
const HOUR: u64 = 360_000;

fn main() {
    // `cargo test --benches` only wants to know that it runs.
    if std::env::args().any(|arg| arg == "--test") {
        return;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(schedule());
    an_hour();
}

fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::CLOCK_PROCESS_CPUTIME_ID).expect("a clock that is there");
    Duration::from(time)
}

/// A command in a pod that nobody holds: it fails at once, and what is left is the schedule.
fn nothing() -> Experiment {
    experiment(
        "targets: { all: { labels: { app: api } } }
  probes:
    - { name: nothing, exec: { target: all, command: [nothing] }, every: 10ms }
  method:
    - kill: { target: all }",
    )
}

async fn schedule() {
    let authority = Authority::new().expect("an authority");
    let credentials = authority.controller().expect("a certificate");
    let api = pod("api-1", "node1", 1);
    let (place, _dir) = place(vec![api.clone()], Vec::new(), &credentials).expect("a place");
    let probe = nothing().probes.remove(0);
    let origin = Instant::now();
    let running: Vec<Running> = (0..PROBES)
        .map(|_| {
            let pod = Some(CurrentPod::new(api.clone()));
            let (dialer, targets) = (HostDialer::default(), BTreeMap::new());
            let target = Target::new(&probe.kind, &place, pod, None, &dialer, &targets);
            Running::start(probe.clone(), target.expect("a target"), origin)
        })
        .collect();
    let before = cpu_time();
    tokio::time::sleep(LASTS).await;
    let used = cpu_time().saturating_sub(before);
    let made: usize = running.iter().map(|r| r.samples.since(Duration::ZERO).len()).sum();
    let made = u32::try_from(made).unwrap_or(u32::MAX);
    let per_second = f64::from(made) / LASTS.as_secs_f64();
    let share = used.as_secs_f64() / LASTS.as_secs_f64() * 100.0;
    println!("schedule: {per_second:.0} attempts per second take {share:.2} % of a core");
}

fn resident_bytes() -> u64 {
    let statm = fs::read_to_string("/proc/self/statm").expect("proc(5)");
    let pages = statm.split_whitespace().nth(1).and_then(|pages| pages.parse::<u64>().ok());
    pages.expect("a number of pages") * 4096
}

fn an_hour() {
    let mut fold = Fold::new(&nothing().probes[0]);
    let times = Times { injected: Some(Duration::from_secs(10)), ..Times::default() };
    let (mut at_six_minutes, before) = (0, resident_bytes());
    let begun = Instant::now();
    for i in 0..HOUR {
        let failure =
            (i % 1000 < 30).then(|| Failure::new(FailureKind::Timeout, format!("late {i}")));
        let took = Duration::from_micros(200 + i % 977 * 31);
        let began = Duration::from_millis(i * 10);
        fold.push(
            &Sample { uncertainty: Duration::ZERO, began, took, failure, value: None },
            &times,
        );
        if i == HOUR / 10 {
            at_six_minutes = resident_bytes();
        }
    }
    let each = begun.elapsed() / u32::try_from(HOUR).unwrap_or(u32::MAX);
    let after = resident_bytes();
    println!(
        "measures: {} kB after six minutes, {} kB after an hour; {each:?} per attempt",
        at_six_minutes.saturating_sub(before) / 1024,
        after.saturating_sub(before) / 1024
    );
}
