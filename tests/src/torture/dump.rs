//! All that a fault could leave on a node, as the system's own tools and files say, made comparable:
//! without what changes by itself (counters that traffic moves, container ids, pids).

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;

use crate::observer::{descendants, in_net_ns_of};

/// Bytes of hexadecimal digits of a container's id.
const CONTAINER_ID_LEN: usize = 64;
/// What is printed in each network namespace.
const COMMANDS: &[(&str, &[&str])] = &[
    ("nft", &["-j", "list", "ruleset"]),
    ("iptables-save", &[]),
    ("ip", &["-j", "link"]),
    ("ip", &["-j", "address"]),
    ("ip", &["-j", "route", "show", "table", "all"]),
    ("ip", &["-j", "rule"]),
    ("tc", &["-j", "qdisc"]),
    ("tc", &["-j", "filter", "show"]),
];

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
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Dump(BTreeMap<String, Vec<String>>);

impl Dump {
    /// Looks. Blocks for some tens of milliseconds.
    pub(super) fn take(place: &Place) -> Self {
        let mut dump = Self::default();
        for (name, pid) in &place.networks {
            let outputs = in_net_ns_of(*pid, || COMMANDS.iter().map(output).collect::<Vec<_>>());
            for ((program, args), text) in COMMANDS.iter().zip(outputs) {
                let about = format!("{name}: {program} {}", args.join(" "));
                dump.0.insert(about, lines(&text));
            }
        }
        for group in &place.groups {
            let mut found = BTreeSet::new();
            groups_below(group, &mut found);
            dump.0.insert(group.display().to_string(), found.into_iter().collect());
        }
        dump.0.insert("processes".into(), processes(place.init));
        let mounts = fs::read_to_string(format!("/proc/{}/mountinfo", place.init));
        // Names that others on this machine give to their namespaces come and go.
        let own = mounts.unwrap_or_default();
        let own = own.lines().filter(|line| !line.contains(" - nsfs "));
        let mounts = own.map(Into::into).collect();
        dump.0.insert("mounts".into(), mounts);
        dump
    }

    /// What is different since `before`, line by line; empty if nothing is.
    pub(super) fn differs_from(&self, before: &Self) -> Vec<String> {
        let mut differences = Vec::new();
        let all: BTreeSet<&String> = self.0.keys().chain(before.0.keys()).collect();
        for about in all {
            let none = Vec::new();
            let was = before.0.get(about).unwrap_or(&none);
            let is = self.0.get(about).unwrap_or(&none);
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

/// The command lines of a node's processes, and whether they are stopped or have ended unnoticed.
fn processes(init: i32) -> Vec<String> {
    let mut found: Vec<String> = descendants(init).into_iter().filter_map(process).collect();
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

/// A text with every container's id replaced: it changes when the container is started again.
fn without_ids(text: &str) -> String {
    let is_id =
        |word: &str| word.len() == CONTAINER_ID_LEN && word.bytes().all(|b| b.is_ascii_hexdigit());
    let words = text.split_inclusive(['/', ' ']);
    words
        .map(|word| {
            let bare = word.trim_end_matches(['/', ' ']);
            if is_id(bare) { word.replace(bare, "CONTAINER") } else { word.to_owned() }
        })
        .collect()
}
