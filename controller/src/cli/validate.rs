//! `faultline validate FILE…`, and what every command says of files with mistakes.

use std::path::PathBuf;

use serde::Serialize;

use super::{Exit, Output, print};
use crate::{
    diagnostics::{self, Diagnostic},
    experiment::{self, LoadErrors, Loaded},
    report::counted,
};

/// What was found, for programs.
#[derive(Debug, Serialize)]
struct Validation {
    valid: bool,
    experiments: Vec<Summary>,
    problems: Vec<Diagnostic>,
}

/// An experiment without mistakes.
#[derive(Debug, Serialize)]
struct Summary {
    file: String,
    name: String,
    targets: usize,
    probes: usize,
    steps: usize,
}

impl Summary {
    fn of(loaded: &Loaded) -> Self {
        let experiment = &loaded.experiment;
        Self {
            file: loaded.source.name.clone(),
            name: experiment.name.clone(),
            targets: experiment.targets.len(),
            probes: experiment.probes.iter().filter(|probe| !probe.is_load).count(),
            steps: experiment.method.len(),
        }
    }

    fn line(&self) -> String {
        let Self { file, name, .. } = self;
        let targets = counted(self.targets, "target");
        let probes = counted(self.probes, "probe");
        let steps = counted(self.steps, "step");
        format!("{file}: ok ({name}: {targets}, {probes}, {steps})\n")
    }
}

pub(super) fn main(files: &[PathBuf], output: Output) -> anyhow::Result<Exit> {
    let loaded = match experiment::load(files) {
        Ok(loaded) => loaded,
        Err(errors) => {
            if output == Output::Text {
                print::out(&lines(&errors.valid))?;
            }
            return refuse(&errors, output);
        }
    };
    match output {
        Output::Text => print::out(&lines(&loaded))?,
        Output::Json => {
            let experiments = loaded.iter().map(Summary::of).collect();
            print::json(&Validation { valid: true, experiments, problems: Vec::new() })?;
        }
    }
    Ok(Exit::Held)
}

fn lines(loaded: &[Loaded]) -> String {
    loaded.iter().map(|loaded| Summary::of(loaded).line()).collect()
}

/// Tells the mistakes: on standard error for people, on standard output as JSON.
pub(super) fn refuse(errors: &LoadErrors, output: Output) -> anyhow::Result<Exit> {
    match output {
        Output::Text => print::err(&diagnostics::render(errors, true)),
        Output::Json => {
            let experiments = errors.valid.iter().map(Summary::of).collect();
            let problems = diagnostics::list(errors);
            print::json(&Validation { valid: false, experiments, problems })?;
        }
    }
    Ok(Exit::Invalid)
}
