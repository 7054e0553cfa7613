//! `faultline inject KIND …`: one fault without a file.
//!
//! The flags are made from the catalogue of kinds, and what they say is written as an experiment
//! and read like any other. So a kind is added in one place, and a flag takes what a file takes.

use std::{net::IpAddr, path::PathBuf};

use clap::{Arg, ArgAction, ArgMatches, Args, FromArgMatches, Subcommand, ValueHint};
use faultline_proto::{
    fault::{FieldForm, FieldInfo},
    yaml::Source,
};

use super::{Exit, MetricsArgs, Output, PlaceArgs, RunRequest, print, run, validate, wrong_usage};
use crate::experiment::{self, API_VERSION, FaultKind, FileError, KIND, LoadErrors};

/// What the text that the flags come to is called in messages.
const SOURCE_NAME: &str = "<command line>";

pub(super) const AFTER_HELP: &str = "\
Pods are chosen by labels (app=api, or app=api,tier=web), by name (name=api-0), or by what made them
(owner=deployment/api).

Examples:
  faultline inject partition --from app=api --to app=db -n shop --for 30s --sandbox
  faultline inject partition --between name=echo-1 --between everything --for 5s --sandbox
  faultline inject kill --target app=api --signal TERM --sandbox
  faultline inject memory-pressure --target app=api --to 80% --for 1m --print
  faultline inject scale --target app=api -n shop --to 0 --for 1m";

/// One fault, as flags.
#[derive(Debug)]
pub(super) struct InjectArgs {
    kind: FaultKind,
    fields: Vec<(&'static FieldInfo, Vec<String>)>,
    common: Common,
}

/// The flags that every kind has.
#[derive(Debug, Args)]
struct Common {
    /// How long it lasts: 30s, 1m30s
    #[arg(long = "for", value_name = "DURATION")]
    duration: Option<String>,
    /// Only pods of this namespace
    #[arg(short, long)]
    namespace: Option<String>,
    /// How long it outlives a controller that is gone [default: 10s]
    #[arg(long, value_name = "DURATION")]
    lease: Option<String>,
    /// What goes through the API server may last also where no controller would take it back if this were killed
    #[arg(long)]
    without_controller: bool,
    /// Print the experiment that this comes to, and do nothing
    #[arg(long)]
    print: bool,
    #[command(flatten)]
    place: PlaceArgs,
    /// Write the record of the run into this directory, as EXPERIMENT-RUN/: run.json, report.html and more
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    report_dir: Option<PathBuf>,
}

impl Subcommand for InjectArgs {
    fn augment_subcommands(command: clap::Command) -> clap::Command {
        FaultKind::all().fold(command, |command, kind| command.subcommand(kind_command(kind)))
    }

    fn augment_subcommands_for_update(command: clap::Command) -> clap::Command {
        Self::augment_subcommands(command)
    }

    fn has_subcommand(name: &str) -> bool {
        FaultKind::all().any(|kind| kebab(kind.name) == name || kind.name == name)
    }
}

impl FromArgMatches for InjectArgs {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let found = matches.subcommand().and_then(|(name, matches)| {
            Some((FaultKind::all().find(|kind| kebab(kind.name) == name)?, matches))
        });
        let Some((kind, matches)) = found else {
            return Err(clap::Error::new(clap::error::ErrorKind::MissingSubcommand));
        };
        let values = |field: &FieldInfo| {
            let given = matches.get_many::<String>(field.name).unwrap_or_default();
            given.cloned().collect::<Vec<String>>()
        };
        let given = kind.fields.iter().map(|field| (field, values(field)));
        let fields = given.filter(|(_, values)| !values.is_empty()).collect();
        Ok(Self { kind, fields, common: Common::from_arg_matches(matches)? })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

fn kind_command(kind: FaultKind) -> clap::Command {
    let mut command = clap::Command::new(kebab(kind.name));
    if kebab(kind.name) != kind.name {
        // As a file has it, too.
        command = command.alias(kind.name);
    }
    for field in kind.fields {
        let value = match field.form {
            FieldForm::Target => "PODS",
            FieldForm::Side | FieldForm::TwoSides => "PODS|ADDRESSES|everything",
            FieldForm::Scalar | FieldForm::Scalars => field.value,
        };
        let mut arg =
            Arg::new(field.name).long(kebab(field.name)).value_name(value).help(field.help);
        arg = match field.form {
            FieldForm::TwoSides => arg.action(ArgAction::Append),
            FieldForm::Scalars => arg.action(ArgAction::Append).value_delimiter(','),
            FieldForm::Target | FieldForm::Side | FieldForm::Scalar => arg.action(ArgAction::Set),
        };
        command = command.arg(arg);
    }
    Common::augment_args(command).about(kind.about)
}

/// `oomVictim` as a flag: `oom-victim`.
fn kebab(name: &str) -> String {
    let mut kebab = String::new();
    for c in name.chars() {
        if c.is_ascii_uppercase() {
            kebab.push('-');
        }
        kebab.push(c.to_ascii_lowercase());
    }
    kebab
}

pub(super) fn main(args: InjectArgs, output: Output) -> anyhow::Result<Exit> {
    let written = match write(&args) {
        Ok(written) => written,
        Err(message) => return Ok(wrong_usage("inject", &message)),
    };
    let source = Source { name: SOURCE_NAME.into(), text: written.text.clone() };
    let experiments = match experiment::load_source(source) {
        Ok(experiments) => experiments,
        Err(mut errors) => {
            speak_of_flags(&mut errors, &written.flags);
            return validate::refuse(&errors, output);
        }
    };
    if args.common.print {
        print::out(&written.text)?;
        return Ok(Exit::Held);
    }
    let place = args.common.place.choice();
    let report_dir = args.common.report_dir;
    let metrics = MetricsArgs::default();
    run::run(RunRequest { experiments, place, output, report_dir, metrics })
}

/// An experiment that was made from flags.
#[derive(Default)]
struct Written {
    text: String,
    /// For each line, the flag it comes from.
    flags: Vec<Option<String>>,
}

impl Written {
    fn line(&mut self, indent: usize, text: &str, flag: Option<&str>) {
        self.text.push_str(&" ".repeat(indent));
        self.text.push_str(text);
        self.text.push('\n');
        self.flags.push(flag.map(|flag| format!("--{flag}")));
    }
}

/// Writes the experiment.
fn write(args: &InjectArgs) -> Result<Written, String> {
    let common = &args.common;
    let mut targets = Written::default();
    let mut body = Written::default();
    for (field, values) in &args.fields {
        let flag = kebab(field.name);
        let line = |value: &str| format!("{}: {value}", field.name);
        match field.form {
            FieldForm::Scalar => {
                let value = values.first().map(String::as_str).unwrap_or_default();
                body.line(8, &line(&scalar(value)), Some(&flag));
            }
            FieldForm::Scalars => {
                let list: Vec<String> = values.iter().map(|value| scalar(value)).collect();
                body.line(8, &line(&format!("[{}]", list.join(", "))), Some(&flag));
            }
            FieldForm::Target | FieldForm::Side => {
                let value = values.first().map(String::as_str).unwrap_or_default();
                let side = write_side(field, &flag, value, common, &mut targets)?;
                body.line(8, &line(&side), Some(&flag));
            }
            FieldForm::TwoSides => {
                let sides: Result<Vec<String>, String> = values
                    .iter()
                    .enumerate()
                    .map(|(i, value)| {
                        let name = format!("{flag}-{}", i + 1);
                        write_side(field, &name, value, common, &mut targets)
                    })
                    .collect();
                body.line(8, &line(&format!("[{}]", sides?.join(", "))), Some(&flag));
            }
        }
    }
    let mut written = Written::default();
    written.line(0, &format!("apiVersion: {API_VERSION}"), None);
    written.line(0, &format!("kind: {KIND}"), None);
    written.line(0, "metadata:", None);
    written.line(2, &format!("name: inject-{}", kebab(args.kind.name)), None);
    written.line(0, "spec:", None);
    if let Some(lease) = &common.lease {
        written.line(2, &format!("lease: {}", scalar(lease)), Some("lease"));
    }
    if !targets.text.is_empty() {
        written.line(2, "targets:", None);
        written.text.push_str(&targets.text);
        written.flags.append(&mut targets.flags);
    }
    if common.without_controller {
        let safety = "safety: { withoutController: true }";
        written.line(2, safety, Some("without-controller"));
    }
    written.line(2, "method:", None);
    let nothing = if body.text.is_empty() { " {}" } else { "" };
    written.line(4, &format!("- {}:{nothing}", args.kind.name), None);
    written.text.push_str(&body.text);
    written.flags.append(&mut body.flags);
    if let Some(duration) = &common.duration {
        written.line(6, &format!("for: {}", scalar(duration)), Some("for"));
    }
    Ok(written)
}

/// Writes one side: addresses as they are, pods as a target of their own. Returns what the fault's
/// field says.
fn write_side(
    field: &FieldInfo,
    name: &str,
    value: &str,
    common: &Common,
    targets: &mut Written,
) -> Result<String, String> {
    let flag = kebab(field.name);
    if field.form != FieldForm::Target && !value.contains('=') {
        let is_address = |part: &str| part.contains('/') || part.parse::<IpAddr>().is_ok();
        let parts: Vec<&str> = value.split(',').collect();
        if value == "everything" {
            return Ok(value.into());
        }
        if parts.iter().all(|part| is_address(part)) {
            let parts: Vec<String> = parts.iter().map(|part| scalar(part)).collect();
            return Ok(format!("[{}]", parts.join(", ")));
        }
    }
    targets.line(4, &format!("{name}:"), Some(&flag));
    if let Some(namespace) = &common.namespace {
        targets.line(6, &format!("namespace: {}", scalar(namespace)), Some("namespace"));
    }
    let (mut names, mut labels) = (Vec::new(), Vec::new());
    for part in value.split(',') {
        let pair = part.split_once('=').filter(|(key, value)| !key.is_empty() && !value.is_empty());
        let Some((key, value)) = pair else {
            return Err(format!(
                "--{flag}: `{part}` does not say which pods: write LABEL=VALUE, such as app=api, or \
                 name=POD, or owner=KIND/NAME"
            ));
        };
        if key == "name" {
            names.push(scalar(value));
        } else if key == "owner" && value.contains('/') {
            // No label's value has a slash.
            targets.line(6, &format!("owner: {}", scalar(value)), Some(&flag));
        } else {
            labels.push((key, value));
        }
    }
    if !names.is_empty() {
        targets.line(6, &format!("names: [{}]", names.join(", ")), Some(&flag));
    }
    if !labels.is_empty() {
        targets.line(6, "labels:", Some(&flag));
        for (key, value) in labels {
            targets.line(8, &format!("{}: {}", scalar(key), scalar(value)), Some(&flag));
        }
    }
    Ok(name.into())
}

/// A scalar as YAML has it, in quotes wherever it might be read as something else.
fn scalar(text: &str) -> String {
    let plain = text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-/%".contains(&b))
        && !text.eq_ignore_ascii_case("null");
    // A JSON text is a YAML text in double quotes.
    if plain { text.to_owned() } else { serde_json::Value::from(text).to_string() }
}

/// Says which flag each mistake is of: nobody wrote the text it was found in.
fn speak_of_flags(errors: &mut LoadErrors, flags: &[Option<String>]) {
    for file in &mut errors.files {
        let FileError::Mistaken { problems, .. } = file else { continue };
        for problem in problems {
            if let Some(Some(flag)) = flags.get(problem.span.line.saturating_sub(1)) {
                problem.message = format!("{flag}: {}", problem.message);
            } else {
                problem.help = Some(
                    "every field is a flag of the same name: `for` is --for; see --help".into(),
                );
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scalars_are_read_back_as_they_were_given() {
        for text in ["app", "a b", "null", "~", "", "80%", "- x", "a: b", "#", "\"'\\", "é\n\u{7}"]
        {
            let documents = faultline_proto::yaml::parse(&format!("k: {}\n", scalar(text)));
            let documents = documents.expect(text);
            let value = documents[0].get("k").expect("k");
            assert_eq!(
                value.value,
                faultline_proto::yaml::Value::Scalar {
                    text: text.into(),
                    plain: !scalar(text).starts_with('"')
                }
            );
        }
    }
}
