//! A thousand outages of random length, and how far what is reported of them is from the truth.
//!
//! `cargo bench -p faultline-tests --bench downtime`. Goal: each within one spacing and what is said to be
//! uncertain, and none that a request met is missing. `--seed N` draws others.

use std::process::ExitCode;

use faultline_tests::truth::compare;

const OUTAGES: usize = 1_000;
const SERVERS: u8 = 48;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    // `cargo test --benches` only wants to know that it runs.
    if arguments.iter().any(|arg| arg == "--test") {
        return ExitCode::SUCCESS;
    }
    let seed = arguments.iter().skip_while(|arg| *arg != "--seed").nth(1);
    let seed = seed.and_then(|seed| seed.parse().ok()).unwrap_or(1);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    let tally = runtime.block_on(compare(seed, SERVERS, OUTAGES)).expect("servers and a run");
    println!("seed {seed}: {tally}");
    tally.wrong.iter().for_each(|wrong| println!("{wrong}"));
    if tally.wrong.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
