//! How a line that begins with `kubectl faultline` could go on: kubectl starts `kubectl_complete-faultline` with the words
//! so far, the last of which is not finished, and reads one choice a line and a directive (as cobra's `__complete`).

use std::ffi::OsString;

use clap::{Arg, Command, ValueHint};

use super::{Cli, Exit, print};

/// Cobra's directives: file names are completed by the shell, or nothing is.
const FILES: &str = ":0";
const NO_FILES: &str = ":4";

/// Prints the choices.
pub(super) fn main(words: impl IntoIterator<Item = OsString>) -> anyhow::Result<Exit> {
    let words: Vec<String> =
        words.into_iter().map(|word| word.to_string_lossy().into_owned()).collect();
    let mut command = <Cli as clap::CommandFactory>::command();
    command.build();
    let (choices, directive) = choices(&command, &words);
    let mut text = choices.join("\n");
    if !text.is_empty() {
        text.push('\n');
    }
    print::out(&format!("{text}{directive}\n"))?;
    Ok(Exit::Held)
}

/// The choices for the last of `words`, each with what it means behind a tab; and the directive.
fn choices(command: &Command, words: &[String]) -> (Vec<String>, &'static str) {
    let (last, before) = match words.split_last() {
        Some((last, before)) => (last.as_str(), before),
        None => ("", &[][..]),
    };
    let mut command = command;
    let mut option: Option<&Arg> = None;
    let mut positionals = 0;
    for word in before {
        if option.take().is_some() {
            continue;
        }
        if let Some(flag) = word.strip_prefix('-') {
            option = takes_next(command, flag);
        } else if let Some(subcommand) = command.find_subcommand(word) {
            (command, positionals) = (subcommand, 0);
        } else {
            positionals += 1;
        }
    }
    if let Some(option) = option {
        return values(option, last);
    }
    if last.starts_with('-') {
        return (flags(command, last), NO_FILES);
    }
    if command.has_subcommands() {
        let visible = command.get_subcommands().filter(|one| !one.is_hide_set());
        let fitting = visible.filter(|one| one.get_name().starts_with(last));
        let choices = fitting.map(|one| choice(one.get_name(), one.get_about()));
        return (choices.collect(), NO_FILES);
    }
    let arguments: Vec<&Arg> = command.get_positionals().collect();
    // The last one may be written again and again.
    let again = arguments.last().filter(|last| takes_many(last));
    let argument = arguments.get(positionals).or(again);
    argument.map_or((Vec::new(), NO_FILES), |argument| values(argument, last))
}

/// The option that a flag is, if its value is the next word.
fn takes_next<'c>(command: &'c Command, flag: &str) -> Option<&'c Arg> {
    let is_it = |arg: &&Arg| match flag.strip_prefix('-') {
        Some(long) => arg.get_long() == Some(long),
        None => arg.get_short().is_some_and(|short| flag == short.to_string()),
    };
    let takes = |arg: &&Arg| arg.get_action().takes_values() && !arg.is_require_equals_set();
    command.get_arguments().find(is_it).filter(takes)
}

fn takes_many(argument: &Arg) -> bool {
    matches!(argument.get_action(), clap::ArgAction::Append)
}

/// What an argument can be.
fn values(argument: &Arg, last: &str) -> (Vec<String>, &'static str) {
    let possible = argument.get_possible_values();
    let fitting = possible.iter().filter(|value| value.get_name().starts_with(last));
    let choices = fitting.map(|value| choice(value.get_name(), value.get_help())).collect();
    let is_path = matches!(
        argument.get_value_hint(),
        ValueHint::AnyPath | ValueHint::FilePath | ValueHint::DirPath
    );
    (choices, if is_path { FILES } else { NO_FILES })
}

fn flags(command: &Command, last: &str) -> Vec<String> {
    let visible = command.get_arguments().filter(|arg| !arg.is_hide_set());
    let named = visible.filter_map(|arg| Some((format!("--{}", arg.get_long()?), arg.get_help())));
    let fitting = named.filter(|(name, _)| name.starts_with(last));
    fitting.map(|(name, help)| choice(&name, help)).collect()
}

/// A choice, and the first line of what it means.
fn choice(name: &str, about: Option<impl ToString>) -> String {
    let about = about.map(|about| about.to_string());
    match about.as_deref().and_then(|about| about.lines().next()) {
        Some(about) => format!("{name}\t{about}"),
        None => name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(line: &str) -> (Vec<String>, &'static str) {
        let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
        let mut command = <Cli as clap::CommandFactory>::command();
        command.build();
        let (choices, directive) = choices(&command, &words);
        let name = |choice: &String| choice.split('\t').next().unwrap_or_default().to_owned();
        (choices.iter().map(name).collect(), directive)
    }

    #[test]
    fn a_line_goes_on_as_the_command_line_is_defined() {
        let (subcommands, directive) = names("");
        assert!(
            subcommands.contains(&"run".to_owned()) && subcommands.contains(&"plan".to_owned())
        );
        assert_eq!(directive, NO_FILES);
        assert_eq!(names("pl").0, ["plan"]);
        assert_eq!(names("run --rep").0, ["--report-dir"]);
        assert_eq!(names("run --output j").0, ["json"]);
        assert_eq!(names("run --report-dir ").1, FILES);
        assert_eq!(names("run a.yaml "), (vec![], FILES));
        assert!(names("inject ").0.contains(&"partition".to_owned()));
        assert!(names("inject partition --b").0.contains(&"--between".to_owned()));
        assert_eq!(names("completions ba").0, ["bash"]);
        // A flag with a value of its own does not take the next word.
        assert_eq!(names("run --sandbox ").1, FILES);
        assert_eq!(names("ps x"), (vec![], NO_FILES));
    }
}
