//! The invariants of ARCHITECTURE.md that can be read off the sources.

use std::{
    fs,
    path::{Path, PathBuf},
};

use faultline_proto::fault::KINDS;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The Rust files below a folder, and their texts without comments and tests.
fn sources(folder: &str) -> Vec<(PathBuf, String)> {
    let mut files = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a folder of the project").flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") {
                let text = fs::read_to_string(&path).expect("a source");
                let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
                let code = code.lines().filter(|line| !line.trim_start().starts_with("//"));
                files.push((path, code.collect::<Vec<_>>().join("\n")));
            }
        }
    }
    assert!(!files.is_empty(), "{folder} has sources");
    files
}

fn check(folder: &str, what: &str, allowed: &[&str], is_wrong: impl Fn(&str) -> bool) {
    let root = root();
    for (path, code) in sources(folder) {
        let name = path.strip_prefix(&root).unwrap_or(&path).display().to_string();
        if allowed.iter().any(|a| name.contains(a)) {
            continue;
        }
        let wrong: Vec<&str> = code.lines().filter(|line| is_wrong(line)).collect();
        assert!(wrong.is_empty(), "{name}: {what}: {wrong:#?}");
    }
}

#[test]
fn unsafe_code_is_only_in_the_kernel_layer() {
    let is_unsafe = |line: &str| line.contains("unsafe ") || line.contains("allow(unsafe_code");
    for folder in ["proto", "agent/src", "controller/src"] {
        check(folder, "unsafe", &["agent/src/kernel/"], is_unsafe);
    }
}

#[test]
fn the_controller_knows_no_fault_kind() {
    let variants = ["Fault::", "Spec::Partition", "Spec::Kill", "Spec::MemoryPressure"];
    check("controller/src", "names a fault kind", &["tests.rs"], |line| {
        variants.iter().any(|variant| line.contains(variant))
            || KINDS.iter().any(|kind| line.contains(&format!("\"{}\"", kind.name)))
    });
}

#[test]
fn the_contract_does_no_io() {
    let io = ["std::fs", "std::net::Tcp", "std::process", "tokio::", "nix::", "kube::"];
    check("proto", "does I/O", &[], |line| io.iter().any(|io| line.contains(io)));
}

#[test]
fn only_our_own_program_is_started() {
    let programs = [
        "\"tc\"",
        "\"nft\"",
        "\"ip\"",
        "\"iptables\"",
        "\"nsenter\"",
        "\"sh\"",
        "\"bash\"",
        "\"kill\"",
    ];
    for folder in ["agent/src", "controller/src"] {
        check(folder, "starts another program", &["tests.rs"], |line| {
            line.contains("Command::new(") && programs.iter().any(|p| line.contains(p))
        });
    }
}

#[test]
fn the_agent_and_the_controller_do_not_know_each_other() {
    check("agent/src", "knows the controller", &[], |line| line.contains("faultline::"));
    check(
        "controller/src",
        "knows the agent",
        &["controller/src/sandbox/", "controller/src/main.rs"],
        |line| line.contains("faultline_agent"),
    );
    check("controller/src", "speaks to Kubernetes", &["controller/src/cluster/"], |line| {
        line.contains("kube::") || line.contains("k8s_openapi::")
    });
    let agent = fs::read_to_string(root().join("agent/Cargo.toml")).expect("a manifest");
    assert!(!agent.contains("kube"), "the agent has no access to the Kubernetes API");
}
