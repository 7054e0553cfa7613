//! `torture --rounds N --seed S [--only ROUND] [--pairs N] [--show]`: see `faultline_tests::torture`.
//!
//! Exit code 1 when a round failed. Needs root, `nft`, `ip` and `tc`.

use std::{
    os::unix::process::CommandExt as _,
    process::{Command, ExitCode},
};

use anyhow::{Context as _, bail};
use faultline::sandbox;
use faultline_agent::failpoint::VARIABLE;
use faultline_tests::torture::{self, Options};

fn main() -> ExitCode {
    if let Some(code) = sandbox::reexec(std::env::args_os()) {
        return code;
    }
    if let Some(code) = torture::run_if_asked() {
        return code;
    }
    if std::env::var_os(VARIABLE).is_none() {
        let again = Command::new("/proc/self/exe")
            .args(std::env::args_os().skip(1))
            .env(VARIABLE, "1")
            .exec();
        eprintln!("cannot execute itself again: {again}");
        return ExitCode::FAILURE;
    }
    match play() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn play() -> anyhow::Result<bool> {
    let options = options(std::env::args().skip(1))?;
    let entered = sandbox::enter()?;
    if entered.is_rootless() {
        bail!("the torture test needs root");
    }
    tokio::runtime::Runtime::new()?.block_on(torture::run(&entered, options))
}

fn options(mut args: impl Iterator<Item = String>) -> anyhow::Result<Options> {
    let mut options = Options::default();
    while let Some(name) = args.next() {
        if name == "--show" {
            options.show = true;
            continue;
        }
        let value = args.next().with_context(|| format!("{name} needs a number"))?;
        let number: u64 = value.parse().with_context(|| format!("{name} {value}"))?;
        match name.as_str() {
            "--rounds" => options.rounds = number,
            "--seed" => options.seed = number,
            "--only" => options.only = Some(number),
            "--pairs" if number > 0 => options.pairs = u32::try_from(number)?,
            _ => bail!("unknown option {name} {value}"),
        }
    }
    Ok(options)
}
