//! The program `faultline`: everything is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    // The processes of a sandbox are this program, started again.
    if let Some(code) = faultline::sandbox::reexec(std::env::args_os()) {
        return code;
    }
    faultline::cli::main(std::env::args_os()).into()
}
