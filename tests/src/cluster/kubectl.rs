//! `kubectl`, and waiting for what it says.

use std::{
    io::Write as _,
    process::{Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use serde_json::Value;

/// What it said.
#[derive(Debug)]
pub struct Said {
    /// Whether it exited with 0.
    pub ok: bool,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
}

/// Runs it.
///
/// # Panics
/// When there is none.
pub fn kubectl(args: &[&str]) -> Said {
    run(args, None)
}

/// Runs it, and takes no no for an answer.
///
/// # Panics
/// When it fails.
#[track_caller]
pub fn ok(args: &[&str]) -> String {
    let Said { ok, out, err } = kubectl(args);
    assert!(ok, "kubectl {args:?}: {err}{out}");
    out
}

/// Makes objects what a manifest says.
///
/// # Panics
/// When the API server does not take them.
#[track_caller]
pub fn apply(manifest: &str) {
    let Said { ok, out, err } = run(&["apply", "-f", "-"], Some(manifest));
    assert!(ok, "kubectl apply: {err}{out}\n{manifest}");
}

/// An object, or a list of them.
///
/// # Panics
/// When it cannot be had.
#[track_caller]
pub fn get(args: &[&str]) -> Value {
    let mut all = vec!["get", "-o", "json"];
    all.extend(args);
    serde_json::from_str(&ok(&all)).expect("JSON")
}

/// Waits until something is so, and looks four times a second.
///
/// # Panics
/// When it is not within `limit`.
#[track_caller]
pub fn until<T>(what: &str, limit: Duration, mut look: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + limit;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < end, "not within {limit:?}: {what}");
        sleep(Duration::from_millis(250));
    }
}

fn run(args: &[&str], input: Option<&str>) -> Said {
    let mut command = Command::new("kubectl");
    command.args(args).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.stdin(if input.is_some() { Stdio::piped() } else { Stdio::null() });
    let mut child = command.spawn().expect("kubectl is there");
    if let (Some(text), Some(mut pipe)) = (input, child.stdin.take()) {
        pipe.write_all(text.as_bytes()).expect("kubectl reads");
    }
    let output = child.wait_with_output().expect("kubectl ends");
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Said { ok: output.status.success(), out: text(output.stdout), err: text(output.stderr) }
}
