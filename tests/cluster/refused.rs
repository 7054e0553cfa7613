//! Runs that are refused, and that nothing has happened then.

use faultline_tests::cluster::{Namespace, echo_pods, watch_pod};

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
}
