//! Runs that are refused, and that nothing has happened then.

use std::time::Duration;

use faultline_tests::{
    cluster::{Namespace, apply, echo_pods, get, test_image, until, watch_pod},
    program::Running,
};

use super::{
    experiment, installed, node,
    rollout::{agents_leave, agents_return, rolled},
    run,
};

#[test]
fn where_one_node_has_no_agent_nothing_happens_anywhere() {
    let _turn = installed();
    let namespace = Namespace::new("allornone");
    let app = echo_pods(&namespace, "app", 2);
    let watches =
        [watch_pod(&namespace, "watch-1", &app[0]), watch_pod(&namespace, "watch-2", &app[1])];
    let without = node(&app[1]).to_owned();
    agents_leave(&without);
    rolled();
    let method = "    - partition: { between: [app, everything] }\n      for: 3s\n";
    let ended = run(&experiment(&namespace, "", method));
    let doctor = faultline_tests::program::Running::start(&["doctor"]).end(super::PATIENCE);

    agents_return();
    assert_eq!(ended.code, Some(3), "{}", ended.text);
    assert!(
        ended.text.contains(&format!("node {without}: no agent is known there")),
        "{}",
        ended.text
    );
    assert_eq!(doctor.code, Some(3), "{}", doctor.text);
    assert!(doctor.text.contains(&without), "{}", doctor.text);
    for watch in watches {
        assert_eq!(watch.outages(), [], "nothing was cut");
    }
}

#[test]
fn a_selector_of_nobody_says_what_there_is() {
    let _turn = installed();
    let namespace = Namespace::new("nobody");
    echo_pods(&namespace, "ap", 1);
    let method = "    - partition: { between: [app, everything] }\n      for: 3s\n";
    let ended = run(&experiment(&namespace, "", method));
    assert_eq!(ended.code, Some(3), "{}", ended.text);
    assert!(ended.text.contains("target `app` is nobody"), "{}", ended.text);

    // Somebody of that name who waits for a node that is not there, and somebody who has ended.
    for (name, more) in
        [("waits", "nodeSelector: { no: where }"), ("ended", "restartPolicy: Never")]
    {
        let (namespace, image) = (namespace.name(), test_image());
        apply(&format!(
            "apiVersion: v1
kind: Pod
metadata: {{ name: {name}, namespace: {namespace}, labels: {{ app: {name} }} }}
spec:
  {more}
  containers: [{{ name: main, image: \"{image}\", imagePullPolicy: IfNotPresent, command: [/bin/true] }}]
"
        ));
    }
    until("one has ended", Duration::from_mins(1), || {
        let pod = get(&["pod", "-n", namespace.name(), "ended"]);
        (pod["status"]["phase"] == "Succeeded").then_some(())
    });
    for (name, why) in [("waits", "on no node yet"), ("ended", "whose work is over")] {
        let selector = format!("app={name}");
        let args = ["inject", "kill", "--target", &selector, "-n", namespace.name()];
        let ended = Running::start(&args).end(super::PATIENCE);
        assert_eq!(ended.code, Some(3), "{}", ended.text);
        let text = ended.text.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(text.contains(why), "{text}");
    }
}
