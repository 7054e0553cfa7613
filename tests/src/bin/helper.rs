//! What tests have the agent execute as its helper: a test program cannot be executed again as one.
//!
//! And, for tests that kill or stop the agent itself, as little of an agent as injects one fault.

use std::{
    env,
    io::{self, BufRead, Write},
    process::ExitCode,
    thread,
    time::Duration,
};

use faultline_agent::{fault::AnyInjection, helper, kernel::clock};

fn main() -> ExitCode {
    if let Some(code) = helper::run_if_asked() {
        return code;
    }
    let arguments: Vec<String> = env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["agent", lease_ms] => agent(lease_ms.parse().expect("milliseconds")),
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
