//! `faultline report`: earlier runs, from their journals.

use std::path::{Path, PathBuf};

use super::{Exit, Output, print};
use crate::report::{
    Console, RunFiles,
    journal::{self, ReadError, Rebuilt},
    utc,
};

/// What is to be shown.
#[derive(Debug)]
pub(super) struct ReportRequest {
    /// A run's directory or journal, or the directory that reports went to.
    pub(super) path: PathBuf,
    /// Of several, the one that began last.
    pub(super) latest: bool,
    /// Write the files beside the journal anew.
    pub(super) rebuild: bool,
    pub(super) output: Output,
}

pub(super) fn main(request: &ReportRequest) -> anyhow::Result<Exit> {
    let runs = match find(&request.path) {
        Ok(runs) => runs,
        Err(why) => {
            print::failure(request.output, &why, Exit::Invalid);
            return Ok(Exit::Invalid);
        }
    };
    let mut read = Vec::new();
    let mut unreadable = Vec::new();
    for files in runs {
        match journal::read(&files.journal()) {
            Ok(journal) => read.push((files, journal::rebuild(journal))),
            Err(error) => unreadable.push(error),
        }
    }
    read.sort_by_key(|(_, rebuilt)| std::cmp::Reverse(rebuilt.report.started_unix_seconds));
    if request.latest {
        read.truncate(1);
    }
    match read.as_slice() {
        [] => {
            let why: Vec<String> = unreadable.iter().map(sentence).collect();
            let exit = exit_of(&unreadable);
            print::failure(request.output, &why.join("\n"), exit);
            return Ok(exit);
        }
        [(files, rebuilt)] => show(files, rebuilt, request.output)?,
        several if request.output == Output::Json => {
            let reports: Vec<_> = several.iter().map(|(_, rebuilt)| &rebuilt.report).collect();
            print::json(&reports)?;
        }
        several => print::out(&list(several))?,
    }
    for error in &unreadable {
        print::error(&sentence(error));
    }
    let mut live = Vec::new();
    if request.rebuild {
        for (files, rebuilt) in &read {
            if rebuilt.is_live {
                live.push(files.dir().display());
                continue;
            }
            files.write(&rebuilt.report, &rebuilt.events)?;
            print::err(&format!("written anew: {}\n", files.dir().display()));
        }
    }
    for dir in &live {
        print::error(&format!(
            "the run of {dir} is still going on, and writes its report itself: nothing is written there"
        ));
    }
    Ok(match read.as_slice() {
        _ if !live.is_empty() => Exit::Invalid,
        _ if !unreadable.is_empty() && !request.latest => exit_of(&unreadable),
        [(_, rebuilt)] => Exit::of_code(rebuilt.report.exit_code),
        // Several are listed, and none is judged by that.
        _ => Exit::Held,
    })
}

/// What to end with where journals cannot be shown: one that does not tell what was done does not say that
/// nothing is left.
fn exit_of(unreadable: &[ReadError]) -> Exit {
    if unreadable.iter().any(ReadError::is_silent) { Exit::Residue } else { Exit::Invalid }
}

/// The runs that are meant.
fn find(path: &Path) -> Result<Vec<RunFiles>, String> {
    let shown = path.display();
    if let Some(one) = RunFiles::of(path) {
        return Ok(vec![one]);
    }
    if path.is_file() {
        return Err(format!(
            "{shown} is no journal of a run: expected one with the name journal.jsonl"
        ));
    }
    let runs = RunFiles::all_in(path).map_err(|error| format!("cannot read {shown}: {error}"))?;
    if runs.is_empty() {
        return Err(format!(
            "no run is recorded in {shown}: expected a directory that `faultline run --report-dir` wrote, \
             with a journal.jsonl in it or in the directories in it"
        ));
    }
    Ok(runs)
}

fn show(files: &RunFiles, rebuilt: &Rebuilt, output: Output) -> anyhow::Result<()> {
    if output == Output::Json {
        print::json(&rebuilt.report)?;
        for remark in &rebuilt.remarks {
            print::err(&format!("note: {remark}\n"));
        }
        return Ok(());
    }
    Console::new(output).report(&rebuilt.report);
    for remark in &rebuilt.remarks {
        print::out(&format!("  note: {remark}\n"))?;
    }
    print::out(&format!("  from {}\n", files.journal().display()))?;
    Ok(())
}

/// One line for each run, the latest first.
fn list(runs: &[(RunFiles, Rebuilt)]) -> String {
    let line = |(files, rebuilt): &(RunFiles, Rebuilt)| {
        let report = &rebuilt.report;
        let began = utc(std::time::Duration::from_secs(report.started_unix_seconds));
        let verdict = report.verdict.name();
        format!("{began}  {verdict:<11}  {}\n", files.dir().display())
    };
    runs.iter().map(line).collect()
}

/// An error and its causes, on one line.
fn sentence(error: &ReadError) -> String {
    crate::run::one_line(error)
}
