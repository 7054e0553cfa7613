//! Files to experiments: the one way in for every command, so that `validate` and `run` agree.
//!
//! Nothing is printed here; [`crate::diagnostics`] shows what was wrong.

use std::{
    collections::HashMap,
    error::Error,
    fmt, fs,
    io::{self, Read},
    path::{Path, PathBuf},
    sync::Arc,
};

use faultline_proto::yaml::{self, Node, Problem, Problems, SOURCE_BYTES_MAX, Source, Span};

use super::{
    Experiment,
    decode::{self, Decoded},
};

/// An experiment, and the text it was read from: what is found wrong with it later (a target that
/// selects nothing, say) can still be shown where it is written.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The text.
    pub source: Arc<Source>,
    /// The experiment.
    pub experiment: Experiment,
}

/// Why one file came to nothing.
#[derive(Debug)]
pub enum FileError {
    /// It could not be read.
    Unreadable {
        /// Its name, as given.
        name: String,
        /// Why.
        error: io::Error,
        /// What to do about it.
        help: Option<String>,
    },
    /// It has mistakes, in the order they stand in it.
    Mistaken {
        /// Its text.
        source: Arc<Source>,
        /// At least one.
        problems: Vec<Problem>,
    },
}

/// What was wrong with the files that were to be loaded.
#[derive(Debug)]
pub struct LoadErrors {
    /// In the order the files were given. At least one.
    pub files: Vec<FileError>,
    /// The experiments that are without mistakes. They are not run when others have some.
    pub valid: Vec<Loaded>,
}

impl LoadErrors {
    /// How many mistakes there are; a file that cannot be read is one.
    pub fn count(&self) -> usize {
        self.files
            .iter()
            .map(|file| match file {
                FileError::Unreadable { .. } => 1,
                FileError::Mistaken { problems, .. } => problems.len(),
            })
            .sum()
    }
}

impl fmt::Display for LoadErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.count() {
            1 => f.write_str("1 mistake"),
            count => write!(f, "{count} mistakes"),
        }
    }
}

impl Error for LoadErrors {}

/// Reads experiments from files; `-` is standard input. Mistakes of all files are collected.
///
/// # Errors
/// When a file cannot be read or has a mistake, or two experiments have one name.
pub fn load(files: &[PathBuf]) -> Result<Vec<Loaded>, LoadErrors> {
    let mut loader = Loader::default();
    for path in files {
        match read(path) {
            Ok(Text::Utf8(source)) => loader.take(Arc::new(source)),
            Ok(Text::NotUtf8(source, problem)) => {
                let source = Arc::new(source);
                loader.errors.push(FileError::Mistaken { source, problems: vec![problem] });
            }
            Err(error) => loader.errors.push(error),
        }
    }
    loader.finish()
}

/// Reads experiments from a text.
///
/// # Errors
/// When it has a mistake.
pub fn load_source(source: Source) -> Result<Vec<Loaded>, LoadErrors> {
    let mut loader = Loader::default();
    loader.take(Arc::new(source));
    loader.finish()
}

#[derive(Default)]
struct Loader {
    errors: Vec<FileError>,
    valid: Vec<Loaded>,
    /// Where each name was first given.
    names: HashMap<String, (Arc<Source>, Span)>,
}

impl Loader {
    fn take(&mut self, source: Arc<Source>) {
        let mut problems = Problems::new();
        let documents = unprintable(&source.text, &mut problems)
            .then(|| yaml::parse(&source.text).map_err(|mistakes| problems.append(mistakes)).ok())
            .flatten();
        if let Some(documents) = documents {
            // A `---` too many makes a document of nothing, which is nothing to complain of.
            let written: Vec<&Node> = documents.iter().filter(|node| !node.is_null()).collect();
            if written.is_empty() {
                problems
                    .add(Span { line: 1, column: 1, ..Span::default() }, "no experiment in here")
                    .expected("expected apiVersion, kind, metadata and spec")
                    .help("examples/quickstart.yaml is one to begin with");
            }
            for document in written {
                let before = problems.len();
                let decoded = decode::decode(document, &mut problems);
                // A decoder that gives up without a word would let an experiment vanish.
                if decoded.experiment.is_none() && problems.len() == before {
                    problems.add(document.span, "this experiment cannot be read");
                }
                self.keep(decoded, &source, &mut problems);
            }
        }
        if !problems.is_empty() {
            self.errors.push(FileError::Mistaken { source, problems: problems.into_sorted() });
        }
    }

    fn keep(&mut self, decoded: Decoded, source: &Arc<Source>, problems: &mut Problems) {
        let Some(name) = decoded.name else { return };
        if let Some((other, span)) = self.names.get(&name.value) {
            let place = if Arc::ptr_eq(other, source) {
                format!("line {}", span.line)
            } else {
                format!("{}:{}:{}", other.name, span.line, span.column)
            };
            problems
                .add(name.span, format!("two experiments are called `{}`", name.value))
                .expected(format!("the other is in {place}"))
                .help("reports are told apart by it: give one of them another name");
            return;
        }
        self.names.insert(name.value, (Arc::clone(source), name.span));
        if let Some(mut experiment) = decoded.experiment {
            experiment.file.clone_from(&source.name);
            self.valid.push(Loaded { source: Arc::clone(source), experiment });
        }
    }

    fn finish(self) -> Result<Vec<Loaded>, LoadErrors> {
        if self.errors.is_empty() {
            Ok(self.valid)
        } else {
            Err(LoadErrors { files: self.errors, valid: self.valid })
        }
    }
}

enum Text {
    Utf8(Source),
    /// As much of it as can be shown, and where it goes wrong.
    NotUtf8(Source, Problem),
}

/// Reads a file, but no more of it than may be parsed.
fn read(path: &Path) -> Result<Text, FileError> {
    let standard_input = path == Path::new("-");
    let name = if standard_input { "<standard input>".into() } else { path.display().to_string() };
    let unreadable = |error: io::Error| {
        let help = match error.kind() {
            io::ErrorKind::NotFound => similar_file(path),
            io::ErrorKind::IsADirectory => {
                Some(format!("name the files in it: {}/*.yaml", name.trim_end_matches('/')))
            }
            _ => None,
        };
        FileError::Unreadable { name: name.clone(), error, help }
    };
    let limit = SOURCE_BYTES_MAX as u64 + 1;
    let mut bytes = Vec::new();
    let result = if standard_input {
        io::stdin().lock().take(limit).read_to_end(&mut bytes)
    } else {
        fs::File::open(path).and_then(|file| file.take(limit).read_to_end(&mut bytes))
    };
    result.map_err(unreadable)?;
    // A byte order mark is no part of the text.
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&bytes);
    match std::str::from_utf8(bytes) {
        Ok(text) => Ok(Text::Utf8(Source { name, text: text.to_owned() })),
        // The limit may cut a character in two; what is too large is told as such.
        Err(error) if bytes.len() > SOURCE_BYTES_MAX && error.error_len().is_none() => {
            Ok(Text::Utf8(Source { name, text: String::from_utf8_lossy(bytes).into_owned() }))
        }
        Err(error) => {
            let (valid, rest) = bytes.split_at(error.valid_up_to());
            let before = String::from_utf8_lossy(valid);
            let text = String::from_utf8_lossy(bytes).into_owned();
            let byte = rest.first().copied().unwrap_or_default();
            let help = match bytes {
                [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => "this is UTF-16: save it as UTF-8",
                _ => "is this the right file? If it is, save it as UTF-8",
            };
            let problem = Problem {
                span: end_of(&before),
                message: format!("the byte 0x{byte:02x} is no text"),
                expected: Some("expected UTF-8".into()),
                help: Some(help.into()),
            };
            Ok(Text::NotUtf8(Source { name, text }, problem))
        }
    }
}

/// The character behind `before`.
fn end_of(before: &str) -> Span {
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    let start = before.chars().count();
    let line = before.matches('\n').count() + 1;
    let column = before.get(line_start..).unwrap_or_default().chars().count() + 1;
    Span { start, end: start + 1, line, column }
}

/// Whether a text has no control character but those that YAML knows; reports the first.
fn unprintable(text: &str, problems: &mut Problems) -> bool {
    let control = |c: char| c.is_control() && !matches!(c, '\t' | '\n' | '\r' | '\u{85}');
    let Some(at) = text.find(control) else { return true };
    let (before, rest) = text.split_at(at);
    let code = rest.chars().next().map_or(0, u32::from);
    problems
        .add(end_of(before), format!("a control character, U+{code:04X}"))
        .expected("expected text")
        .help("is this the right file?");
    false
}

/// A file beside a missing one that has nearly its name.
fn similar_file(path: &Path) -> Option<String> {
    let wanted = path.file_name()?.to_str()?;
    let folder = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    let names: Vec<String> = fs::read_dir(folder.unwrap_or(Path::new(".")))
        .ok()?
        .take(10_000)
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .collect();
    let nearest = yaml::nearest(wanted, names.iter().map(String::as_str))?;
    Some(format!("did you mean `{}`?", path.with_file_name(nearest).display()))
}
