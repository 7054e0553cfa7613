//! What this program was called as: itself, a plugin of kubectl, or the plugin's completion. One binary is all three, by
//! the name of the link that it is started through.

use std::{ffi::OsStr, path::Path, sync::OnceLock};

use clap::{Command, CommandFactory as _};

use super::Cli;

/// The names by which kubectl finds a plugin and its completion
/// (<https://kubernetes.io/docs/tasks/extend-kubectl/kubectl-plugins/>).
const PLUGIN: &str = "kubectl-faultline";
const PLUGIN_COMPLETION: &str = "kubectl_complete-faultline";
/// How a user calls the plugin.
const AS_PLUGIN: &str = "kubectl faultline";

/// What it was called as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Program {
    /// Itself.
    Faultline,
    /// `kubectl faultline`.
    Plugin,
    /// The program that kubectl asks how a line could go on.
    PluginCompletion,
}

static CALLED_AS: OnceLock<Program> = OnceLock::new();

impl Program {
    /// From the path that it was started by.
    pub(super) fn of(path: &OsStr) -> Self {
        let name = Path::new(path).file_stem().unwrap_or_default();
        match name.to_str() {
            Some(PLUGIN) => Self::Plugin,
            Some(PLUGIN_COMPLETION) => Self::PluginCompletion,
            _ => Self::Faultline,
        }
    }

    /// Remembers it, for all that is said of usage from now on.
    pub(super) fn remember(self) {
        // The first one counts, and there is one.
        CALLED_AS.get_or_init(|| self);
    }
}

/// The command line, in the words of who called it.
pub(super) fn command() -> Command {
    match CALLED_AS.get() {
        Some(Program::Plugin) => as_plugin(Cli::command()),
        _ => Cli::command(),
    }
}

fn as_plugin(command: Command) -> Command {
    with_examples_of_plugin(command).bin_name(AS_PLUGIN)
}

/// Examples are lines that begin with the program's name.
fn with_examples_of_plugin(mut command: Command) -> Command {
    if let Some(help) = command.get_after_help() {
        let help = help.to_string().replace("\n  faultline ", &format!("\n  {AS_PLUGIN} "));
        command = command.after_help(help);
    }
    command.mut_subcommands(with_examples_of_plugin)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_the_link_says_what_it_is() {
        for (path, program) in [
            ("/usr/local/bin/faultline", Program::Faultline),
            ("target/debug/faultline", Program::Faultline),
            ("kubectl-faultline", Program::Plugin),
            ("/opt/kubectl-faultline.exe", Program::Plugin),
            ("/opt/kubectl_complete-faultline", Program::PluginCompletion),
        ] {
            assert_eq!(Program::of(OsStr::new(path)), program, "{path}");
        }
    }

    #[test]
    fn a_plugin_is_called_as_kubectl_calls_it() {
        let mut command = as_plugin(Cli::command());
        command.build();
        let help = command.render_long_help().to_string();
        assert!(help.contains("Usage: kubectl faultline "), "{help}");
        let run = command.find_subcommand_mut("run").expect("run").render_long_help().to_string();
        assert!(run.contains("Usage: kubectl faultline run "), "{run}");
        assert!(run.contains("\n  kubectl faultline run --sandbox"), "{run}");
        assert!(!run.contains("\n  faultline "), "{run}");
    }
}
