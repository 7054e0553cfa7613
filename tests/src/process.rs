//! Containers as kubelets make them, but without a runtime: processes in control groups with such paths,
//! and looks at them that use nothing of the code under test.

use std::{
    fs,
    io::{self, BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use faultline_agent::{
    fault::AnyInjection,
    kernel::container::Containers,
    kernel::{cgroup::CgroupFs, netns::NetNs, process::ProcessId},
    resolve::{Resolved, ResolvedContainer, Resolver},
};
use faultline_proto::{
    boottime::BootTime,
    id::FaultId,
    target::{Container as TargetContainer, Target},
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

/// How long anything here is waited for, unless a test says otherwise.
pub const PATIENCE: Duration = Duration::from_secs(20);

static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// Held by tests that compare what the machine's processes and control groups are before and after.
pub fn one_at_a_time() -> MutexGuard<'static, ()> {
    ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Says that a test is not run, or fails where everything must be.
pub fn skip(why: &str) {
    assert!(std::env::var_os("FAULTLINE_REQUIRE_ALL").is_none_or(|v| v != "1"), "missing: {why}");
    eprintln!("SKIPPED: {why}");
}

/// The hierarchy with the memory controller, found without the code under test: its mount point, and
/// whether it is v2. `None` when there is none or it may not be written to.
pub fn memory_hierarchy() -> Option<(PathBuf, bool)> {
    let v1 = Path::new("/sys/fs/cgroup/memory");
    if v1.join("memory.usage_in_bytes").exists() {
        return Some((v1.into(), false));
    }
    let v2 = Path::new("/sys/fs/cgroup");
    let offered = fs::read_to_string(v2.join("cgroup.controllers")).ok()?;
    offered.split_whitespace().any(|c| c == "memory").then(|| (v2.into(), true))
}

/// A pod's control group, with containers. Everything in it is ended and removed with it.
#[derive(Debug)]
pub struct Pod {
    root: PathBuf,
    dir: PathBuf,
    v2: bool,
    /// The pod's uid.
    pub uid: String,
    processes: Vec<Child>,
}

/// A container of a [`Pod`].
#[derive(Debug, Clone)]
pub struct Container {
    /// Its id.
    pub id: String,
    /// Its control group in the hierarchy with the memory controller.
    pub dir: PathBuf,
    v2: bool,
}

impl Pod {
    /// A pod without containers. `None`, after a [`skip`], where there is no memory controller.
    pub fn new() -> Option<Self> {
        let Some((mount_point, v2)) = memory_hierarchy() else {
            skip("no memory controller");
            return None;
        };
        let random = FaultId::random().expect("random bits");
        let root = mount_point.join(format!("faultline-test-{random}"));
        let uid = format!("01234567-89ab-4cde-8f01-{}", &random.to_string()[4..]);
        let dir = root.join("kubepods").join(format!("pod{uid}"));
        fs::create_dir_all(&dir).expect("make the pod's control group");
        if v2 {
            for dir in [&mount_point, &root, &root.join("kubepods"), &dir] {
                fs::write(dir.join("cgroup.subtree_control"), "+memory").expect("delegate memory");
            }
        }
        Some(Self { root, dir, v2, uid, processes: Vec::new() })
    }

    /// A new, empty container.
    pub fn container(&self) -> Container {
        let id: String =
            (0..4).map(|_| FaultId::random().expect("random bits").to_string()).collect();
        let dir = self.dir.join(&id);
        fs::create_dir(&dir).expect("make the container's control group");
        Container { id, dir, v2: self.v2 }
    }

    /// Starts a program in a container. Returns once it runs there.
    pub fn spawn(&mut self, container: &Container, program: &[&str]) -> ProcessId {
        let procs = container.dir.join("cgroup.procs");
        let child = Command::new("/bin/sh")
            .args(["-c", "echo $$ > \"$0\" && exec \"$@\""])
            .arg(procs)
            .args(program)
            .stdin(Stdio::null())
            .spawn()
            .expect("start a program");
        let pid = i32::try_from(child.id()).expect("a pid");
        self.processes.push(child);
        wait_for("the program to run", || {
            let name = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            name.split('\0').next() == program.first().copied()
        });
        ProcessId::of(pid).expect("the program runs")
    }

    /// Starts a shell script in a container and waits until it has written `ready` to a file.
    pub fn spawn_script(&mut self, container: &Container, script: &str) -> ProcessId {
        let ready = tempfile::NamedTempFile::new().expect("a file");
        let script = script.replace("READY", &format!("echo ready > {}", ready.path().display()));
        let process = self.spawn(container, &["/bin/sh", "-c", &script]);
        wait_for("the script to be ready", || {
            fs::read_to_string(ready.path()).is_ok_and(|text| text.starts_with("ready"))
        });
        process
    }

    /// What a resolver would say of a container of this pod.
    pub fn resolved(&self, container: &Container, main: ProcessId) -> Resolved {
        Resolved {
            target: Target {
                namespace: "shop".into(),
                pod: "api-0".into(),
                uid: self.uid.clone(),
                container: Some(TargetContainer { name: "api".into(), id: container.id.clone() }),
            },
            net_ns: NetNs::of_process(std::process::id().try_into().expect("a pid"))
                .expect("our own namespace"),
            host_network: false,
            node_addresses: Vec::new(),
            siblings: vec![container.id.clone()],
            container: Some(ResolvedContainer {
                id: container.id.clone(),
                main,
                memory_cgroup: Some(container.dir.clone()),
            }),
        }
    }

    /// Ends a process that this started, and reaps it.
    pub fn end(&mut self, process: ProcessId) {
        for child in &mut self.processes {
            if i32::try_from(child.id()) == Ok(process.pid) {
                let _ended = child.kill();
                let _reaped = child.wait();
            }
        }
    }

    /// Reaps a process that this started, if it has ended.
    pub fn has_ended(&mut self, process: ProcessId) -> bool {
        let mut ended = true;
        for child in &mut self.processes {
            if i32::try_from(child.id()) == Ok(process.pid) {
                ended = child.try_wait().expect("wait for a child").is_some();
            }
        }
        ended
    }
}

impl Drop for Pod {
    fn drop(&mut self) {
        for dir in directories(&self.root).into_iter().rev() {
            // By pid, from a group that only we put processes into.
            let removed = wait_until(PATIENCE, || {
                for pid in fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default().lines()
                {
                    let pid = Pid::from_raw(pid.parse().expect("a pid"));
                    let _gone = kill(pid, Signal::SIGKILL);
                }
                for child in &mut self.processes {
                    let _not_yet = child.try_wait();
                }
                !matches!(fs::remove_dir(&dir), Err(e) if e.kind() != io::ErrorKind::NotFound)
            });
            if !removed {
                eprintln!("cannot remove {}", dir.display());
            }
        }
        for child in &mut self.processes {
            let _reaped = child.wait();
        }
    }
}

impl Container {
    /// Limits its memory.
    pub fn limit(&self, bytes: u64) {
        let name = if self.v2 { "memory.max" } else { "memory.limit_in_bytes" };
        fs::write(self.dir.join(name), bytes.to_string()).expect("set a limit");
        let swap = if self.v2 { "memory.swap.max" } else { "memory.swappiness" };
        let _no_swap_here = fs::write(self.dir.join(swap), "0");
    }

    /// What is charged to it, in bytes.
    pub fn usage(&self) -> u64 {
        let name = if self.v2 { "memory.current" } else { "memory.usage_in_bytes" };
        let text = fs::read_to_string(self.dir.join(name)).expect("read the usage");
        text.trim().parse().expect("a number")
    }

    /// The groups below it.
    pub fn groups_below(&self) -> Vec<PathBuf> {
        directories(&self.dir).split_off(1)
    }
}

/// A process that has injected a fault as the agent would, to be killed or stopped.
#[derive(Debug)]
pub struct Agent {
    child: Child,
    /// When the lease ends.
    pub lease_end: BootTime,
}

impl Agent {
    /// Starts one, of the tests' helper executable, and has it inject.
    pub fn inject(executable: &Path, plan: &AnyInjection, lease: Duration) -> Self {
        let mut child = Command::new(executable)
            .args(["agent", &lease.as_millis().to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("start an agent");
        let plan = serde_json::to_string(plan).expect("a plan is plain data");
        let input = child.stdin.as_mut().expect("a pipe");
        writeln!(input, "{plan}").expect("tell the agent");
        let mut said = String::new();
        let output = child.stdout.take().expect("a pipe");
        BufReader::new(output).read_line(&mut said).expect("hear the agent");
        let lease_end = BootTime::from_nanos(said.trim().parse().expect("the lease's end"));
        Self { child, lease_end }
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.child.id().try_into().expect("a pid"));
        kill(pid, signal).expect("signal the agent");
    }

    /// Kills it, as nothing can be caught or cleaned up after, and reaps it.
    pub fn kill_9(mut self) {
        self.child.kill().expect("kill the agent");
        self.child.wait().expect("reap the agent");
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _reaped = self.child.wait();
    }
}

/// The resolver of this machine.
pub fn resolver() -> Resolver {
    Resolver {
        cgroups: CgroupFs::mounted().expect("control groups"),
        pods_dir: None,
        containers: Containers::Cgroups,
        protected_namespaces: Vec::new(),
        node_net_ns: NetNs::open("/proc/self/ns/net".as_ref()).expect("a namespace").id(),
    }
}

/// What of ours is on the machine: every control group with a name of ours, and every process that
/// this program is the parent of. Sorted, one per line. Of sandboxes, which others may be running
/// meanwhile, nothing.
pub fn listing() -> String {
    let mut lines = Vec::new();
    for dir in directories(Path::new("/sys/fs/cgroup")) {
        let path = dir.display().to_string();
        if path.contains("/faultline_") && !path.contains("/faultline-sandbox-") {
            lines.push(path);
        }
    }
    for process in procfs::process::all_processes().expect("/proc").flatten() {
        let (Ok(stat), Ok(line)) = (process.stat(), process.cmdline()) else { continue };
        if Ok(stat.ppid) == i32::try_from(std::process::id()) {
            // Running or sleeping is chance; stopped or a zombie is not.
            let state = if matches!(stat.state, 'R' | 'S' | 'D') { ' ' } else { stat.state };
            lines.push(format!("{} {state} {line:?}", stat.pid));
        }
    }
    lines.sort();
    lines.join("\n")
}

/// The id of a planned fault, of its journal form.
pub fn fault_id(plan: &AnyInjection) -> String {
    let json = serde_json::to_value(plan).expect("a plan is plain data");
    let kind = json.as_object().and_then(|kinds| kinds.values().next()).expect("a kind");
    kind["id"].as_str().expect("an id").to_owned()
}

/// The helper processes of a fault that run, by their command lines.
pub fn helpers_of(plan: &AnyInjection) -> Vec<ProcessId> {
    let id = fault_id(plan);
    let is_of_fault = |process: &procfs::process::Process| {
        process.cmdline().is_ok_and(|line| {
            line.get(1).is_some_and(|marker| marker == "__faultline-helper") && line.contains(&id)
        })
    };
    let all = procfs::process::all_processes().expect("/proc").flatten();
    all.filter(is_of_fault).filter_map(|process| ProcessId::of(process.pid)).collect()
}

/// A directory and all below it, outer ones first.
fn directories(dir: &Path) -> Vec<PathBuf> {
    let mut found = vec![dir.to_owned()];
    let mut next = 0;
    while let Some(dir) = found.get(next).cloned() {
        let entries = fs::read_dir(&dir).into_iter().flatten().flatten();
        found.extend(entries.filter(|e| e.file_type().is_ok_and(|t| t.is_dir())).map(|e| e.path()));
        next += 1;
    }
    found
}

/// `State` of `/proc/PID/status`: `T` is stopped. `None` when there is no such process.
pub fn state(process: ProcessId) -> Option<char> {
    let text = fs::read_to_string(format!("/proc/{}/status", process.pid)).ok()?;
    text.lines().find_map(|line| line.strip_prefix("State:\t"))?.chars().next()
}

/// Waits until `condition` holds, at most `timeout`. Whether it does.
pub fn wait_until(timeout: Duration, mut condition: impl FnMut() -> bool) -> bool {
    let end = Instant::now() + timeout;
    loop {
        if condition() {
            return true;
        }
        if Instant::now() >= end {
            return false;
        }
        thread::sleep(Duration::from_millis(2));
    }
}

/// Waits until `condition` holds.
///
/// # Panics
/// When it does not in [`PATIENCE`].
pub fn wait_for(what: &str, condition: impl FnMut() -> bool) {
    assert!(wait_until(PATIENCE, condition), "waited in vain for {what}");
}
