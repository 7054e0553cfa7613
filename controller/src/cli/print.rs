//! Printing. Whoever reads may have gone away: a closed pipe is no reason to panic or to complain.

use std::io::{self, Write};

use serde::Serialize;

use super::{Exit, Output};

/// Writes to standard output. A closed pipe counts as written: nobody wants to read on.
///
/// # Errors
/// When it cannot be written for any other reason.
pub fn out(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error),
        _ => Ok(()),
    }
}

/// Writes to standard error; colours are taken out where they are not wanted. If even that fails,
/// there is nobody left to tell.
pub fn err(text: &str) {
    drop(anstream::stderr().write_all(text.as_bytes()));
}

/// Writes `error: …` to standard error.
pub fn error(message: &str) {
    let style = anstyle::AnsiColor::Red.on_default().bold();
    err(&format!("{style}error{style:#}: {message}\n"));
}

/// Writes one JSON document to standard output.
///
/// # Errors
/// When it cannot be written; a closed pipe counts as written.
pub fn json(document: &impl Serialize) -> io::Result<()> {
    out(&(serde_json::to_string_pretty(document)? + "\n"))
}

/// Says why a command ends here: to people on standard error, to programs as JSON on standard
/// output, where they look.
pub fn failure(output: Output, message: &str, exit: Exit) {
    match output {
        Output::Text => error(message),
        Output::Json => {
            let document = serde_json::json!({ "error": message, "exitCode": exit as u8 });
            if json(&document).is_err() {
                error(message);
            }
        }
    }
}
