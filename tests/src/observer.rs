//! Looking from outside: at processes, control groups and namespaces by what Linux and its own tools
//! say, and at traffic by sockets of the test's own.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    net::{SocketAddr, UdpSocket},
    os::fd::AsFd,
    path::Path,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use nix::sched::{CloneFlags, setns};

/// The programs that observe from outside: nftables and iproute2, which test machines have.
const TOOLS: [&str; 2] = ["nft", "ip"];

/// Whether a test can run that needs root and tools to observe with. Says so if not, and fails where
/// nothing may be skipped.
///
/// # Panics
/// When it cannot run and `FAULTLINE_REQUIRE_ALL` is 1.
pub fn can_run(test: &str) -> bool {
    let missing: Vec<&str> = TOOLS.into_iter().filter(|tool| !is_installed(tool)).collect();
    let why = match (nix::unistd::geteuid().is_root(), missing.is_empty()) {
        (true, true) => return true,
        (false, _) => "root".to_owned(),
        (true, false) => missing.join(" and "),
    };
    let required = std::env::var("FAULTLINE_REQUIRE_ALL").is_ok_and(|v| v == "1");
    assert!(!required, "{test} needs {why}");
    eprintln!("SKIPPED: {test} needs {why}");
    false
}

/// Whether a program is found on `PATH`.
pub fn is_installed(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|dir| dir.join(program).exists())
}

/// The processes with `text` in a line of their `/proc/PID/cgroup`.
pub fn processes_in_cgroup(text: &str) -> Vec<i32> {
    processes(|pid| {
        fs::read_to_string(format!("/proc/{pid}/cgroup")).is_ok_and(|t| t.contains(text))
    })
}

/// The processes with `text` in their command line, this one excepted.
pub fn processes_named(text: &str) -> Vec<i32> {
    let own = i32::try_from(std::process::id()).unwrap_or(0);
    let mut found = processes(|pid| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line).replace('\0', " ").contains(text)
    });
    found.retain(|pid| *pid != own);
    found
}

/// The processes that are descendants of one.
pub fn descendants(ancestor: i32) -> Vec<i32> {
    let mut parents: BTreeMap<i32, i32> = BTreeMap::new();
    for pid in processes(|_| true) {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let after_name = stat.rsplit_once(')').map(|(_, rest)| rest).unwrap_or_default();
        if let Some(parent) = after_name.split_whitespace().nth(1).and_then(|p| p.parse().ok()) {
            parents.insert(pid, parent);
        }
    }
    let is_below = |mut pid: i32| {
        while let Some(parent) = parents.get(&pid) {
            if *parent == ancestor {
                return true;
            }
            pid = *parent;
        }
        false
    };
    parents.keys().copied().filter(|pid| is_below(*pid)).collect()
}

fn processes(wanted: impl Fn(i32) -> bool) -> Vec<i32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|e| e.file_name().to_str()?.parse().ok());
    pids.filter(|pid| wanted(*pid)).collect()
}

/// Runs `work` in the network namespace of a process, on a thread of its own.
///
/// # Panics
/// When the namespace cannot be entered.
pub fn in_net_ns_of<T: Send>(pid: i32, work: impl FnOnce() -> T + Send) -> T {
    let file = File::open(format!("/proc/{pid}/ns/net")).expect("the process is there");
    thread::scope(|scope| {
        let inside = scope.spawn(|| {
            setns(file.as_fd(), CloneFlags::CLONE_NEWNET).expect("the namespace can be entered");
            work()
        });
        inside.join().expect("the work is done")
    })
}

/// What a program prints, run in the network namespace of a process.
///
/// # Panics
/// When it cannot be started.
pub fn output_in_net_ns_of(pid: i32, program: &str, args: &[&str]) -> String {
    in_net_ns_of(pid, || {
        let output = Command::new(program).args(args).output().expect("the program is installed");
        String::from_utf8_lossy(&output.stdout).into_owned()
    })
}

/// How long the kernel lets the lease of the one Faultline table in the namespace of a process live
/// on, as `nft` says; `None` without such a table or with an ended lease.
pub fn lease_left(pid: i32) -> Option<Duration> {
    let ruleset = output_in_net_ns_of(pid, "nft", &["list", "ruleset"]);
    assert!(ruleset.matches("table inet faultline_").count() <= 1, "one table: {ruleset}");
    let words: Vec<&str> = ruleset.split_whitespace().collect();
    let at = words.iter().position(|word| *word == "expires")?;
    let text = words.get(at + 1)?.trim_end_matches(',');
    faultline_proto::units::parse_duration(text).ok()
}

/// What of this machine must be the same before and after, and what is there that carries our name.
#[derive(Debug, Clone)]
pub struct Machine {
    /// Links, nftables and named network namespaces of the host, as their own tools print them.
    network: String,
    /// Control groups and runtime directories of sandboxes.
    named: BTreeSet<String>,
}

impl Machine {
    /// As it is now.
    pub fn look() -> Self {
        let run = |program: &str, args: &[&str]| {
            let output = Command::new(program).args(args).output();
            output.map_or_else(|e| e.to_string(), |o| String::from_utf8_lossy(&o.stdout).into())
        };
        let network: [String; 3] = [
            run("ip", &["-br", "link"]),
            run("nft", &["list", "ruleset"]),
            run("ip", &["netns", "list"]),
        ];
        let mut named = BTreeSet::new();
        find_named(Path::new("/sys/fs/cgroup"), "faultline-sandbox-", 6, &mut named);
        for entry in fs::read_dir("/run/faultline").into_iter().flatten().flatten() {
            named.insert(entry.path().display().to_string());
        }
        Self { network: network.join("\n"), named }
    }

    /// What is different since `before`, but for sandboxes that somebody else runs meanwhile.
    pub fn differs_from(&self, before: &Self) -> Vec<String> {
        let mut differences = Vec::new();
        if self.network != before.network {
            differences.push(format!("{}\nwas\n{}", self.network, before.network));
        }
        let new = self.named.difference(&before.named);
        differences.extend(new.filter(|name| !is_in_use(name)).cloned());
        differences
    }
}

/// Whether something named after a sandbox is of one whose process runs.
fn is_in_use(name: &str) -> bool {
    let id = name.rsplit_once("sandbox-").map(|(_, rest)| rest.split('/').next().unwrap_or(rest));
    let file = format!("/run/faultline/sandbox-{}/inventory.json", id.unwrap_or_default());
    let text = fs::read_to_string(file).unwrap_or_default();
    let value: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
    let pid = &value["network"]["pid"];
    pid.is_i64() && Path::new(&format!("/proc/{pid}")).exists()
}

fn find_named(dir: &Path, text: &str, depth: usize, found: &mut BTreeSet<String>) {
    if depth == 0 {
        return;
    }
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|t| t.is_dir()) {
            let path = entry.path();
            if entry.file_name().to_string_lossy().contains(text) {
                found.insert(path.display().to_string());
            }
            find_named(&path, text, depth - 1, found);
        }
    }
}

/// Sends a datagram every millisecond to an echo service from the network namespace of a process,
/// and notes which came back.
#[derive(Debug)]
pub struct UdpProber {
    stop: Arc<AtomicBool>,
    task: JoinHandle<Vec<(Instant, bool)>>,
}

impl UdpProber {
    /// Starts one.
    ///
    /// # Panics
    /// When the namespace cannot be entered.
    pub fn start(pid: i32, to: SocketAddr) -> Self {
        let socket = in_net_ns_of(pid, || {
            let any = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
            let socket = UdpSocket::bind(any).expect("a socket");
            socket.connect(to).expect("a route");
            socket
        });
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let task = thread::spawn(move || probe(&socket, &stopped));
        Self { stop, task }
    }

    /// Ends it. Returns the longest outage: from the first datagram that was lost to the first one
    /// after it that came back.
    ///
    /// # Panics
    /// When it panicked.
    pub fn longest_outage(self) -> Option<(Instant, Instant)> {
        self.stop.store(true, Ordering::SeqCst);
        let sent = self.task.join().expect("the prober runs to its end");
        let mut longest: Option<(Instant, Instant)> = None;
        let mut began = None;
        for (at, came_back) in sent {
            match (came_back, began) {
                (false, None) => began = Some(at),
                (true, Some(start)) => {
                    if longest.is_none_or(|(from, to)| at - start > to - from) {
                        longest = Some((start, at));
                    }
                    began = None;
                }
                _ => {}
            }
        }
        longest
    }
}

fn probe(socket: &UdpSocket, stop: &AtomicBool) -> Vec<(Instant, bool)> {
    socket.set_nonblocking(true).expect("a socket");
    let mut sent: Vec<(Instant, bool)> = Vec::new();
    let mut buffer = [0_u8; 64];
    while !stop.load(Ordering::SeqCst) {
        let number = u32::try_from(sent.len()).expect("few enough");
        sent.push((Instant::now(), false));
        // A cut answers with an error here or there; what counts is what comes back.
        drop(socket.send(&number.to_be_bytes()));
        thread::sleep(Duration::from_millis(1));
        while let Ok(length) = socket.recv(&mut buffer) {
            let number = buffer.get(..length).and_then(|b| <[u8; 4]>::try_from(b).ok());
            let number = number.and_then(|b| usize::try_from(u32::from_be_bytes(b)).ok());
            if let Some(entry) = number.and_then(|n| sent.get_mut(n)) {
                entry.1 = true;
            }
        }
    }
    sent
}
