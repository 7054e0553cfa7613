//! Another process finds its way into a running sandbox, and its identities are what they should be.

use std::process::Command;

use faultline_tests::sandbox::{alone, skipped};
use serde_json::{Value, json};

use crate::{HOLDER, start, three_echoes};

#[test]
fn another_process_joins_through_the_inventory() {
    let _alone = alone();
    let mut holder = start(&three_echoes());
    let file = holder.directory().join("inventory.json");
    let output = Command::new(HOLDER).arg("join").arg(&file).output().expect("it runs");
    let said: Value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stderr)));
    let running: Vec<&str> =
        said["running"].as_array().expect("a list").iter().filter_map(Value::as_str).collect();
    assert!(running.contains(&file.to_str().expect("UTF-8")), "{said}");
    assert_eq!((&said["echo"], &said["hostname"]), (&json!("ping"), &json!("echo-1\n")));
    assert!(said["ca"].to_string().contains("BEGIN CERTIFICATE"));
    assert!(said["describe"].to_string().contains("3 nodes and 3 pods"));

    // A copy that outlives the sandbox leads nowhere, and says so.
    let copy = tempfile::NamedTempFile::new().expect("a file");
    std::fs::copy(&file, copy.path()).expect("copied");
    assert_eq!(holder.down()["residue"], json!([]));
    let output = Command::new(HOLDER).arg("join").arg(copy.path()).output().expect("it runs");
    assert!(!output.status.success());
}

#[test]
fn identities_are_good_for_one_side_of_the_connection_only() {
    let _alone = alone();
    if Command::new("openssl").arg("version").output().is_err() {
        return skipped("there is no openssl to look at certificates with");
    }
    let mut holder = start(&three_echoes());
    let directory = holder.directory();
    let valid = |file: &str, purpose: &str, name: &str| {
        let output = Command::new("openssl")
            .args(["verify", "-purpose", purpose, "-verify_hostname", name, "-CAfile"])
            .arg(directory.join("ca.pem"))
            .arg(directory.join(file))
            .output()
            .expect("openssl");
        output.status.success()
    };
    let (controller, agent) = ("controller.faultline.internal", "node2.agent.faultline.internal");
    assert!(valid("controller.pem", "sslclient", controller));
    assert!(!valid("controller.pem", "sslserver", controller));
    assert!(valid("node2/agent.pem", "sslserver", agent));
    assert!(!valid("node2/agent.pem", "sslclient", agent));
    assert!(!valid("node2/agent.pem", "sslserver", controller));
    assert_eq!(holder.down()["residue"], json!([]));
}
