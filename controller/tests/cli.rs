//! The built program from outside: what it prints where, and its exit codes.

use std::{
    fs,
    io::{Read, Write},
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use serde_json::Value;

fn command(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_faultline"));
    command.args(args).current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(".."));
    command.env_remove("NO_COLOR").env_remove("CLICOLOR_FORCE");
    // No cluster of whoever runs the tests.
    command.env_remove("KUBECONFIG").env("HOME", "/nowhere");
    command
}

/// Exit code, standard output, standard error.
fn faultline(args: &[&str]) -> (i32, String, String) {
    said(&command(args).stdin(Stdio::null()).output().expect("the program starts"))
}

fn said(output: &Output) -> (i32, String, String) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("UTF-8");
    let code = output.status.code().expect("not killed");
    (code, text(&output.stdout), text(&output.stderr))
}

fn with_input(args: &[&str], input: &str) -> (i32, String, String) {
    let mut child = command(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program starts");
    child.stdin.take().expect("piped").write_all(input.as_bytes()).expect("it reads");
    said(&child.wait_with_output().expect("it ends"))
}

fn file(folder: &tempfile::TempDir, name: &str, content: &[u8]) -> PathBuf {
    let path = folder.path().join(name);
    fs::write(&path, content).expect("writable");
    path
}

const GOOD: &str = "examples/quickstart.yaml";
const BAD: &str = "controller/tests/bad_input/unknown-target.yaml";

#[test]
fn validate_says_what_is_in_each_file() {
    let (code, out, err) = faultline(&["validate", GOOD, "examples/kill.yaml"]);
    assert_eq!((code, err.as_str()), (0, ""));
    assert_eq!(
        out,
        "examples/quickstart.yaml: ok (quickstart: 1 target, 3 probes, 1 step)\n\
         examples/kill.yaml: ok (kill: 1 target, 3 probes, 1 step)\n"
    );
}

#[test]
fn mistakes_of_all_files_are_told_on_standard_error() {
    let (code, out, err) = faultline(&["validate", BAD, GOOD, "examples/kil.yaml", "examples"]);
    assert_eq!(code, 2);
    assert_eq!(out, "examples/quickstart.yaml: ok (quickstart: 1 target, 3 probes, 1 step)\n");
    let places = [
        "unknown-target.yaml:10:35",
        "cannot read `examples/kil.yaml`: there is no such file",
        "did you mean `examples/kill.yaml`?",
        "cannot read `examples`: it is a directory",
        "3 mistakes",
    ];
    let found: Vec<Option<usize>> = places.iter().map(|place| err.find(place)).collect();
    assert!(found.iter().all(Option::is_some) && found.is_sorted(), "{found:?}\n{err}");
    assert!(!err.contains('\u{1b}'), "no colours where there is no terminal");
}

#[test]
fn every_command_that_reads_files_refuses_the_same_ones() {
    let (_, _, expected) = faultline(&["validate", BAD]);
    for args in [["run", "--sandbox", BAD], ["plan", "--sandbox", BAD], ["run", BAD, BAD]] {
        let (code, out, err) = faultline(&args);
        assert_eq!((code, out.as_str()), (2, ""), "{args:?}");
        assert!(err.starts_with(expected.trim_end()), "{args:?}: {err}");
    }
    assert_eq!(faultline(&["sandbox", BAD]), (2, String::new(), expected));
}

#[test]
fn json_has_every_mistake_and_nothing_else_is_printed() {
    let (code, out, err) = faultline(&["validate", "--output", "json", BAD, GOOD, "nowhere.yaml"]);
    assert_eq!((code, err.as_str()), (2, ""));
    let said: Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!(said["valid"], false);
    assert_eq!(said["experiments"][0]["name"], "quickstart");
    let problem = &said["problems"][0];
    assert_eq!(problem["file"], BAD);
    assert_eq!((&problem["line"], &problem["column"]), (&10.into(), &35.into()));
    assert_eq!(
        (&problem["length"], &problem["message"]),
        (&2.into(), &"unknown target `dv`".into())
    );
    assert_eq!(problem["help"], "did you mean `db`?");
    assert_eq!(said["problems"][1]["file"], "nowhere.yaml");
    assert_eq!(said["problems"][1].get("line"), None);

    let (code, out, _) = faultline(&["--output=json", "validate", GOOD]);
    let said: Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!((code, &said["valid"]), (0, &true.into()));
    assert_eq!(said["experiments"][0]["probes"], 3);
}

#[test]
fn files_that_are_no_text_are_refused_and_shown() {
    let folder = tempfile::tempdir().expect("a folder");
    let nested = "[".repeat(10 << 20);
    for (name, content, expected) in [
        ("utf16", b"\xff\xfea\0p\0i\0".as_slice(), "utf16:1:1\n"),
        ("latin1", b"a: 1\nb: caf\xe9\n", "the byte 0xe9 is no text\n"),
        ("elf", b"\x7fELF\x02\x01", "a control character, U+007F"),
        ("zeros", &[0; 100], "a control character, U+0000"),
        ("nested", nested.as_bytes(), "larger than 4MiB"),
        ("deep", &nested.as_bytes()[..1 << 20], "nested more than 32 levels deep"),
        ("empty", b"", "no experiment in here"),
        ("blank", b"\xef\xbb\xbf\n\n---\n...\n", "no experiment in here"),
    ] {
        let path = file(&folder, name, content);
        let (code, out, err) = faultline(&["validate", path.to_str().expect("text")]);
        assert_eq!((code, out.as_str()), (2, ""), "{name}");
        assert!(err.contains(expected) && err.contains(&format!("{name}:")), "{name}: {err}");
        assert!(err.len() < 4_000, "{name}: {} bytes", err.len());
    }
    let latin1 = folder.path().join("latin1");
    let (_, _, err) = faultline(&["validate", latin1.to_str().expect("text")]);
    assert!(err.contains("latin1:2:7\n"), "{err}");
    // Root may read whatever has permissions, but nobody can follow a link to itself.
    let link = folder.path().join("loop.yaml");
    std::os::unix::fs::symlink(&link, &link).expect("a link");
    let (code, _, err) = faultline(&["validate", link.to_str().expect("text")]);
    assert!(code == 2 && err.contains("cannot read `") && err.contains("symbolic links"), "{err}");
}

#[test]
fn a_byte_order_mark_and_other_line_ends_are_read() {
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(GOOD));
    let text = format!("\u{feff}{}", text.expect("readable").replace('\n', "\r\n"));
    let (code, out, err) = with_input(&["validate", "-"], &text);
    assert_eq!((code, err.as_str()), (0, ""));
    assert_eq!(out, "<standard input>: ok (quickstart: 1 target, 3 probes, 1 step)\n");
    let (code, _, err) = with_input(&["validate", "-"], &text.replace("lost:", "last:"));
    assert!(code == 2 && err.contains("<standard input>:47:30"), "{err}");
    assert!(err.contains("did you mean `last`?"), "{err}");
}

#[test]
fn one_name_in_two_files_is_refused_with_both_places() {
    let (code, _, err) = faultline(&["validate", GOOD, "examples/kill.yaml", GOOD]);
    assert_eq!(code, 2);
    assert!(err.contains("two experiments are called `quickstart`"), "{err}");
    assert!(err.contains("the other is in examples/quickstart.yaml:10:9"), "{err}");
}

#[test]
fn wrong_usage_exits_with_2_and_says_what_to_do() {
    for (args, expected) in [
        (&[][..], "Usage: faultline"),
        (&["rum", GOOD], "similar subcommands exist: 'run'"),
        (&["run"], "<FILE>"),
        (&["run", GOOD], "which cluster? there is no kubeconfig (/nowhere/.kube/config)"),
        (&["run", "--sandbox", "--context", "x", GOOD], "cannot be used with"),
        (
            &["run", "--kubeconfig", GOOD, GOOD],
            "the kubeconfig examples/quickstart.yaml cannot be used",
        ),
        (&["run", "--sandbox", "17", GOOD], "1..=16"),
        (&["run", "--sandbox=x", GOOD], "invalid"),
        (&["run", "--sandbox", GOOD, "--inventory", "x"], "cannot be used with"),
        (&["validate", "--outptu", "json", GOOD], "--output"),
        (&["validate", "--output", "xml", GOOD], "possible values: text, json"),
        (&["halt", "--inventory", "x"], "--reason"),
        (&["halt", "--inventory", "x", "--reason", " "], "say why"),
        (
            &["ps", "--inventory", "nowhere.json"],
            "cannot read `nowhere.json`: there is no such file",
        ),
        (&["resume", "--inventory", GOOD], "unknown field `apiVersion` in an inventory"),
        (&["doctr"], "unrecognized subcommand"),
        (&["doctor"], "which cluster? there is no kubeconfig"),
        (&["inject", "kill", "--target", "api", "--sandbox"], "--target: `api` does not say"),
        (&["inject", "kill", "--sandbox"], "kill needs `target`"),
        (
            &["inject", "kill", "--target", "app=a", "--signal", "KIL", "--sandbox"],
            "--signal: `KIL`",
        ),
        (
            &["inject", "partition", "--from", "app=a", "--to", "10.0.0.1/8", "--for", "1s"],
            "--to: 10",
        ),
        (&["inject", "partition", "--between", "app=a", "--for", "0s"], "--for: `0s`"),
        (&["inject", "partition", "--between", "app=a", "--between", "app=b"], "`for` is --for"),
        (&["inject", "kill", "--target", "app=a"], "or `--sandbox` for a sandbox on this machine"),
        (&["sandbox", "--nodes", "2", "examples/partition.yaml"], "node3"),
    ] {
        let (code, out, err) = faultline(args);
        assert_eq!((code, out.as_str()), (2, ""), "{args:?}");
        assert!(err.contains(expected), "{args:?}: {err}");
    }
}

#[test]
fn help_has_examples_and_exit_codes_and_names_every_kind() {
    let (code, out, err) = faultline(&["--help"]);
    assert_eq!((code, err.as_str()), (0, ""));
    for expected in ["Examples:", "Exit codes:", "inject", "completions", "130"] {
        assert!(out.contains(expected), "{expected}");
    }
    for command in ["doctor", "install", "uninstall", "controller"] {
        assert!(out.contains(command), "{command}");
    }
    assert!(!out.contains("__faultline"), "what the sandbox starts is no command: {out}");
    let (_, out, _) = faultline(&["inject", "--help"]);
    for kind in faultline_proto::fault::KINDS {
        assert!(out.contains(kind.about), "{}: {out}", kind.name);
    }
    let (_, out, _) = faultline(&["inject", "memory-pressure", "--help"]);
    assert!(out.contains("Fill the memory") && out.contains("--oom-victim"), "{out}");
    assert_eq!(faultline(&["--version"]).1, concat!("faultline ", env!("CARGO_PKG_VERSION"), "\n"));
    for shell in ["bash", "zsh", "fish"] {
        let (code, out, _) = faultline(&["completions", shell]);
        assert!(code == 0 && out.contains("oom-victim"), "{shell}");
    }
}

#[test]
fn what_inject_prints_is_an_experiment_that_validates() {
    for args in [
        &["kill", "--target", "app=api,tier=web", "-n", "shop", "--every", "1s", "--for", "1m"][..],
        &["kill", "--target", "owner=deployment/api,owner=team-a"],
        &["kill", "--target", "name=api-0,name=api-1", "--processes", "all", "--signal", "term"],
        &["partition", "--between", "app=a", "--between", "everything", "--for", "30s"],
        &[
            "partition",
            "--from",
            "app=a",
            "--to",
            "10.0.0.0/8,fd00::1",
            "--for",
            "30s",
            "--lease=5s",
        ],
        &[
            "partition",
            "--from",
            "app=a",
            "--to",
            "app=a",
            "--protocol",
            "tcp",
            "--ports",
            "80,90-99",
            "--ports",
            "443",
            "--for",
            "30s",
            "--kubelet",
            "cut",
        ],
        &[
            "memory-pressure",
            "--target",
            "example.com/app=null",
            "--to",
            "80%",
            "--oom-victim",
            "kernel",
            "--for",
            "30s",
        ],
    ] {
        let args: Vec<&str> = ["inject"].iter().chain(args).chain(&["--print"]).copied().collect();
        let (code, out, err) = faultline(&args);
        assert_eq!((code, err.as_str()), (0, ""), "{args:?}");
        let (code, _, err) = with_input(&["validate", "-"], &out);
        assert_eq!((code, err.as_str()), (0, ""), "{args:?}\n{out}");
    }
}

#[test]
fn a_reader_that_goes_away_is_no_reason_to_panic() {
    for args in [&["completions", "bash"][..], &["--help"], &["validate", GOOD]] {
        let mut child = command(args)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program starts");
        drop(child.stdout.take());
        let mut err = String::new();
        child.stderr.take().expect("piped").read_to_string(&mut err).expect("UTF-8");
        assert_eq!(
            (child.wait().expect("it ends").code(), err.as_str()),
            (Some(0), ""),
            "{args:?}"
        );
    }
}

#[test]
fn colours_only_where_they_are_wanted() {
    let mut forced = command(&["validate", BAD]);
    let (_, _, err) = said(&forced.env("CLICOLOR_FORCE", "1").output().expect("it starts"));
    assert!(err.contains("\u{1b}["), "forced");
    let mut refused = command(&["validate", BAD]);
    refused.env("CLICOLOR_FORCE", "1").env("NO_COLOR", "1");
    let (_, _, err) = said(&refused.output().expect("it starts"));
    assert!(!err.contains('\u{1b}'), "NO_COLOR");
}

#[test]
fn a_kind_may_be_written_as_in_a_file() {
    let rest = ["--target", "app=api", "--to", "80%", "--for", "1m", "--print"];
    let said = |kind: &str| faultline(&[&["inject", kind][..], &rest].concat());
    assert_eq!(said("memoryPressure").0, 0);
    assert_eq!(said("memoryPressure"), said("memory-pressure"));
}

#[test]
fn metrics_that_have_nowhere_to_go_are_told_before_anything_is_run() {
    let (code, _, err) =
        faultline(&["run", "--sandbox", GOOD, "--push-gateway", "http://localhost:9091"]);
    assert_eq!(code, 2, "{err}");
    assert!(err.contains("a sandbox has a network of its own"), "{err}");

    let (code, _, err) = faultline(&["run", "--sandbox", GOOD, "--push-gateway", "https://push"]);
    assert_eq!(code, 2, "{err}");
    assert!(err.contains("over http only"), "{err}");

    #[cfg(feature = "otlp")]
    {
        let traced = ["run", "--sandbox", GOOD, "--otlp-endpoint", "http://localhost:4318"];
        let (code, _, err) = faultline(&traced);
        assert_eq!(code, 2, "{err}");
        assert!(err.contains("from which no collector is reached"), "{err}");
    }
    let folder = tempfile::tempdir().expect("a directory");
    let foreign = file(&folder, "node.prom", b"up 1\n").display().to_string();
    let nowhere = folder.path().join("no/such/x.prom").display().to_string();
    for (path, why) in [(foreign, "was not written by faultline"), (nowhere, "cannot write")] {
        let (code, _, err) = faultline(&["run", "--sandbox", GOOD, "--metrics-file", &path]);
        assert_eq!(code, 2, "{err}");
        assert!(err.contains(why), "{err}");
    }
}
