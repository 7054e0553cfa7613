//! From a file to the events of a journal. A last line that is torn is what a killed controller leaves,
//! and is no mistake; anything else that is not understood is told with its line. Whoever writes a
//! journal holds a lock on it: of a run that still goes on it is known that it does.

use std::{
    fs::{File, TryLockError},
    io::{self, BufRead, BufReader},
    path::{Path, PathBuf},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use serde::Deserialize;
use serde_json::Value;
use thiserror::Error;

use super::{Begun, Event, JOURNAL_VERSION, Line};
use crate::report::{clean, clean_all, may_be_unclean};

/// The longest line that is taken for one of ours.
const LINE_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// A journal that was read.
#[derive(Debug, Clone)]
pub struct Journal {
    /// What was run, and where.
    pub begun: Begun,
    /// Every line, the first one included.
    pub lines: Vec<Line>,
    /// The last line had been begun and not ended.
    pub torn: bool,
    /// Its run still goes on.
    pub is_live: bool,
    /// When it was read by the wall clock, since 1970.
    pub read_at: Duration,
    /// What of the file is not in here, in a sentence.
    pub left_out: Option<String>,
}

/// Why a file is not read as a journal.
#[derive(Debug, Error)]
pub enum ReadError {
    /// It cannot be read.
    #[error("cannot read {}", .path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It has no complete line.
    #[error(
        "{} has no complete line, and does not tell what was done: its controller was killed, its machine \
         went down, or its disk was full. Faults may have been injected: `faultline ps` shows what there is \
         now", .path.display()
    )]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// Its run has only just begun.
    #[error(
        "{} has no complete line yet: its run has only just begun, and is still going on", .path.display()
    )]
    Beginning {
        /// The file.
        path: PathBuf,
    },
    /// It is something else.
    #[error(
        "{} is no journal of a run: its first line does not say `\"event\":\"begun\"`; \
         expected the `journal.jsonl` that `faultline run --report-dir` wrote", .path.display()
    )]
    Foreign {
        /// The file.
        path: PathBuf,
    },
    /// It was written by a later version.
    #[error(
        "{} was written by faultline {by}, as version {version} of the journal, and this is faultline \
         {}, which reads up to version {JOURNAL_VERSION}: show it with the one that wrote it",
        .path.display(), env!("CARGO_PKG_VERSION")
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// The journal's version.
        version: u64,
        /// Who wrote it.
        by: String,
    },
    /// A line of it is damaged.
    #[error(
        "{}:{line} is no line of a journal ({why}); the lines before it are whole: \
         `head -n {} FILE` makes a journal of them", .path.display(), .line - 1
    )]
    Broken {
        /// The file.
        path: PathBuf,
        /// Which line, from 1.
        line: usize,
        /// What was found.
        why: String,
    },
}

impl ReadError {
    /// Whether it is a run's journal all the same, which does not exclude that faults were injected.
    pub fn is_silent(&self) -> bool {
        matches!(self, Self::Empty { .. } | Self::Beginning { .. })
    }
}

/// Reads a journal.
///
/// # Errors
/// When it cannot be read, is something else, or is damaged elsewhere than at its end.
pub fn read(path: &Path) -> Result<Journal, ReadError> {
    let unreadable = |source| ReadError::Unreadable { path: path.into(), source };
    let file = File::open(path).map_err(unreadable)?;
    // Before the lines are read: of who ends meanwhile, every line is there.
    let is_live = matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock));
    let mut file = BufReader::new(file);
    let mut begun: Option<Begun> = None;
    let mut lines = Vec::new();
    let mut torn = false;
    let mut left_out = None;
    let mut bytes = Vec::new();
    for number in 1.. {
        bytes.clear();
        let read = io::Read::take(&mut file, LINE_BYTES_MAX).read_until(b'\n', &mut bytes);
        if read.map_err(unreadable)? == 0 {
            break;
        }
        let is_whole = bytes.pop_if(|byte| *byte == b'\n').is_some();
        if begun.is_none() {
            // Zeros are what a machine that went down leaves of what was not on its disk yet.
            if !is_whole || bytes.iter().all(|byte| *byte == 0) {
                break;
            }
            check_first(path, &bytes)?;
        }
        let line = match parse(&bytes) {
            Ok(line) => line,
            // Whoever wrote it was ended in the middle.
            Err(_)
                if !is_whole
                    && io::BufRead::fill_buf(&mut file).map_err(unreadable)?.is_empty() =>
            {
                torn = true;
                break;
            }
            Err(why) => return Err(ReadError::Broken { path: path.into(), line: number, why }),
        };
        let has_ended = lines.last().is_some_and(|last: &Line| last.event.is_last());
        match (&begun, &line.event) {
            (None, Event::Begun(first)) => begun = Some(first.as_ref().clone()),
            (Some(_), Event::Begun(other)) => {
                left_out = Some(format!(
                    "line {number} begins another run ({}): it and what follows it are left out",
                    other.run_id
                ));
                break;
            }
            _ if has_ended => {
                left_out = Some(format!(
                    "line {number} comes after the end of the run: it and what follows it are left out"
                ));
                break;
            }
            _ => {}
        }
        lines.push(line);
    }
    let path = path.to_owned();
    let begun = match begun {
        Some(begun) => begun,
        None if is_live => return Err(ReadError::Beginning { path }),
        None => return Err(ReadError::Empty { path }),
    };
    let read_at = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Ok(Journal { begun, lines, torn, is_live, read_at, left_out })
}

/// Whether this is the first line of a journal that can be read.
fn check_first(path: &Path, bytes: &[u8]) -> Result<(), ReadError> {
    let foreign = || ReadError::Foreign { path: path.into() };
    let first: Value = serde_json::from_slice(bytes).map_err(|_not_json| foreign())?;
    let version = first["journalVersion"].as_u64().filter(|_| first["event"] == "begun");
    let version = version.ok_or_else(foreign)?;
    if version > u64::from(JOURNAL_VERSION) {
        let by = first["environment"]["faultlineVersion"].as_str().unwrap_or("of another version");
        return Err(ReadError::Newer { path: path.into(), version, by: clean(by) });
    }
    Ok(())
}

fn parse(bytes: &[u8]) -> Result<Line, String> {
    let said = |error: serde_json::Error| clean(&error.to_string());
    // It would be shown on somebody's terminal, and not everybody who writes journals is us.
    if !may_be_unclean(bytes) {
        return serde_json::from_slice(bytes).map_err(said);
    }
    let mut value: Value = serde_json::from_slice(bytes).map_err(said)?;
    clean_all(&mut value);
    Line::deserialize(value).map_err(said)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: &str = r#"{"atMs":0.1,"wallUnixMs":1795266478226,"event":"begun","journalVersion":1,"runId":"1","experiment":"a","hypothesis":null,"file":"a.yaml","source":"","seed":1,"leaseMs":1000.0,"place":"here","startedUnixSeconds":1795266478,"environment":{"faultlineVersion":"0.1.0","kernel":"6","architecture":"x86_64"}}"#;
    const ALIVE: &str = r#"{"atMs":1000.1,"wallUnixMs":1795266479226,"event":"alive"}"#;

    fn read_text(text: &str) -> Result<Journal, String> {
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("journal.jsonl");
        std::fs::write(&file, text).expect("written");
        read(&file).map_err(|error| {
            let said = crate::run::one_line(&error);
            said.replace(&file.display().to_string(), "J")
        })
    }

    #[test]
    fn a_last_line_that_is_torn_is_no_mistake() {
        let whole = read_text(&format!("{FIRST}\n{ALIVE}\n")).expect("whole");
        assert_eq!((whole.lines.len(), whole.torn), (2, false));
        for cut in 1..ALIVE.len() {
            let torn = read_text(&format!("{FIRST}\n{}", &ALIVE[..cut])).expect("a torn end");
            assert_eq!((torn.lines.len(), torn.torn), (1, true), "{cut}");
        }
        let unended = read_text(&format!("{FIRST}\n{ALIVE}")).expect("only its end is missing");
        assert_eq!(unended.lines.len(), 2);
    }

    #[test]
    fn what_is_no_journal_is_told_with_what_to_do() {
        let newer = FIRST.replace("\"journalVersion\":1", "\"journalVersion\":7");
        for (text, said) in [
            (String::new(), "J has no complete line, and does not tell what was done"),
            ("\0".repeat(4096), "J has no complete line, and does not tell what was done"),
            (format!("{}\n", "\0".repeat(4096)), "or its disk was full"),
            (FIRST[..40].to_owned(), "J has no complete line"),
            ("{}\n".to_owned(), "J is no journal of a run"),
            ("not JSON\n".to_owned(), "J is no journal of a run"),
            (format!("{newer}\n"), "was written by faultline 0.1.0, as version 7 of the journal"),
            (format!("{FIRST}\n{}\n{ALIVE}\n", &ALIVE[..20]), "J:2 is no line of a journal"),
            (format!("{FIRST}\n{}\n", ALIVE.replace("alive", "unheard")), "J:2 is no line"),
        ] {
            let found = read_text(&text).expect_err(said);
            assert!(found.contains(said), "{found}");
        }
    }

    #[test]
    fn what_follows_the_end_of_a_run_is_left_out_and_told() {
        let ended = r#"{"atMs":2000.1,"wallUnixMs":1795266480226,"event":"ended","residue":[]}"#;
        let one = format!("{FIRST}\n{ALIVE}\n{ended}\n");
        assert_eq!(read_text(&one).expect("one run").left_out, None);
        for (text, said) in [
            (format!("{one}{one}"), "line 4 begins another run (1)"),
            (format!("{FIRST}\n{ALIVE}\n{one}"), "line 3 begins another run (1)"),
            (format!("{one}{ALIVE}\n"), "line 4 comes after the end of the run"),
        ] {
            let left_out = read_text(&text).expect("the first run").left_out;
            assert!(left_out.as_ref().is_some_and(|text| text.contains(said)), "{left_out:?}");
        }
    }

    #[test]
    fn a_journal_that_is_being_written_is_of_a_run_that_goes_on() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("journal.jsonl");
        let writer = File::create(&path).expect("a file");
        writer.try_lock().expect("nobody else has it");
        let error = read(&path).expect_err("there is no line yet");
        assert!(matches!(error, ReadError::Beginning { .. }) && error.is_silent(), "{error}");
        std::fs::write(&path, format!("{FIRST}\n")).expect("written");
        assert!(read(&path).expect("a journal").is_live);
        drop(writer);
        assert!(!read(&path).expect("a journal").is_live);
    }

    #[test]
    fn nothing_in_it_reaches_the_terminal_as_a_control_character() {
        let first = FIRST.replace("\"here\"", "\"\\u001b[2Jhere\\n\"");
        let journal = read_text(&format!("{first}\n")).expect("a journal");
        assert_eq!(journal.begun.place, "\u{fffd}[2Jhere\n");
    }
}
