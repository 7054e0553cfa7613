//! All that a fault could leave on a node, as the system's own tools and files say, made comparable:
//! without what changes by itself (counters that traffic moves, container ids, pids).

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::{Path, PathBuf},
    process::Command,
    sync::LazyLock,
};

use faultline_proto::target::is_pod_uid;
use serde_json::Value;

use super::netlink;
use crate::observer::in_net_ns_of;

/// Bytes of hexadecimal digits of a container's id.
const CONTAINER_ID_LEN: usize = 64;
/// What prints the rules of a network namespace.
const RULES: &[(&str, &[&str])] = &[("nft", &["-j", "list", "ruleset"]), ("iptables-save", &[])];
/// What is printed for a person, of a network that is not as it should be.
const SHOWN: &[(&str, &[&str])] = &[
    ("nft", &["list", "ruleset"]),
    ("ip", &["-s", "link"]),
    ("ip", &["address"]),
    ("ip", &["-s", "neigh"]),
    ("ip", &["route", "show", "table", "all"]),
    ("tc", &["qdisc"]),
];

/// Whether `iptables` keeps its rules in nftables: then they change with the others, and only then.
static IPTABLES_IS_NFT: LazyLock<bool> =
    LazyLock::new(|| output(&("iptables", &["--version"])).contains("nf_tables"));

/// Where a node is to be looked at.
#[derive(Debug, Clone)]
pub(super) struct Place {
    /// The process whose descendants are the node's processes.
    pub(super) init: i32,
    /// A process in each network namespace, and what to call it.
    pub(super) networks: Vec<(String, i32)>,
    /// The node's own control groups, one of each hierarchy.
    pub(super) groups: Vec<PathBuf>,
}

/// A node, as it is at one time: each line once, below what it is of.
#[derive(Debug, Clone, Default)]
pub(super) struct Dump {
    lines: BTreeMap<String, Vec<String>>,
    /// By network: how often its rules had changed by then.
    generations: BTreeMap<String, u32>,
}

impl Dump {
    /// Looks. What is known to be as in `last` is not printed again. Blocks for some milliseconds.
    ///
    /// # Errors
    /// When the kernel cannot be asked.
    pub(super) fn take(place: &Place, last: &Self) -> io::Result<Self> {
        let mut dump = Self::default();
        for (name, pid) in &place.networks {
            in_net_ns_of(*pid, || dump.look_at_network(name, last))?;
        }
        for group in &place.groups {
            let mut found = BTreeSet::new();
            groups_below(group, &mut found);
            dump.lines.insert(group.display().to_string(), found.into_iter().collect());
        }
        dump.lines.insert("processes".into(), processes(place.init));
        let mounts = fs::read_to_string(format!("/proc/{}/mountinfo", place.init));
        // Names that others on this machine give to their namespaces come and go.
        let own = mounts.unwrap_or_default();
        let own = own.lines().filter(|line| !line.contains(" - nsfs "));
        let mounts = own.map(Into::into).collect();
        dump.lines.insert("mounts".into(), mounts);
        Ok(dump)
    }

    fn look_at_network(&mut self, name: &str, last: &Self) -> io::Result<()> {
        for (table, lines) in netlink::tables()? {
            self.lines.insert(format!("{name}: {table}"), lines);
        }
        // Before the rules are read: a change meanwhile has them read again.
        let generation = netlink::nft_generation()?;
        let unchanged = last.generations.get(name) == Some(&generation);
        self.generations.insert(name.to_owned(), generation);
        for command in RULES {
            let about = format!("{name}: {} {}", command.0, command.1.join(" "));
            let known = last
                .lines
                .get(&about)
                .filter(|_| unchanged && (command.0 != "iptables-save" || *IPTABLES_IS_NFT));
            let lines = known.cloned().unwrap_or_else(|| lines(&output(command)));
            self.lines.insert(about, lines);
        }
        Ok(())
    }

    /// What is different since `before`, line by line; empty if nothing is.
    pub(super) fn differs_from(&self, before: &Self) -> Vec<String> {
        let mut differences = Vec::new();
        let all: BTreeSet<&String> = self.lines.keys().chain(before.lines.keys()).collect();
        for about in all {
            let none = Vec::new();
            let was = before.lines.get(about).unwrap_or(&none);
            let is = self.lines.get(about).unwrap_or(&none);
            let mut gone = was.clone();
            let mut new = Vec::new();
            for line in is {
                match gone.iter().position(|other| other == line) {
                    Some(at) => drop(gone.swap_remove(at)),
                    None => new.push(line),
                }
            }
            differences.extend(gone.iter().map(|line| format!("- {about}: {line}")));
            differences.extend(new.iter().map(|line| format!("+ {about}: {line}")));
        }
        differences
    }
}

impl Dump {
    /// Takes over what has a new identity since a pod of the node was deleted: its interfaces, and what
    /// refers to them. Its rules must be as they were, and of everything else there must be as much.
    /// Returns what is not so.
    pub(super) fn adopt(&mut self, is: &Self, node: &str, pod: &str) -> Vec<String> {
        let mut problems = Vec::new();
        for table in netlink::names() {
            for network in [node, pod] {
                let about = format!("{network}: {table}");
                let count = |dump: &Self| dump.lines.get(&about).map_or(0, Vec::len);
                if count(is) == count(self) {
                    self.lines
                        .insert(about.clone(), is.lines.get(&about).cloned().unwrap_or_default());
                } else {
                    problems.push(format!("{about}: {} and not {}", count(is), count(self)));
                }
            }
        }
        problems
    }

    /// What is known of how often the rules of a network changed is of no use: it is another one now.
    pub(super) fn forget_rules(&mut self, network: &str) {
        self.generations.remove(network);
    }
}

/// The network of a process, for a person.
pub(super) fn show_network(name: &str, pid: i32) -> String {
    let outputs = in_net_ns_of(pid, || SHOWN.iter().map(output).collect::<Vec<_>>());
    format!("{name} is now:\n{}", outputs.join("\n"))
}

fn output((program, args): &(&str, &[&str])) -> String {
    match Command::new(program).args(*args).output() {
        Ok(output) => String::from_utf8_lossy(&output.stdout).into_owned(),
        Err(error) => error.to_string(),
    }
}

/// One line for each object of a JSON list, or for each line of a text that is no comment.
fn lines(text: &str) -> Vec<String> {
    let Ok(mut value) = serde_json::from_str::<Value>(text) else {
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        // `:INPUT ACCEPT [12:345]`: counters.
        return lines.map(|line| line.split(" [").next().unwrap_or(line).to_owned()).collect();
    };
    without_counters(&mut value);
    let list = match value.get_mut("nftables") {
        Some(list) => list.take(),
        None => value,
    };
    list.as_array().into_iter().flatten().map(ToString::to_string).collect()
}

fn without_counters(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|name, _| !matches!(name.as_str(), "packets" | "bytes"));
            fields.values_mut().for_each(without_counters);
        }
        Value::Array(items) => items.iter_mut().for_each(without_counters),
        _ => {}
    }
}

fn groups_below(dir: &Path, found: &mut BTreeSet<String>) {
    let limit = ["memory.limit_in_bytes", "memory.max", "freezer.state", "cgroup.freeze"]
        .map(|file| fs::read_to_string(dir.join(file)).unwrap_or_default());
    let limits = limit.join(" ").split_whitespace().collect::<Vec<_>>().join(" ");
    found.insert(without_ids(&format!("{} {limits}", dir.display())));
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|t| t.is_dir()) {
            groups_below(&entry.path(), found);
        }
    }
}

/// The processes below one, as the kernel lists the children of each. Whoever loses its parent comes
/// to pid 1 of the node or to its pod's holder, which are among them.
pub(super) fn processes_below(ancestor: i32) -> Vec<i32> {
    let mut found = Vec::new();
    let mut parents = vec![ancestor];
    while let Some(parent) = parents.pop() {
        for thread in fs::read_dir(format!("/proc/{parent}/task")).into_iter().flatten().flatten() {
            let children = fs::read_to_string(thread.path().join("children")).unwrap_or_default();
            let children = children.split_whitespace().filter_map(|pid| pid.parse::<i32>().ok());
            for child in children {
                found.push(child);
                parents.push(child);
            }
        }
    }
    found
}

/// The command lines of a node's processes, and whether they are stopped or have ended unnoticed.
fn processes(init: i32) -> Vec<String> {
    let mut found: Vec<String> = processes_below(init).into_iter().filter_map(process).collect();
    found.sort();
    found
}

fn process(pid: i32) -> Option<String> {
    let state = state(pid)?;
    let command = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let command = String::from_utf8_lossy(&command).replace('\0', " ");
    let state = match state {
        'T' => "stopped",
        'Z' => "a zombie",
        _ => "runs",
    };
    Some(without_ids(&format!("{command}{state}")))
}

/// The state of a process, as `proc_pid_stat(5)` has it.
pub(super) fn state(pid: i32) -> Option<char> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.chars().next()
}

/// A text with every container's id and pod's uid replaced: they change when it is started again.
fn without_ids(text: &str) -> String {
    let is_id =
        |word: &str| word.len() == CONTAINER_ID_LEN && word.bytes().all(|b| b.is_ascii_hexdigit());
    let is_pod = |word: &str| word.strip_prefix("pod").is_some_and(is_pod_uid);
    let words = text.split_inclusive(['/', ' ']);
    words
        .map(|word| {
            let bare = word.trim_end_matches(['/', ' ']);
            match bare {
                id if is_id(id) => word.replace(id, "CONTAINER"),
                pod if is_pod(pod) => word.replace(pod, "POD"),
                _ => word.to_owned(),
            }
        })
        .collect()
}
