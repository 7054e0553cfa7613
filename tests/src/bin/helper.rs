//! What tests have the agent execute as its helper: a test program cannot be executed again as one.

use std::process::ExitCode;

fn main() -> ExitCode {
    faultline_agent::helper::run_if_asked().unwrap_or(ExitCode::from(2))
}
