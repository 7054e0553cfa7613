//! What `faultline install --print` says is what stands in `deploy/`: whoever applies that has what `install` makes.
//!
//! `FAULTLINE_UPDATE=1` writes the file anew, to be read in the diff.

use std::{fs, path::Path, process::Command};

fn print(args: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_faultline"))
        .args(["install", "--print"])
        .args(args)
        // It needs no cluster.
        .env_remove("KUBECONFIG")
        .env("HOME", "/nowhere")
        .output()
        .expect("the program starts");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && error.is_empty(), "{error}");
    String::from_utf8(output.stdout).expect("UTF-8")
}

#[test]
fn what_is_in_deploy_is_what_install_makes() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/manifests.yaml");
    let printed = print(&["--without-identities"]);
    if std::env::var_os("FAULTLINE_UPDATE").is_some() {
        fs::write(&path, &printed).expect("writable");
    }
    let kept = fs::read_to_string(&path).expect("it is there");
    let differ = printed.lines().zip(kept.lines()).position(|(a, b)| a != b);
    let line = differ.map(|line| line + 1);
    assert!(printed == kept, "{} differs from line {line:?} on", path.display());
    for secret in ["PRIVATE KEY", "tls.key:", "LS0t"] {
        assert!(!printed.contains(secret), "{secret}");
    }
}

#[test]
fn identities_are_printed_fresh_every_time() {
    let keys = |text: &str| -> Vec<String> {
        let lines = text.lines().zip(text.lines().skip(1));
        lines
            .filter(|(name, _)| name.contains("tls.key: "))
            .map(|(_, key)| key.to_owned())
            .collect()
    };
    let (first, second) = (keys(&print(&[])), keys(&print(&[])));
    assert_eq!((first.len(), second.len()), (3, 3));
    assert!(first.iter().all(|key| !second.contains(key)));
}

#[test]
fn what_is_asked_for_stands_in_the_manifests() {
    let text = print(&[
        "--without-identities",
        "--namespace=chaos",
        "--image=registry.example.com/f:1",
        "--node-selector=pool=blue",
        "--protect-namespace=payments",
        "--privileged",
        "--state-dir=/data/faultline",
    ]);
    for part in [
        "namespace: chaos",
        "name: faultline-controller-chaos",
        "image: registry.example.com/f/agent:1",
        "image: registry.example.com/f/controller:1",
        "pool: blue",
        "- --protect-namespace=chaos",
        "- --protect-namespace=payments",
        "privileged: true",
        "path: /data/faultline",
    ] {
        assert!(text.contains(part), "{part}\n{text}");
    }
}
