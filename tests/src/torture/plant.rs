//! What is foreign to Faultline and must come through every round unchanged: planted before the first.
//!
//! In every pod but one, which may be deleted, an nftables table with rules and counters, a queueing
//! discipline and, where installed, rules of iptables; in one container a control group of somebody else's and a process
//! that somebody else has stopped. And an echo of the harness's own, which no fault can end.

use std::{
    fs,
    io::Write as _,
    net::{Ipv6Addr, UdpSocket},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
};

use anyhow::{Context as _, bail};
use nix::{
    mount::{MsFlags, mount},
    sched::{CloneFlags, setns, unshare},
};

use crate::observer::in_net_ns_of;

/// Where the harness's own echo answers, in every pod.
pub(super) const ECHO_PORT: u16 = 9001;
/// What the pod with the stopped process runs: the shell becomes the main process.
pub(super) const PLANTED_COMMAND: [&str; 3] =
    ["sh", "-c", "sleep 1000000 & kill -STOP $!; exec sleep 1000001"];
/// The name of the foreign control group.
const FOREIGN_GROUP: &str = "somebody-elses";

/// The disk of a journal: room for some tens of records.
const DISK_OPTIONS: &str = "size=512k";
/// Its name is near to ours on purpose.
const TABLE: &str = "
table inet faultlin {
    set peers { type ipv4_addr; elements = { 192.0.2.1, 192.0.2.2 }; }
    chain in {
        type filter hook input priority -5; policy accept;
        ip saddr @peers counter drop
        udp dport 9001 counter accept
    }
    chain out {
        type filter hook output priority 5; policy accept;
        counter
    }
}
table ip faultline {
    chain c {
        type filter hook input priority 3; policy accept;
        counter
    }
}
";

/// Plants what goes into a network namespace, by a process in it.
pub(super) fn in_network_of(pid: i32) -> anyhow::Result<()> {
    in_net_ns_of(pid, || {
        run("nft", &["-f", "-"], TABLE)?;
        let device = device()?;
        let tbf = ["rate", "1gbit", "burst", "1mb", "latency", "50ms"];
        run(
            "tc",
            &[&["qdisc", "add", "dev", &device, "root", "handle", "77:", "tbf"][..], &tbf].concat(),
            "",
        )?;
        if Command::new("iptables").arg("--version").output().is_ok() {
            run("iptables", &["-A", "INPUT", "-p", "tcp", "--dport", "9", "-j", "DROP"], "")?;
        } else {
            crate::sandbox::skipped("iptables is not installed: no rule of it is planted");
        }
        Ok(())
    })
}

/// The one interface of a pod that is not the loopback.
fn device() -> anyhow::Result<String> {
    let output = Command::new("ip").args(["-j", "link"]).output()?;
    let links: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    let names = links.as_array().into_iter().flatten().filter_map(|link| link["ifname"].as_str());
    names.into_iter().find(|name| *name != "lo").map(Into::into).context("an interface")
}

fn run(program: &str, args: &[&str], input: &str) -> anyhow::Result<()> {
    let mut child = Command::new(program)
        .args(args)
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("start {program}"))?;
    child.stdin.take().context("its input")?.write_all(input.as_bytes())?;
    let output = child.wait_with_output()?;
    if !output.status.success() {
        bail!("{program} {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(())
}

/// Makes a control group below that of a container, in every hierarchy that has one.
pub(super) fn in_groups_of(container_id: &str, groups: &[PathBuf]) -> anyhow::Result<()> {
    for group in groups {
        if let Some(dir) = below(group, container_id) {
            fs::create_dir(dir.join(FOREIGN_GROUP)).with_context(|| dir.display().to_string())?;
        }
    }
    Ok(())
}

fn below(dir: &Path, name: &str) -> Option<PathBuf> {
    let dirs = fs::read_dir(dir).ok()?.flatten().filter(|e| e.path().is_dir());
    dirs.map(|e| e.path())
        .find_map(|path| if path.ends_with(name) { Some(path) } else { below(&path, name) })
}

/// Mounts a small disk in the mount namespace of a process.
pub(super) fn disk(pid: i32, dir: &Path) -> anyhow::Result<()> {
    mount_in(pid, dir, Some("tmpfs"), MsFlags::empty(), Some(DISK_OPTIONS))
}

/// Lets nothing be written there, or lets it again.
pub(super) fn write_protect(pid: i32, dir: &Path, on: bool) -> anyhow::Result<()> {
    let flags = MsFlags::MS_REMOUNT | MsFlags::MS_BIND;
    let flags = if on { flags | MsFlags::MS_RDONLY } else { flags };
    mount_in(pid, dir, None, flags, None)
}

fn mount_in(
    pid: i32,
    dir: &Path,
    what: Option<&str>,
    flags: MsFlags,
    options: Option<&str>,
) -> anyhow::Result<()> {
    let namespace = fs::File::open(format!("/proc/{pid}/ns/mnt"))?;
    let mounted = thread::scope(|scope| {
        let inside = scope.spawn(|| {
            // A thread may change its mount namespace when it shares its directories with no other,
            // `setns(2)`.
            unshare(CloneFlags::CLONE_FS)?;
            setns(&namespace, CloneFlags::CLONE_NEWNS)?;
            mount(what, dir, what, flags, options)
        });
        inside.join()
    });
    let mounted = mounted.map_err(|_panic| anyhow::anyhow!("the thread that mounts ended"))?;
    mounted.with_context(|| format!("mount {}", dir.display()))
}

/// Drops what this program sends to an agent, in its own network namespace.
pub(super) fn cut(node: &str, address: &str) -> anyhow::Result<()> {
    let (address, port) = address.rsplit_once(':').context("a port")?;
    let table = format!(
        "table ip torture_{node} {{
            chain cut {{
                type filter hook output priority 0; policy accept;
                ip daddr {address} tcp dport {port} drop
            }}
        }}
        "
    );
    run("nft", &["-f", "-"], &table)
}

/// Takes that back.
pub(super) fn mend(node: &str) {
    if let Err(error) = run("nft", &["delete", "table", "ip", &format!("torture_{node}")], "") {
        eprintln!("the link to {node} stays cut: {error:#}");
    }
}

/// Answers datagrams in the network of a process until this program ends.
pub(super) fn echo_in(pid: i32) {
    let socket = in_net_ns_of(pid, || {
        UdpSocket::bind((Ipv6Addr::UNSPECIFIED, ECHO_PORT))
            .or_else(|_no_ipv6| UdpSocket::bind(("0.0.0.0", ECHO_PORT)))
            .expect("a socket")
    });
    thread::spawn(move || {
        let mut buffer = [0; 64];
        loop {
            // A cut answers with an error here or there; the next datagram may come through.
            if let Ok((length, from)) = socket.recv_from(&mut buffer) {
                drop(socket.send_to(&buffer[..length], from));
            }
        }
    });
}
