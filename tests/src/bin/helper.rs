//! What tests have the agent execute as its helper: a test program cannot be executed again as one.
//!
//! And, for tests that kill or stop the agent itself, as little of an agent as injects one fault, or
//! injects one and changes it.

use std::{
    env,
    io::{self, BufRead, Write},
    path::Path,
    process::ExitCode,
    thread,
    time::Duration,
};

use faultline_agent::{fault::AnyInjection, helper, kernel::clock};
use faultline_proto::fault::Fault;
use faultline_tests::supervised::Supervised;

fn main() -> ExitCode {
    if let Some(code) = helper::run_if_asked() {
        return code;
    }
    let arguments: Vec<String> = env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["agent", lease_ms] => agent(lease_ms.parse().expect("milliseconds")),
        ["supervise", state_dir, pods_dir] => supervise(state_dir.as_ref(), pods_dir.as_ref()),
        _ => ExitCode::from(2),
    }
}

/// Injects the plan on its standard input, says so, and does nothing more until its input ends.
fn agent(lease_ms: u64) -> ExitCode {
    let mut lines = io::stdin().lock().lines();
    let plan = lines.next().expect("a plan").expect("a line");
    let plan: AnyInjection = serde_json::from_str(&plan).expect("a plan");
    let lease_end = clock::now().after(Duration::from_millis(lease_ms));
    let live = plan.as_injection().inject(lease_end).expect("injected");
    println!("{}", lease_end.as_nanos());
    io::stdout().flush().expect("told");
    for _line in lines {
        thread::yield_now();
    }
    drop(live);
    ExitCode::SUCCESS
}

/// Injects the fault on its standard input into the target before it, and then changes it into those
/// behind it, one by one. Says so of each.
fn supervise(state_dir: &Path, pods_dir: &Path) -> ExitCode {
    let node = Supervised::start(state_dir, pods_dir);
    let mut lines = io::stdin().lock().lines().map(|line| line.expect("a line"));
    let target = lines.next().expect("a target");
    let target = serde_json::from_str(&target).expect("a target");
    let mut faults = lines.map(|line| serde_json::from_str::<Fault>(&line).expect("a fault"));
    let first = faults.next().expect("a fault");
    let status = node.inject(&target, first, Duration::from_mins(1));
    println!("{}", status.fault_id);
    for fault in faults {
        node.amend(&[(status.fault_id, fault)]).expect("changed");
        println!("changed");
    }
    ExitCode::SUCCESS
}
