//! Where the record of a run goes: the journal while it runs, and the other files of its report at its
//! end.

use std::{io, path::Path};

use super::print;
use crate::{
    experiment::Loaded,
    report::{Console, Report, RunFiles, journal},
    run::Recorder,
};

/// The record of one run, if one is kept.
pub(super) struct Record {
    pub(super) recorder: Recorder,
    files: Option<RunFiles>,
}

/// What is kept of a run.
#[derive(Debug, Clone, Copy)]
pub(super) struct Kept<'a> {
    /// Where its report goes; `None`: nowhere.
    pub(super) report_dir: Option<&'a Path>,
    /// A trace is made of it.
    pub(super) traced: bool,
}

impl Record {
    /// Begins the record of a run that begins now, in a directory of its own below that of reports.
    ///
    /// # Errors
    /// When that cannot be made. A run whose report has nowhere to go is better not begun.
    pub(super) fn begin(loaded: &Loaded, keep: Kept<'_>) -> io::Result<Self> {
        let recorder = Recorder::nowhere().traced(keep.traced);
        let Some(dir) = keep.report_dir else { return Ok(Self { recorder, files: None }) };
        let run_id = recorder.run_id().to_string();
        let files = RunFiles::create(dir, &loaded.experiment.name, &run_id)?;
        let recorder = recorder
            .create(&files.journal(), &loaded.source)
            .inspect_err(|_nothing_is_run| files.discard())?;
        Ok(Self { recorder, files: Some(files) })
    }

    /// Writes what the run came to. `left` is what is left of its place, which is in the report already.
    ///
    /// What a run came to has been said, and is the more important thing to return: that it cannot be
    /// written is told, and no more.
    pub(super) fn finish(self, report: &Report, left: &[String], console: &Console) {
        let Some(files) = self.files else { return };
        let dir = files.dir().display();
        if let Err(why) = self.recorder.finish(left) {
            print::error(&format!("the journal in {dir} is not whole: {why}"));
        }
        // The events are where the journal is, and nowhere else.
        let events = match journal::read(&files.journal()) {
            Ok(journal) => journal::rebuild(journal).events,
            Err(error) => {
                print::error(&format!("the report in {dir} tells no events: {error}"));
                Vec::new()
            }
        };
        match files.write(report, &events) {
            Ok(()) => console.say("report", &dir.to_string()),
            Err(error) => print::error(&format!("no report in {dir}: {error}")),
        }
    }
}
