//! The network is flat, for both families and by name, and commands run in pods.

use std::time::Duration;

use faultline_tests::sandbox::{alone, processes, skipped, wait_for};
use serde_json::json;

use crate::{start, three_echoes};

#[test]
fn the_hub_and_the_pods_reach_every_pod_over_both_families_and_by_name() {
    let _alone = alone();
    let mut holder = start(&three_echoes());
    for address in ["10.244.1.2", "[fd00:244:2::2]", "echo-3", "echo-1.default"] {
        let ask =
            |what: &str, port: u16| json!({ "do": what, "address": format!("{address}:{port}") });
        assert_eq!(holder.ask(&ask("tcp", 7000))["echo"], "ping", "{address}");
        assert_eq!(holder.ask(&ask("udp", 7001))["echo"], "ping", "{address}");
        let answer = holder.ask(&ask("http", 8080))["answer"].to_string();
        assert!(answer.contains("200 OK") && answer.contains("echo-"), "{answer}");
    }
    if std::process::Command::new("bash").arg("--version").output().is_err() {
        skipped("there is no bash to connect from inside of a pod with");
        return;
    }
    // A program of the system's own, from inside of each pod to a pod of the next node.
    for (from, to, v6) in [
        ("echo-1", "echo-2", "fd00:244:2::2"),
        ("echo-2", "echo-3", "fd00:244:3::2"),
        ("echo-3", "echo-1", "fd00:244:1::2"),
    ] {
        for to in [to, v6] {
            let script = format!(
                "exec 3<>/dev/tcp/{to}/7000 && echo hello >&3 && read -t 2 x <&3 && echo $x"
            );
            let outcome = holder.exec(from, &["bash", "-c", &script]);
            assert_eq!(outcome["stdout"], "hello\n", "{from} to {to}: {outcome}");
        }
    }
    assert_eq!(holder.down()["residue"], json!([]));
}

#[test]
fn the_first_packets_to_a_pod_are_not_waited_for() {
    let _alone = alone();
    let mut holder = start(&three_echoes());
    // Detection of duplicate addresses, or a bridge that learns first, would take a second.
    for address in ["[fd00:244:1::2]:7000", "10.244.2.2:7000", "[fd00:244:3::2]:7000"] {
        let started = std::time::Instant::now();
        assert_eq!(holder.ask(&json!({ "do": "tcp", "address": address }))["echo"], "ping");
        assert!(started.elapsed() < Duration::from_millis(200), "{:?}", started.elapsed());
    }
    assert_eq!(holder.down()["residue"], json!([]));
}

#[test]
fn commands_run_in_the_pod_and_are_killed_when_they_take_too_long() {
    let _alone = alone();
    let mut holder = start(&three_echoes());
    let script =
        "hostname; echo $POD_NAME $POD_NAMESPACE $POD_IP $NODE_NAME; echo wrong >&2; exit 7";
    let outcome = holder.exec("echo-2", &["sh", "-c", script]);
    assert_eq!(outcome["stdout"], "echo-2\necho-2 default 10.244.2.2 node2\n");
    assert_eq!((&outcome["stderr"], &outcome["code"]), (&json!("wrong\n"), &json!(7)));
    let unknown = holder.exec("echo-1", &["no-such-program"]);
    assert_eq!(unknown["code"], 127);
    assert!(unknown["stderr"].to_string().contains("no-such-program"), "{unknown}");

    // The marker is in the command line, by which it would be found.
    let id = holder.id();
    let script = format!("sleep 60 & sleep 61 # {id} slow");
    let command =
        json!({ "do": "exec", "pod": "echo-1", "withinMs": 300, "command": ["sh", "-c", script] });
    let started = std::time::Instant::now();
    assert_eq!(holder.ask(&command)["error"], "the command took longer than 300ms");
    assert!(started.elapsed() < Duration::from_secs(2));
    wait_for("the command is gone", Duration::from_secs(1), || {
        processes(&id).iter().all(|(_, command)| !command.contains("slow"))
    });
    assert_eq!(holder.down()["residue"], json!([]));
}
