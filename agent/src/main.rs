//! The agent of one node. All of it is in the library; see [`faultline_agent::cli`].

use std::process::ExitCode;

fn main() -> ExitCode {
    if let Some(code) = faultline_agent::helper::run_if_asked() {
        return code;
    }
    faultline_agent::cli::run(std::env::args_os())
}
