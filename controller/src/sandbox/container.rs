//! `__faultline-container PLAN INDEX ID`: enters the container's control groups, then becomes the
//! workload.
//!
//! What it cannot do it says on its standard input, which is a pipe; silence to the end means that
//! the workload runs.

use std::{
    ffi::OsString,
    fs::File,
    io::{self, Write as _},
    os::{fd::AsFd as _, unix::process::CommandExt as _},
    process::{Command, ExitCode, Stdio},
};

use nix::unistd::dup2_stdin;

use super::{
    children, echo,
    error::{Step as _, StepError, chain},
    pod,
};

pub(super) const ROLE: &str = "__faultline-container";

/// The exit code of a workload that could not be run, as shells have it.
const NOT_RUN: u8 = 127;

pub(super) fn main(args: &[OsString]) -> ExitCode {
    let report = match take_report() {
        Ok(report) => report,
        Err(error) => {
            eprintln!("{}", chain(&error));
            return ExitCode::from(NOT_RUN);
        }
    };
    let mut report = Some(report);
    let Err(error) = run(args, &mut report) else { return ExitCode::SUCCESS };
    let message = chain(&error);
    eprintln!("{message}");
    if let Some(mut report) = report {
        // Whoever should read it may have gone, and then everything ends.
        drop(report.write_all(message.as_bytes()));
    }
    ExitCode::from(NOT_RUN)
}

/// Takes the pipe off standard input, so that the workload gets an empty one.
fn take_report() -> Result<File, StepError> {
    let report = io::stdin().as_fd().try_clone_to_owned().step(|| "keep the pipe".into())?;
    let nothing = File::open("/dev/null").step(|| "open /dev/null".into())?;
    dup2_stdin(&nothing).step(|| "close the pipe".into())?;
    Ok(report.into())
}

fn run(args: &[OsString], report: &mut Option<File>) -> Result<(), StepError> {
    let (plan, pod) = pod::load(args)?;
    let id = args.get(2).and_then(|arg| arg.to_str()).unwrap_or_default();
    for root in &plan.cgroups {
        root.join(&format!("{}/{id}", pod::cgroup(&plan, &pod)))?;
    }
    let Some(command) = &pod.command else {
        // Otherwise it would be called after the file it was started from, which is `exe`.
        nix::sys::prctl::set_name(c"echo").step(|| "name the process".into())?;
        return children::runtime()?.block_on(async {
            let echo = echo::Echo::bind(&pod.name, plan.ipv6).await?;
            // Listening is running: the pipe's last writing end closes.
            *report = None;
            echo.serve().await
        });
    };
    let (program, rest) =
        command.split_first().ok_or(nix::Error::EINVAL).step(|| "read the command".into())?;
    // Returns only if it failed. The pipe closes by itself, as it is closed on exec.
    let error = Command::new(program).args(rest).stdin(Stdio::null()).exec();
    Err(error).step(|| format!("run `{program}`"))
}
