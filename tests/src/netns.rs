//! Throw-away network namespaces, and observers inside them that are not Faultline's.
//!
//! A namespace lives as long as one process in it, which ends when the pipe to the test closes: a
//! killed test leaves nothing behind.

use std::{
    fs,
    io::{self, Read},
    net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    os::{fd::AsFd, unix::fs::MetadataExt},
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use nix::sched::{CloneFlags, setns};

/// How long a connection is awaited that may never come. Between two namespaces of one machine it
/// takes less than a millisecond.
pub const CONNECT_TIME_MAX: Duration = Duration::from_millis(400);

/// Whether the kernel tests can run here; says loudly why not, and fails where all are required.
pub fn can_test() -> bool {
    if !crate::observer::can_run("a test in network namespaces") {
        return false;
    }
    match Namespace::try_new() {
        Ok(_namespace) => true,
        Err(error) => {
            let required = std::env::var("FAULTLINE_REQUIRE_ALL").is_ok_and(|v| v == "1");
            assert!(!required, "no network namespace can be made: {error}");
            eprintln!("SKIPPED: no network namespace can be made here: {error}");
            false
        }
    }
}

/// A network namespace with one process in it.
#[derive(Debug)]
pub struct Namespace {
    process: Child,
    file: fs::File,
}

impl Namespace {
    /// Makes one, with the loopback interface up.
    pub fn new() -> Self {
        Self::try_new().expect("a network namespace")
    }

    fn try_new() -> io::Result<Self> {
        let mut process = Command::new("unshare")
            .args(["--net", "cat"])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()?;
        let path = format!("/proc/{}/ns/net", process.id());
        let own = fs::metadata("/proc/self/ns/net")?.ino();
        let begun = Instant::now();
        // The process is in the namespace when it has become `cat`.
        while fs::metadata(&path).map_or(own, |m| m.ino()) == own {
            if process.try_wait()?.is_some() || begun.elapsed() > Duration::from_secs(5) {
                let mut error = String::new();
                if let Some(stderr) = &mut process.stderr {
                    stderr.read_to_string(&mut error)?;
                }
                return Err(io::Error::other(error));
            }
            thread::sleep(Duration::from_millis(1));
        }
        let namespace = Self { process, file: fs::File::open(path)? };
        namespace.run("ip", &["link", "set", "lo", "up"]);
        Ok(namespace)
    }

    /// The process that is in it.
    pub fn pid(&self) -> i32 {
        i32::try_from(self.process.id()).expect("pids are small")
    }

    /// Ends its process. Sockets of the test keep the namespace itself.
    pub fn end_process(&mut self) {
        self.process.kill().expect("it is our child");
        self.process.wait().expect("it is our child");
    }

    /// Runs `work` on a thread inside.
    pub fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        thread::scope(|scope| {
            let inside = scope.spawn(|| {
                setns(self.file.as_fd(), CloneFlags::CLONE_NEWNET).expect("root may enter");
                work()
            });
            inside.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// Runs a program inside and returns what it printed. It must succeed.
    pub fn run(&self, program: &str, args: &[&str]) -> String {
        let output = self.inside(|| Command::new(program).args(args).output());
        let output = output.unwrap_or_else(|e| panic!("{program} cannot be run: {e}"));
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{program} {args:?}: {error}");
        String::from_utf8(output.stdout).expect("text")
    }

    /// Gives `nft` a script.
    pub fn nft(&self, script: &str) {
        self.run("nft", &[script]);
    }

    /// All that a fault could have changed, as independent programs show it.
    pub fn dump(&self) -> String {
        let mut dump = String::new();
        for (program, args) in [
            ("nft", &["-j", "list", "ruleset"][..]),
            ("ip", &["-j", "link"]),
            ("ip", &["-j", "addr"]),
            ("ip", &["-j", "route", "show", "table", "all"]),
            ("ip", &["-6", "-j", "route", "show", "table", "all"]),
            ("ip", &["-j", "rule"]),
            ("tc", &["-j", "qdisc"]),
        ] {
            dump.push_str(&self.run(program, args));
        }
        dump
    }

    /// A TCP connection from inside.
    ///
    /// # Errors
    /// When it is refused, or not accepted within [`CONNECT_TIME_MAX`].
    pub fn connect(&self, to: SocketAddr) -> io::Result<TcpStream> {
        self.inside(|| TcpStream::connect_timeout(&to, CONNECT_TIME_MAX))
    }

    /// A UDP socket inside that waits for a datagram no longer than [`CONNECT_TIME_MAX`].
    pub fn udp(&self, address: SocketAddr) -> UdpSocket {
        let socket = self.inside(|| UdpSocket::bind(address)).expect("a free port");
        socket.set_read_timeout(Some(CONNECT_TIME_MAX)).expect("not zero");
        socket
    }

    /// Echoes what TCP connections bring, until the test ends.
    pub fn serve_tcp(&self, address: SocketAddr) {
        let listener = self.inside(|| TcpListener::bind(address)).expect("a free port");
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                thread::spawn(move || io::copy(&mut &stream, &mut &stream));
            }
        });
    }
}

impl Default for Namespace {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // It may have ended by itself; then there is nothing to do.
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

/// Two namespaces joined by a cable: `10.77.0.1` and `fd77::1`, `10.77.0.2` and `fd77::2`, and no
/// route to anywhere else.
#[derive(Debug)]
pub struct Pair {
    /// The first.
    pub a: Namespace,
    /// The second.
    pub b: Namespace,
}

impl Pair {
    /// Makes them.
    pub fn new() -> Self {
        let (a, b) = (Namespace::new(), Namespace::new());
        let b_pid = b.pid().to_string();
        let names = ["link", "add", "eth0", "type", "veth", "peer", "name", "eth0", "netns"];
        a.run("ip", &[&names[..], &[b_pid.as_str()]].concat());
        for (namespace, n) in [(&a, 1), (&b, 2)] {
            namespace.run("ip", &["addr", "add", &format!("10.77.0.{n}/24"), "dev", "eth0"]);
            let v6 = format!("fd77::{n}/64");
            namespace.run("ip", &["addr", "add", &v6, "dev", "eth0", "nodad"]);
            // A link-local address would change its state while a test compares dumps.
            namespace.run("ip", &["link", "set", "eth0", "addrgenmode", "none"]);
            namespace.run("ip", &["link", "set", "eth0", "up"]);
        }
        let pair = Self { a, b };
        pair.wait_until_up();
        pair
    }

    /// IPv6 over a new cable takes a moment; IPv4 the first ARP.
    fn wait_until_up(&self) {
        for to in [B4, B6] {
            let begun = Instant::now();
            let receiver = self.b.udp(SocketAddr::new(to, 7));
            receiver.set_read_timeout(Some(Duration::from_millis(10))).expect("not zero");
            let sender = self.a.udp(SocketAddr::new(any_of(to), 0));
            loop {
                // A route may be missing for a moment.
                drop(sender.send_to(&[0], SocketAddr::new(to, 7)));
                if receiver.recv(&mut [0]).is_ok() {
                    break;
                }
                assert!(begun.elapsed() < Duration::from_secs(10), "no way to {to}");
            }
        }
    }
}

impl Default for Pair {
    fn default() -> Self {
        Self::new()
    }
}

/// The addresses of a [`Pair`].
pub const A4: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 77, 0, 1));
/// See [`A4`].
pub const B4: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 77, 0, 2));
/// See [`A4`].
pub const A6: IpAddr = IpAddr::V6(std::net::Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, 1));
/// See [`A4`].
pub const B6: IpAddr = IpAddr::V6(std::net::Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, 2));

/// The address that stands for all own ones, of the family of `address`.
pub fn any_of(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => std::net::Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => std::net::Ipv6Addr::UNSPECIFIED.into(),
    }
}

/// Datagrams every millisecond from one namespace to another, and when they arrived.
#[derive(Debug)]
pub struct Prober {
    stop: Arc<AtomicBool>,
    receiver: Option<thread::JoinHandle<Vec<Instant>>>,
}

impl Prober {
    /// Begins.
    pub fn start(from: &Namespace, to: &Namespace, address: SocketAddr) -> Self {
        let receiver = to.udp(address);
        receiver.set_read_timeout(Some(Duration::from_millis(20))).expect("not zero");
        let sender = from.udp(SocketAddr::new(any_of(address.ip()), 0));
        let stop = Arc::new(AtomicBool::new(false));
        let (stop_sending, stop_receiving) = (Arc::clone(&stop), Arc::clone(&stop));
        thread::spawn(move || {
            while !stop_sending.load(Ordering::Relaxed) {
                // A cut shows as an error of the sender; that is what is looked for.
                drop(sender.send_to(&[0], address));
                thread::sleep(Duration::from_millis(1));
            }
        });
        let receiver = thread::spawn(move || {
            let mut arrivals = Vec::new();
            while !stop_receiving.load(Ordering::Relaxed) {
                if receiver.recv(&mut [0]).is_ok() {
                    arrivals.push(Instant::now());
                }
            }
            arrivals
        });
        Self { stop, receiver: Some(receiver) }
    }

    /// Ends, and returns the longest time without an arrival: its begin and its end.
    pub fn longest_gap(mut self) -> (Instant, Instant) {
        self.stop.store(true, Ordering::Relaxed);
        let receiver = self.receiver.take().expect("taken here only");
        let arrivals = receiver.join().expect("no panic");
        let gaps = arrivals.windows(2).map(|pair| (pair[0], pair[1]));
        gaps.max_by_key(|(begin, end)| *end - *begin).expect("something arrived")
    }
}
