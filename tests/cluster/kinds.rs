//! The other kinds of node faults on pods of a cluster, as the kubelet and other pods see them.

use std::time::Duration;

use faultline_tests::cluster::{Namespace, echo_pods, kubectl, pods_of, until, watch_pod};

use super::{experiment, installed, name, nothing_is_injected, run, start};

#[test]
fn stopped_processes_do_not_answer_until_they_are_continued() {
    let _turn = installed();
    let namespace = Namespace::new("stop");
    let app = echo_pods(&namespace, "app", 1);
    let watch = watch_pod(&namespace, "watch", &app[0]);
    let method = "    - kill: { target: app, signal: STOP, processes: all }\n      for: 3s\n";
    let ended = run(&experiment(&namespace, "", method));
    assert_eq!(ended.code, Some(0), "{}", ended.text);
    std::thread::sleep(Duration::from_secs(1));
    // Datagrams wait in the socket of who is stopped: the last of them are answered late, and count as lost all the same.
    let outages = watch.outages();
    let [outage] = outages.as_slice() else { panic!("one outage: {outages:?}") };
    assert!(outage.lasted() > Duration::from_millis(2_300), "{outage:?}");
    assert!(outage.lasted() < Duration::from_millis(3_900), "{outage:?}");
}

#[test]
fn a_killed_container_is_started_again_by_its_kubelet() {
    let _turn = installed();
    let namespace = Namespace::new("kill");
    let app = echo_pods(&namespace, "app", 3);
    let ended = run(&experiment(&namespace, "", "    - kill: { target: app, signal: KILL }\n"));
    assert_eq!(ended.code, Some(0), "{}", ended.text);
    until("each container was started again once", Duration::from_mins(1), || {
        let pods = pods_of(&namespace, "app");
        let once =
            |pod: &serde_json::Value| pod["status"]["containerStatuses"][0]["restartCount"] == 1;
        (pods.len() == app.len() && pods.iter().all(once)).then_some(())
    });
}

#[test]
fn memory_is_charged_to_the_container_and_given_back() {
    let _turn = installed();
    let namespace = Namespace::new("memory");
    let app = echo_pods(&namespace, "app", 1);
    let usage = || -> u64 {
        let files =
            "cat /sys/fs/cgroup/memory.current || cat /sys/fs/cgroup/memory/memory.usage_in_bytes";
        let said =
            kubectl(&["exec", "-n", namespace.name(), name(&app[0]), "--", "sh", "-c", files]);
        said.out.trim().parse().unwrap_or_else(|_no_number| panic!("{said:?}"))
    };
    assert!(usage() < 100 << 20, "{}", usage());
    let method = "    - memoryPressure: { target: app, to: 200MiB }\n      for: 6s\n";
    let (mut running, _file) = start(experiment(&namespace, "", method));
    running.wait_for("proven", super::PATIENCE);
    let most = usage();
    assert!((195 << 20..215 << 20).contains(&most), "{most}");
    let ended = running.end(super::PATIENCE);
    assert_eq!(ended.code, Some(0), "{}", ended.text);
    assert!(usage() < 100 << 20, "{}", usage());
    nothing_is_injected();
}
