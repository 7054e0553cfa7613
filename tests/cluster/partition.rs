//! A cut between pods of different nodes, as other pods see it.

use std::time::Duration;

use faultline_tests::cluster::{Namespace, echo_pods, watch_pod};

use super::{experiment, installed, name, node, nothing_is_injected, run};

#[test]
fn what_is_cut_is_seen_from_other_pods_and_nothing_else_is() {
    let _turn = installed();
    let namespace = Namespace::new("cut");
    let app = echo_pods(&namespace, "app", 2);
    assert_ne!(node(&app[0]), node(&app[1]), "they are spread over the nodes");
    let other = echo_pods(&namespace, "other", 1);
    let watches = [
        watch_pod(&namespace, "watch-1", &app[0]),
        watch_pod(&namespace, "watch-2", &app[1]),
        watch_pod(&namespace, "watch-3", &other[0]),
    ];
    let method = "    - partition: { between: [app, everything] }\n      for: 4s\n";
    let ended = run(&experiment(&namespace, "", method));
    assert_eq!(ended.code, Some(0), "{}", ended.text);
    std::thread::sleep(Duration::from_secs(1));
    for watch in &watches[..2] {
        let outages = watch.outages();
        let [outage] = outages.as_slice() else { panic!("one outage: {outages:?}") };
        let lasted = outage.lasted();
        assert!(lasted > Duration::from_millis(3_900), "{lasted:?}");
        assert!(lasted < Duration::from_millis(4_700), "{lasted:?}");
    }
    assert_eq!(watches[2].outages(), [], "nobody else is cut");
    nothing_is_injected();
}

#[test]
fn a_cut_between_two_groups_leaves_what_is_between_others() {
    let _turn = installed();
    let namespace = Namespace::new("groups");
    let app = echo_pods(&namespace, "app", 1);
    let stranger = watch_pod(&namespace, "stranger", &app[0]);
    let client = watch_pod(&namespace, "client", &app[0]);
    let targets =
        format!("    client: {{ namespace: {}, labels: {{ app: client }} }}\n", namespace.name());
    let method = "    - partition: { between: [app, client] }\n      for: 3s\n";
    let ended = run(&experiment(&namespace, &targets, method));
    assert_eq!(ended.code, Some(0), "{}", ended.text);
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!(client.outages().len(), 1, "{}: {}", name(&app[0]), ended.text);
    assert_eq!(stranger.outages(), []);
}
