//! The command line: what can be written, what is said of it, and which function does it.
//!
//! It turns arguments into requests ([`RunRequest`] and its like) whose files are read and without
//! mistakes. It does nothing that touches a system.

mod agents;
mod complete;
mod completions;
mod controller;
mod enter;
mod exit;
mod inject;
mod install;
mod keep;
mod metrics;
mod place;
pub mod print;
mod program;
mod record;
mod report;
mod request;
mod run;
mod uninstall;
mod validate;

pub use exit::Exit;
pub use metrics::MetricsArgs;
pub use place::PlaceChoice;
pub use request::{HaltRequest, PlanRequest, PsRequest, ResumeRequest, RunRequest, SandboxRequest};

use std::{ffi::OsString, path::PathBuf};

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand, ValueHint, error::ErrorKind};
use clap_complete::Shell;
use faultline_proto::{InvalidWire, id::FaultId, limits::REASON_BYTES_MAX};

use crate::{
    experiment::{self, Loaded, SANDBOX_NODES_MAX, SandboxSpec},
    report::Output,
    sandbox,
};
use place::{ClusterArgs, PlaceArgs};
use program::Program;

const AFTER_HELP: &str = "\
Examples:
  faultline run --sandbox examples/quickstart.yaml       see it work on this machine
  faultline validate experiments/*.yaml                  check files, touch nothing
  faultline inject kill --target app=api -n shop --sandbox

Exit codes:
  0    the hypothesis held and the system recovered
  1    it deviated, or did not recover in time
  2    wrong usage or an invalid file
  3    refused or could not inject; nothing of it is left
  4    residue: a revert could not be proven
  130  interrupted, and reverted";

const RESUME_HELP: &str = "\
Examples:
  faultline resume
  faultline resume --acknowledge 1f0c8a52b7d94e63";

const DOCTOR_HELP: &str = "\
Examples:
  faultline doctor
  faultline doctor --context production --output json

In a cluster it also says which nodes have no agent and why, what this user may not do, and until when the
certificates are valid. The exit code is 0 if all is well, 3 if something is missing, and 4 if a revert could
not be proven.";

const REPORT_HELP: &str = "\
Examples:
  faultline report reports/quickstart-1f0c8a52b7d94e63
  faultline report reports --latest
  faultline report reports/quickstart-1f0c8a52b7d94e63 --rebuild

Several runs are listed. The exit code is that of the run that is shown. A run whose controller was killed
has no verdict: what was known is shown, and the exit code is 4 if a fault was not proven to be reverted,
1 if all were, and 3 if there was none.";

/// Break a system on purpose, precisely, and prove what happened.
#[derive(Debug, Parser)]
#[command(name = "faultline", version, after_help = AFTER_HELP, max_term_width = 100)]
struct Cli {
    /// How results are printed
    #[arg(long, global = true, value_enum, default_value_t, value_name = "FORMAT")]
    #[arg(display_order = 100)]
    output: Output,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run experiments, one after the other
    #[command(after_help = "Examples:
  faultline run --sandbox examples/quickstart.yaml
  faultline run --sandbox 5 --report-dir reports a.yaml b.yaml
  faultline run --inventory nodes.json a.yaml --output json

JSON is the report of the run, or a list of reports where several experiments are given.")]
    Run {
        /// Experiments; `-` is standard input
        #[arg(required = true, value_name = "FILE", value_hint = ValueHint::FilePath)]
        files: Vec<PathBuf>,
        #[command(flatten)]
        place: PlaceArgs,
        /// Write the journal and the report of each run into EXPERIMENT-RUN in this directory
        ///
        /// These are journal.jsonl, while it runs, and run.json, junit.xml and report.html at its end.
        #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
        report_dir: Option<PathBuf>,
        #[command(flatten)]
        metrics: MetricsArgs,
    },
    /// Show who would be hit and how hard; touch nothing
    #[command(after_help = "Example:
  faultline plan --sandbox examples/partition.yaml")]
    Plan {
        /// Experiments; `-` is standard input
        #[arg(required = true, value_name = "FILE", value_hint = ValueHint::FilePath)]
        files: Vec<PathBuf>,
        #[command(flatten)]
        place: PlaceArgs,
    },
    /// Check files; every mistake is shown with its place and what was expected
    #[command(after_help = "Examples:
  faultline validate experiments/*.yaml
  faultline validate - < experiment.yaml")]
    Validate {
        /// Experiments; `-` is standard input
        #[arg(required = true, value_name = "FILE", value_hint = ValueHint::FilePath)]
        files: Vec<PathBuf>,
    },
    /// One fault, now, without a file
    #[command(subcommand, after_help = inject::AFTER_HELP)]
    Inject(inject::InjectArgs),
    /// Show what is injected right now, on every node, and until when
    #[command(after_help = "Examples:
  faultline ps
  faultline ps --inventory nodes.json --output json")]
    Ps {
        #[command(flatten)]
        agents: AgentsArgs,
    },
    /// Look at every node: its agent, its kernel, its clock, and whether anything is left on it
    #[command(after_help = DOCTOR_HELP)]
    Doctor {
        #[command(flatten)]
        agents: AgentsArgs,
    },
    /// Revert everything everywhere, and refuse new runs until `resume`
    #[command(after_help = "Example:
  faultline halt --reason \"the database is being repaired\"")]
    Halt {
        /// Why: shown to everybody whose run is refused
        #[arg(long, value_parser = reason)]
        reason: String,
        #[command(flatten)]
        agents: AgentsArgs,
    },
    /// Allow runs again after `halt`, or beside what is stuck
    #[command(after_help = RESUME_HELP)]
    Resume {
        /// Faults that are stuck and that you have looked at: their nodes take new faults again
        ///
        /// `faultline ps` shows the ids. Nothing of what is left is touched and no record is removed:
        /// `ps` goes on showing the fault as stuck, and `halt` tries to revert it once more.
        #[arg(long, value_name = "ID", num_args = 1.., value_parser = fault_id)]
        acknowledge: Vec<FaultId>,
        #[command(flatten)]
        agents: AgentsArgs,
    },
    /// Build a sandbox and keep it until Ctrl-C; print where its inventory is
    #[command(after_help = "Examples, the second and third in another terminal:
  faultline sandbox --nodes 3
  faultline inject partition --between name=echo-1 --between everything --for 1m --inventory FILE
  faultline ps")]
    Sandbox {
        /// The experiment whose `sandbox` section is built
        #[arg(value_name = "FILE", value_hint = ValueHint::FilePath)]
        file: Option<PathBuf>,
        /// How many nodes [default: as FILE says, or 3]
        #[arg(long, value_name = "N")]
        #[arg(value_parser = clap::value_parser!(u32).range(1..=i64::from(SANDBOX_NODES_MAX)))]
        nodes: Option<u32>,
    },
    /// Put agents, identities and access rules into a cluster, or bring them up to date
    #[command(after_help = install::AFTER_HELP)]
    Install(Box<install::InstallArgs>),
    /// Take all of it out of a cluster, once its nodes are proven to be clean
    #[command(after_help = uninstall::AFTER_HELP)]
    Uninstall(uninstall::UninstallArgs),
    /// Stand by in the cluster: restore at its deadline what nobody else does, renew certificates
    #[command(after_help = controller::AFTER_HELP)]
    Controller(controller::ControllerArgs),
    /// Show an earlier run again, from its journal alone
    #[command(after_help = REPORT_HELP)]
    Report {
        /// A run's directory or its journal.jsonl, or the directory that reports were written to
        #[arg(value_name = "DIR", value_hint = ValueHint::AnyPath)]
        path: PathBuf,
        /// Of several runs, show the one that began last
        #[arg(long)]
        latest: bool,
        /// Write the files beside the journal anew from it
        #[arg(long)]
        rebuild: bool,
    },
    /// Print a completion script for a shell
    #[command(after_help = "Example:
  faultline completions bash > /etc/bash_completion.d/faultline")]
    Completions {
        /// Which shell
        shell: Shell,
    },
}

#[derive(Debug, clap::Args)]
struct AgentsArgs {
    /// The pods and agents, as `faultline sandbox` writes them [default: the sandbox that runs here, or the cluster]
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, help_heading = "Where")]
    #[arg(conflicts_with_all = ["kubeconfig", "context"])]
    inventory: Option<PathBuf>,
    #[command(flatten)]
    cluster: ClusterArgs,
}

fn reason(text: &str) -> Result<String, String> {
    match text.trim() {
        "" => Err("say why: whoever is refused will read it".into()),
        text if text.len() > REASON_BYTES_MAX => {
            Err(format!("{} bytes are more than {REASON_BYTES_MAX}", text.len()))
        }
        // It is shown on the terminals of others.
        text if text.chars().any(char::is_control) => {
            Err("expected one line without control characters".into())
        }
        text => Ok(text.to_owned()),
    }
}

fn fault_id(text: &str) -> Result<FaultId, String> {
    text.parse().map_err(|e: InvalidWire| e.problem)
}

/// Why a command was not begun.
enum Stop {
    /// The arguments: this is said, with the usage of the subcommand.
    Usage { command: &'static str, message: String },
    /// The files: it has been said already.
    Files(Exit),
}

/// The whole program: reads the arguments (the program's own name first) and does what they say.
pub fn main(args: impl IntoIterator<Item = OsString>) -> Exit {
    let mut args = args.into_iter().peekable();
    let program = args.peek().map_or(Program::Faultline, |path| Program::of(path));
    program.remember();
    if program == Program::PluginCompletion {
        // Who completes a line reads no complaints.
        return complete::main(args.skip(1)).unwrap_or(Exit::Refused);
    }
    let parsed = program::command().try_get_matches_from(place::join_sandbox_number(args));
    let cli = match parsed.and_then(|matches| Cli::from_arg_matches(&matches)) {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version come this way too. If nobody reads them, that is all right.
            drop(error.print());
            return if error.use_stderr() { Exit::Invalid } else { Exit::Held };
        }
    };
    let output = cli.output;
    match dispatch(cli) {
        Ok(exit) => exit,
        Err(error) => {
            print::failure(output, &format!("{error:#}"), Exit::Refused);
            Exit::Refused
        }
    }
}

fn dispatch(cli: Cli) -> anyhow::Result<Exit> {
    let output = cli.output;
    let result = match cli.command {
        Command::Validate { files } => return validate::main(&files, output),
        Command::Report { path, latest, rebuild } => {
            return report::main(&report::ReportRequest { path, latest, rebuild, output });
        }
        Command::Completions { shell } => return completions::main(shell, Cli::command()),
        Command::Run { files, place, report_dir, metrics } => {
            place_and_files("run", place, &files, output)?.and_then(|(place, experiments)| {
                if let Some(message) = metrics.unusable_in(&place) {
                    return Err(Stop::Usage { command: "run", message });
                }
                Ok(run::run(RunRequest { experiments, place, output, report_dir, metrics }))
            })
        }
        Command::Plan { files, place } => place_and_files("plan", place, &files, output)?
            .map(|(place, experiments)| run::plan(PlanRequest { experiments, place, output })),
        Command::Install(args) => return install::main(*args, output),
        Command::Uninstall(args) => return uninstall::main(args, output),
        Command::Controller(args) => return controller::main(args, output),
        Command::Inject(args) => return inject::main(args, output),
        Command::Ps { agents } => {
            agents.find("ps").map(|place| agents::ps(PsRequest { place, output }))
        }
        Command::Doctor { agents } => {
            agents.find("doctor").map(|place| agents::doctor(place, output))
        }
        Command::Halt { reason, agents } => {
            agents.find("halt").map(|place| agents::halt(HaltRequest { place, reason, output }))
        }
        Command::Resume { acknowledge: acknowledged, agents } => agents
            .find("resume")
            .map(|place| agents::resume(ResumeRequest { place, acknowledged, output })),
        Command::Sandbox { file, nodes } => sandbox_of(file, nodes, output)?
            .map(|sandbox| keep::main(&SandboxRequest { sandbox, output })),
    };
    match result {
        Ok(done) => done,
        Err(Stop::Usage { command, message }) => Ok(wrong_usage(command, &message)),
        Err(Stop::Files(exit)) => Ok(exit),
    }
}

/// Says what is wrong with the arguments of a subcommand, the way clap does.
fn wrong_usage(command: &str, message: &str) -> Exit {
    let mut cli = program::command();
    cli.build();
    let error = match cli.find_subcommand_mut(command) {
        Some(command) => command.error(ErrorKind::MissingRequiredArgument, message),
        None => cli.error(ErrorKind::MissingRequiredArgument, message),
    };
    drop(error.print());
    Exit::Invalid
}

impl AgentsArgs {
    /// The file or the cluster that was named, or the one sandbox there is, or the cluster there is.
    fn find(self, command: &'static str) -> Result<PlaceChoice, Stop> {
        if let Some(file) = self.inventory {
            return Ok(PlaceChoice::Inventory(file));
        }
        let mut running = sandbox::running();
        running.sort();
        match running.as_slice() {
            _ if self.cluster.is_given() => Ok(PlaceChoice::Cluster(self.cluster.choice())),
            [] => Ok(PlaceChoice::Cluster(self.cluster.choice())),
            // Whoever halts in a hurry must not halt the wrong one.
            several if self.cluster.is_meant() => {
                let message = format!(
                    "{}\n  --kubeconfig FILE, or --context NAME, of the cluster that the environment names",
                    whose_agents(several)
                );
                Err(Stop::Usage { command, message })
            }
            [only] => {
                print::err(&format!("of the sandbox that runs here: {}\n", only.display()));
                Ok(PlaceChoice::Inventory(only.clone()))
            }
            several => Err(Stop::Usage { command, message: whose_agents(several) }),
        }
    }
}

/// What is said where it is not clear which sandbox is meant.
fn whose_agents(running: &[PathBuf]) -> String {
    let each: Vec<String> =
        running.iter().map(|file| format!("\n  --inventory {}", file.display())).collect();
    let here = match running.len() {
        1 => "a sandbox runs here".to_owned(),
        several => format!("{several} sandboxes run here"),
    };
    format!("whose agents? {here}: write one of{}", each.concat())
}

/// Files first: what is wrong with them is of more interest than where they were to be run.
fn place_and_files(
    command: &'static str,
    place: PlaceArgs,
    files: &[PathBuf],
    output: Output,
) -> anyhow::Result<Result<(PlaceChoice, Vec<Loaded>), Stop>> {
    let experiments = match experiment::load(files) {
        Ok(experiments) => experiments,
        Err(errors) => return Ok(Err(Stop::Files(validate::refuse(&errors, output)?))),
    };
    let place = place.choice();
    if let PlaceChoice::Sandbox { nodes } = place {
        for loaded in &experiments {
            if let Err(why) = SandboxSpec::resolve(loaded.experiment.sandbox.as_ref(), nodes) {
                let message = format!("{}: {why}", loaded.source.name);
                return Ok(Err(Stop::Usage { command, message }));
            }
        }
    }
    Ok(Ok((place, experiments)))
}

/// What `faultline sandbox` is to build.
fn sandbox_of(
    file: Option<PathBuf>,
    nodes: Option<u32>,
    output: Output,
) -> anyhow::Result<Result<SandboxSpec, Stop>> {
    let usage = |message: String| Ok(Err(Stop::Usage { command: "sandbox", message }));
    let loaded = match file.map(|file| experiment::load(&[file])).transpose() {
        Ok(loaded) => loaded.unwrap_or_default(),
        Err(errors) => return Ok(Err(Stop::Files(validate::refuse(&errors, output)?))),
    };
    let own = match loaded.as_slice() {
        [] => None,
        [one] => one.experiment.sandbox.as_ref(),
        several => {
            let count = several.len();
            return usage(format!("{count} experiments in this file: whose sandbox is meant?"));
        }
    };
    match SandboxSpec::resolve(own, nodes) {
        Ok(sandbox) => Ok(Ok(sandbox)),
        Err(message) => usage(message),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_an_inventory_it_is_said_which_there_are() {
        let message = whose_agents(&["/a/inventory.json".into(), "/b/inventory.json".into()]);
        assert!(message.contains("2 sandboxes run here"), "{message}");
        assert!(message.ends_with("\n  --inventory /b/inventory.json"), "{message}");
    }

    #[test]
    fn the_definition_of_the_command_line_is_sound() {
        Cli::command().debug_assert();
    }
}
