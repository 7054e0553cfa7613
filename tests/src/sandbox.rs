//! Holding a sandbox in a process of its own, and looking at it from the machine.

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    sync::{Mutex, MutexGuard, PoisonError},
    thread::sleep,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

/// A process that holds a sandbox (`tests/src/bin/sandbox-holder.rs`).
#[derive(Debug)]
pub struct Holder {
    /// What it said when the sandbox was up.
    pub ready: Value,
    /// The process.
    pub child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

/// Who the holder runs as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum User<'a> {
    /// The user of the tests, who is root.
    Root,
    /// `nobody`, with this directory as its runtime directory's parent.
    Nobody(&'a Path),
}

/// Sandboxes are swept by each other: a test that looks at what is left wants to be alone.
pub fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Holder {
    /// Starts a sandbox, or returns what the holder complained of.
    ///
    /// # Errors
    /// What was printed when there was no sandbox.
    pub fn start(program: &str, spec: &Value, user: User<'_>) -> Result<Self, String> {
        let mut command = Command::new(program);
        command.arg(spec.to_string()).process_group(0);
        if let User::Nobody(directory) = user {
            command.uid(65534).gid(65534).env("XDG_RUNTIME_DIR", directory);
        }
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(|error| error.to_string())?;
        let input = child.stdin.take();
        let output = BufReader::new(child.stdout.take().ok_or("no output")?);
        let mut holder = Self { ready: Value::Null, child, input, output };
        if let Some(ready) = holder.hear() {
            holder.ready = ready;
            return Ok(holder);
        }
        let mut text = String::new();
        let mut errors = holder.child.stderr.take().ok_or("no errors")?;
        errors.read_to_string(&mut text).map_err(|error| error.to_string())?;
        Err(text)
    }

    /// The next line that it says; `None` at the end.
    pub fn hear(&mut self) -> Option<Value> {
        let mut line = String::new();
        self.output.read_line(&mut line).ok()?;
        serde_json::from_str(&line).ok()
    }

    /// Asks something without waiting for the answer.
    pub fn send(&mut self, asked: &Value) {
        let input = self.input.as_mut().expect("the input is open");
        writeln!(input, "{asked}").expect("the holder listens");
    }

    /// Asks something. A complaint of the holder is in `error`.
    pub fn ask(&mut self, asked: &Value) -> Value {
        self.send(asked);
        self.hear().expect("an answer")
    }

    /// Runs a command in a pod.
    pub fn exec(&mut self, pod: &str, command: &[&str]) -> Value {
        self.ask(&json!({ "do": "exec", "pod": pod, "command": command }))
    }

    /// The sandbox's id.
    pub fn id(&self) -> String {
        self.ready["id"].as_str().expect("an id").to_owned()
    }

    /// The sandbox's directory.
    pub fn directory(&self) -> PathBuf {
        self.ready["directory"].as_str().expect("a directory").into()
    }

    /// Has the sandbox taken down, and returns what was said of it.
    pub fn down(&mut self) -> Value {
        drop(self.input.take());
        let said = self.hear().expect("a last word");
        assert!(self.child.wait().expect("it ends").success());
        said
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        // For a test that failed; otherwise it has ended.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// The processes of a sandbox that there are now: by their control groups and command lines.
pub fn processes(id: &str) -> Vec<(i32, String)> {
    let entries = fs::read_dir("/proc").expect("/proc").flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    pids.filter_map(|pid| {
        let read = |name: &str| fs::read(format!("/proc/{pid}/{name}")).unwrap_or_default();
        let text = |name: &str| String::from_utf8_lossy(&read(name)).replace('\0', " ");
        let (command, groups) = (text("cmdline"), text("cgroup"));
        let zombie = text("stat").contains(") Z ");
        let ours = command.contains(id) || groups.contains(id);
        (ours && !zombie).then_some((pid, command))
    })
    .collect()
}

/// The control groups of a sandbox that there are now, in every hierarchy.
pub fn control_groups(id: &str) -> Vec<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mounts").expect("the mounts");
    let groups = mounts.lines().filter(|line| line.contains(" cgroup"));
    let points = groups.filter_map(|line| line.split(' ').nth(1).map(PathBuf::from));
    let all = points.flat_map(|point| fs::read_dir(point).into_iter().flatten().flatten());
    all.map(|entry| entry.path()).filter(|path| path.display().to_string().contains(id)).collect()
}

/// What a sandbox must not change on the machine: its interfaces, addresses, routes and mounts.
pub fn machine() -> String {
    let ip = |args: &[&str]| {
        let output = Command::new("ip").args(args).output().expect("ip");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let mounts = fs::read_to_string("/proc/self/mountinfo").expect("the mounts");
    let routes = ip(&["-j", "route"]) + &ip(&["-j", "-6", "route"]);
    ip(&["-j", "link"]) + &ip(&["-j", "address"]) + &routes + &mounts
}

/// The controllers that the machine's version 2 root hands down. A sandbox may add to them, and takes
/// back what it added.
pub fn handed_down() -> String {
    let mounts = fs::read_to_string("/proc/self/mounts").expect("the mounts");
    let roots = mounts.lines().filter(|line| line.contains(" cgroup2 "));
    let points = roots.filter_map(|line| line.split(' ').nth(1));
    let files = points.map(|point| Path::new(point).join("cgroup.subtree_control"));
    files.map(|file| fs::read_to_string(file).expect("the root's controllers")).collect()
}

/// Waits until something is so, and returns how long that took.
///
/// # Panics
/// When it is not so in time.
pub fn wait_for(what: &str, within: Duration, mut is: impl FnMut() -> bool) -> Duration {
    let start = Instant::now();
    while !is() {
        assert!(start.elapsed() < within, "{what}: not within {within:?}");
        sleep(Duration::from_millis(5));
    }
    start.elapsed()
}

/// Says that something was not tested, and fails if everything is required to be.
///
/// # Panics
/// When `FAULTLINE_REQUIRE_ALL` is 1.
pub fn skipped(why: &str) {
    eprintln!("SKIPPED: {why}");
    let required = std::env::var("FAULTLINE_REQUIRE_ALL").is_ok_and(|value| value == "1");
    assert!(!required, "FAULTLINE_REQUIRE_ALL=1, and {why}");
}
