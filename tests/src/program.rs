//! The built `faultline` program, run as a user would run it.

use std::{
    io::{BufRead, BufReader, Read},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{
        OnceLock,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

/// Whether programs are told of the cluster that `KUBECONFIG` names.
static USES_CLUSTER: AtomicBool = AtomicBool::new(false);

/// Has programs be told of the cluster that `KUBECONFIG` names: other tests are about sandboxes, whatever it says.
pub fn use_cluster() {
    USES_CLUSTER.store(true, Ordering::Relaxed);
}

/// The program, built if it was not.
///
/// # Panics
/// When it cannot be built.
pub fn faultline() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        let test = std::env::current_exe().expect("the test's own path");
        // target/PROFILE/deps/test-hash
        let dir = test.ancestors().nth(2).expect("a folder of the build").to_owned();
        let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        // The whole workspace, so that dependencies have the features they were built with for the tests.
        cargo.args(["build", "--quiet", "--workspace", "--bin", "faultline"]);
        cargo.current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(".."));
        if dir.ends_with("release") {
            cargo.arg("--release");
        }
        if let Some(target) = dir.parent() {
            cargo.arg("--target-dir").arg(target);
        }
        assert!(cargo.status().expect("cargo runs").success(), "faultline builds");
        dir.join("faultline")
    })
}

/// A file of the project.
pub fn project_file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(name)
}

/// A program that is running, and what it has printed so far.
#[derive(Debug)]
pub struct Running {
    child: Child,
    lines: mpsc::Receiver<String>,
    /// What was printed on stdout and stderr and has been looked at.
    pub seen: String,
}

/// What a program came to.
#[derive(Debug)]
pub struct Ended {
    /// Its exit code; `None` if a signal ended it.
    pub code: Option<i32>,
    /// What it printed on stdout and stderr, as it came.
    pub text: String,
}

impl Running {
    /// Starts `faultline` with arguments.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn start(args: &[&str]) -> Self {
        Self::start_command(Command::new(faultline()).args(args))
    }

    /// Starts a program of one's own making.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn start_command(command: &mut Command) -> Self {
        if !USES_CLUSTER.load(Ordering::Relaxed) {
            command.env_remove("KUBECONFIG");
        }
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program starts");
        let (send, lines) = mpsc::channel();
        for pipe in [
            child.stdout.take().map(|p| Box::new(p) as Box<dyn Read + Send>),
            child.stderr.take().map(|p| Box::new(p) as Box<dyn Read + Send>),
        ]
        .into_iter()
        .flatten()
        {
            let send = send.clone();
            thread::spawn(move || {
                for line in BufReader::new(pipe).lines().map_while(Result::ok) {
                    if send.send(line).is_err() {
                        return;
                    }
                }
            });
        }
        Self { child, lines, seen: String::new() }
    }

    /// Its pid.
    pub fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).expect("a pid")
    }

    /// Waits until it has printed a line that contains `text`, and returns that line.
    ///
    /// # Panics
    /// When it does not within `limit`, or ends before.
    pub fn wait_for(&mut self, text: &str, limit: Duration) -> String {
        let end = Instant::now() + limit;
        loop {
            match self.lines.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(line) => {
                    self.seen.push_str(&line);
                    self.seen.push('\n');
                    if line.contains(text) {
                        return line;
                    }
                }
                Err(e) => panic!("no line with {text:?} ({e}); it printed:\n{}", self.seen),
            }
        }
    }

    /// Sends it a signal.
    ///
    /// # Panics
    /// When it has gone already.
    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.pid()), signal).expect("it is running");
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// When that does not come within `limit`; it is killed then.
    pub fn end(mut self, limit: Duration) -> Ended {
        let end = Instant::now() + limit;
        let status: ExitStatus = loop {
            if let Some(status) = self.child.try_wait().expect("a child of ours") {
                break status;
            }
            if Instant::now() > end {
                drop(self.child.kill());
                self.drain();
                panic!("it did not end within {limit:?}; it printed:\n{}", self.seen);
            }
            thread::sleep(Duration::from_millis(10));
        };
        self.drain();
        Ended { code: status.code(), text: std::mem::take(&mut self.seen) }
    }

    fn drain(&mut self) {
        while let Ok(line) = self.lines.recv_timeout(Duration::from_millis(500)) {
            self.seen.push_str(&line);
            self.seen.push('\n');
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            drop(self.child.kill());
            drop(self.child.wait());
        }
    }
}
