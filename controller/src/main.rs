//! The program `faultline`: everything is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    faultline::cli::main(std::env::args_os()).into()
}
