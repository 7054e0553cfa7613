//! Metrics in a file, for node_exporter's textfile collector: written whole or not at all, and read
//! first, so that what is counted goes on from run to run and other experiments keep what they said.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use thiserror::Error;

use super::{Metrics, exposition};

/// What such a file begins with. Another is not written over.
const HEAD: &str = "# Written by `faultline run --metrics-file`. Counts go on from run to run; remove it to begin anew.\n";

/// The file cannot be used.
#[derive(Debug, Error)]
pub enum FileError {
    /// There is a file of somebody else.
    #[error("{path} was not written by faultline and is left alone: {why}")]
    Foreign {
        /// Which.
        path: String,
        /// How that is known.
        why: String,
    },
    /// The system said no.
    #[error("cannot {verb} {path}")]
    Io {
        /// What was done.
        verb: &'static str,
        /// With which file.
        path: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

impl FileError {
    fn io(verb: &'static str, path: &Path, source: io::Error) -> Self {
        Self::Io { verb, path: path.display().to_string(), source }
    }
}

/// Whether metrics can be written there; a run whose metrics have nowhere to go is better not begun.
///
/// # Errors
/// When its directory takes no file, or there is a file of somebody else.
pub fn check(path: &Path) -> Result<(), FileError> {
    earlier(path)?;
    let temporary = temporary(path);
    fs::write(&temporary, HEAD).map_err(|e| FileError::io("write", &temporary, e))?;
    fs::remove_file(&temporary).map_err(|e| FileError::io("remove", &temporary, e))
}

/// Adds what a run came to.
///
/// # Errors
/// When the file cannot be read or written, or is somebody else's.
pub fn add(path: &Path, metrics: &Metrics) -> Result<(), FileError> {
    let foreign = |why: String| FileError::Foreign { path: path.display().to_string(), why };
    let text = metrics.openmetrics().map_err(|e| foreign(e.to_string()))?;
    let text = exposition::go_on(&earlier(path)?, &exposition::classic(&text))
        .map_err(|line| foreign(format!("it has the line {line:?}")))?;
    let temporary = temporary(path);
    let written = fs::write(&temporary, format!("{HEAD}{text}"));
    written.map_err(|e| FileError::io("write", &temporary, e))?;
    fs::rename(&temporary, path).map_err(|e| FileError::io("write", path, e))
}

/// What the file says now; nothing if there is none.
fn earlier(path: &Path) -> Result<String, FileError> {
    match fs::read_to_string(path) {
        Ok(text) if text.starts_with("# Written by `faultline run") => Ok(text),
        Ok(_) => Err(FileError::Foreign {
            path: path.display().to_string(),
            why: "it has another first line".into(),
        }),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(String::new()),
        Err(e) => Err(FileError::io("read", path, e)),
    }
}

/// Beside it, so that it can be renamed, and under a name that no collector reads.
fn temporary(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.{}.tmp", std::process::id()))
}
