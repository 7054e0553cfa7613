//! The files of a run: `EXPERIMENT-RUN/` in the directory that reports go to.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use super::{Report, html, journal::Line, junit};

/// The name of the journal.
const JOURNAL: &str = "journal.jsonl";

/// The directory of one run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunFiles {
    dir: PathBuf,
}

impl RunFiles {
    /// Makes `EXPERIMENT-RUN` in a directory, which is made if it is not there.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn create(parent: &Path, experiment: &str, run_id: &str) -> io::Result<Self> {
        let dir = parent.join(format!("{experiment}-{run_id}"));
        fs::create_dir_all(&dir)?;
        Ok(Self { dir })
    }

    /// Those of the run whose journal or directory this is; `None` if it is neither.
    pub fn of(path: &Path) -> Option<Self> {
        if path.is_file() {
            return Some(Self { dir: path.parent()?.to_owned() });
        }
        path.join(JOURNAL).is_file().then(|| Self { dir: path.to_owned() })
    }

    /// Those of every run in a directory that reports went to.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn all_in(parent: &Path) -> io::Result<Vec<Self>> {
        let mut all: Vec<Self> = Vec::new();
        for entry in fs::read_dir(parent)? {
            let dir = entry?.path();
            if dir.join(JOURNAL).is_file() {
                all.push(Self { dir });
            }
        }
        all.sort_by(|a, b| a.dir.cmp(&b.dir));
        Ok(all)
    }

    /// The directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Where its journal is.
    pub fn journal(&self) -> PathBuf {
        self.dir.join(JOURNAL)
    }

    /// Writes everything but the journal: what the run came to, for programs and people. Each file is
    /// the old one or the new one, whatever happens meanwhile.
    ///
    /// # Errors
    /// When one cannot be written.
    pub fn write(&self, report: &Report, events: &[Line]) -> io::Result<()> {
        self.write_one("run.json", &serde_json::to_vec_pretty(report)?)?;
        self.write_one("junit.xml", junit::document(report)?.as_bytes())?;
        self.write_one("report.html", html::page(report, events).as_bytes())
    }

    fn write_one(&self, name: &str, content: &[u8]) -> io::Result<()> {
        let new = self.dir.join(format!(".{name}.new"));
        let written = fs::write(&new, content).and_then(|()| fs::rename(&new, self.dir.join(name)));
        if written.is_err() {
            // On a disk that is full even half a file is in the way.
            fs::remove_file(&new).ok();
        }
        written
    }

    /// Takes away what was made for a run that is not begun: the directory, if nothing else is in it.
    pub fn discard(&self) {
        fs::remove_file(self.journal()).ok();
        fs::remove_dir(&self.dir).ok();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_left_of_a_file_that_cannot_be_written() {
        let dir = tempfile::tempdir().expect("a directory");
        let files = RunFiles { dir: dir.path().to_owned() };
        // A directory is in the place where the file should go.
        fs::create_dir(dir.path().join("run.json")).expect("made");
        assert!(files.write_one("run.json", b"{}").is_err());
        let names: Vec<_> = fs::read_dir(dir.path()).expect("readable").flatten().collect();
        assert_eq!(names.len(), 1, "{names:?}");
    }
}
