//! Every limit of the contract (`proto/limits.rs`), asked for one more or one less than it allows: the
//! agent refuses, and names the limit. What needs targets, faults per node and the queue, is in the
//! kernel ring; what an experiment may say is in `controller/tests/bad_input`.

use std::time::Duration;

use faultline_agent::kernel::clock;
use faultline_proto::{
    limits::{
        INJECTIONS_PER_REQUEST_MAX, KILL_EVERY_MIN, LEASE_MAX, LEASE_MIN, LIFETIME_MAX,
        MEMORY_LEVEL_BYTES_MAX, MEMORY_LEVEL_BYTES_MIN, MESSAGE_BYTES_MAX, PEERS_MAX,
        PORT_RANGES_MAX, PREPARED_MAX, PROCESS_NAME_BYTES_MAX, RAMP_MAX, REASON_BYTES_MAX,
    },
    pb,
};
use tonic::{Code, Status};

use super::wire::{agent, injection, prepare};

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).expect("small")
}

fn peers(count: usize) -> pb::PeerSet {
    let address = |n: usize| u32::try_from(n).expect("small").to_be_bytes().to_vec();
    let cidrs = (0..count).map(|n| pb::Cidr { address: address(n + (10 << 24)), prefix_len: 32 });
    pb::PeerSet { everything: false, cidrs: cidrs.collect() }
}

/// A partition, changed.
fn partition(change: impl FnOnce(&mut pb::Partition)) -> pb::Injection {
    let mut injection = injection();
    if let Some(pb::Fault { kind: Some(pb::fault::Kind::Partition(partition)) }) =
        &mut injection.fault
    {
        change(partition);
    }
    injection
}

/// Another kind of fault, on a container.
fn of_kind(kind: pb::fault::Kind) -> pb::Injection {
    let mut injection = injection();
    injection.fault = Some(pb::Fault { kind: Some(kind) });
    if let Some(target) = &mut injection.target {
        target.container_name = "api".into();
        target.container_id = "a".repeat(64);
    }
    injection
}

fn kill(every: Duration, name: &str) -> pb::Injection {
    let which = pb::process_selector::Which::Named(name.into());
    of_kind(pb::fault::Kind::Kill(pb::Kill {
        signal: 15,
        processes: Some(pb::ProcessSelector { which: Some(which) }),
        every_ms: millis(every),
    }))
}

fn pressure(bytes: u64, ramp: Duration) -> pb::Injection {
    of_kind(pb::fault::Kind::MemoryPressure(pb::MemoryPressure {
        level: Some(pb::memory_pressure::Level::Bytes(bytes)),
        ramp_ms: millis(ramp),
        oom_victim: pb::OomVictim::Helper.into(),
    }))
}

fn lease(lease: Duration) -> pb::Injection {
    pb::Injection { lease_ms: millis(lease), ..injection() }
}

fn lasting(lifetime: Duration) -> pb::Injection {
    let deadline_boottime_ns = clock::now().after(lifetime).as_nanos();
    pb::Injection { deadline_boottime_ns, ..injection() }
}

fn port(n: usize) -> pb::PortRange {
    let port = u32::try_from(2 * n + 1).expect("small");
    pb::PortRange { first: port, last: port }
}

/// One for each limit that a single injection can pass: what it is, one that passes it, one that just
/// does not, and the limit as it is to be named.
fn injections() -> Vec<(&'static str, pb::Injection, pb::Injection, String)> {
    let ms = Duration::from_millis(1);
    let with_peers = |n| partition(|p| p.egress = Some(peers(n)));
    let with_ports = |n| {
        partition(|p| {
            p.protocol = pb::Protocol::Tcp.into();
            p.ports = (0..n).map(port).collect();
        })
    };
    let name = |n| kill(KILL_EVERY_MIN, &"x".repeat(n));
    let (min, max) = (MEMORY_LEVEL_BYTES_MIN, MEMORY_LEVEL_BYTES_MAX);
    let at_once = Duration::ZERO;
    let debug = |duration: Duration| format!("{duration:?}");
    vec![
        ("peers", with_peers(PEERS_MAX + 1), with_peers(PEERS_MAX), PEERS_MAX.to_string()),
        (
            "port ranges",
            with_ports(PORT_RANGES_MAX + 1),
            with_ports(PORT_RANGES_MAX),
            PORT_RANGES_MAX.to_string(),
        ),
        ("a short lease", lease(LEASE_MIN.saturating_sub(ms)), lease(LEASE_MIN), debug(LEASE_MIN)),
        ("a long lease", lease(LEASE_MAX + ms), lease(LEASE_MAX), debug(LEASE_MAX)),
        (
            "a lifetime",
            lasting(LIFETIME_MAX + PREPARED_MAX + Duration::from_mins(1)),
            lasting(LIFETIME_MAX),
            debug(LIFETIME_MAX),
        ),
        (
            "a short interval",
            kill(KILL_EVERY_MIN.saturating_sub(ms), "x"),
            kill(KILL_EVERY_MIN, "x"),
            debug(KILL_EVERY_MIN),
        ),
        (
            "the name of a process",
            name(PROCESS_NAME_BYTES_MAX + 1),
            name(PROCESS_NAME_BYTES_MAX),
            PROCESS_NAME_BYTES_MAX.to_string(),
        ),
        ("little memory", pressure(min - 1, at_once), pressure(min, at_once), min.to_string()),
        ("much memory", pressure(max + 1, at_once), pressure(max, at_once), max.to_string()),
        ("a ramp", pressure(min, RAMP_MAX + ms), pressure(min, RAMP_MAX), debug(RAMP_MAX)),
    ]
}

#[track_caller]
fn names(status: &Status, limit: &str, what: &str) {
    assert!(status.message().contains(limit), "{what}: {limit} in {status:?}");
}

#[tokio::test]
async fn what_passes_a_limit_is_refused_with_that_limit() {
    let agent = agent();
    let mut client = agent.controller().await;
    for (what, beyond, within, limit) in injections() {
        let refused = client.prepare(prepare(beyond)).await.expect_err(what);
        assert_eq!(refused.code(), Code::InvalidArgument, "{what}: {refused:?}");
        names(&refused, &limit, what);
        // There is no such pod: that is the only thing wrong with it.
        let refused = client.prepare(prepare(within)).await.expect_err(what);
        assert_eq!(refused.code(), Code::NotFound, "{what}, within: {refused:?}");
    }
}

#[tokio::test]
async fn requests_that_pass_a_limit_are_refused_with_it() {
    let agent = agent();
    let mut client = agent.controller().await;
    let count = INJECTIONS_PER_REQUEST_MAX;
    let mut many = prepare(injection());
    many.injections = vec![injection(); count + 1];
    let refused = client.prepare(many).await.expect_err("too many");
    names(&refused, &count.to_string(), "injections in one request");
    let fault_ids: Vec<String> = (0..=count).map(|n| format!("{n:016x}")).collect();
    let revert = pb::RevertRequest { fault_ids: fault_ids.clone(), run_id: String::new() };
    names(&client.revert(revert).await.expect_err("too many"), &count.to_string(), "reverts");
    let renew = pb::RenewRequest { fault_ids: fault_ids.clone() };
    names(&client.renew(renew).await.expect_err("too many"), &count.to_string(), "renewals");
    let resume = pb::ResumeRequest { acknowledged_fault_ids: fault_ids, ..Default::default() };
    names(&client.resume(resume).await.expect_err("too many"), &count.to_string(), "resume");

    let late = pb::CommitRequest {
        fault_ids: vec!["00000000000000a1".into()],
        at_boottime_ns: clock::now().after(PREPARED_MAX * 2).as_nanos(),
        not_after_boottime_ns: 0,
    };
    let refused = client.commit(late).await.expect_err("nothing is prepared for so long");
    names(&refused, &format!("{PREPARED_MAX:?}"), "an appointment");
    let reason = "x".repeat(REASON_BYTES_MAX + 1);
    let refused =
        client.halt(pb::HaltRequest { reason, for_good: false }).await.expect_err("too long");
    names(&refused, &REASON_BYTES_MAX.to_string(), "the reason of a halt");

    // Refused before it is read, and the connection lives on.
    let reason = "x".repeat(MESSAGE_BYTES_MAX);
    let mut big = client.clone().max_encoding_message_size(2 * MESSAGE_BYTES_MAX);
    let refused = big.halt(pb::HaltRequest { reason, for_good: false }).await.expect_err("too big");
    assert_eq!(refused.code(), Code::OutOfRange, "{refused:?}");
    names(&refused, &MESSAGE_BYTES_MAX.to_string(), "a message");
    client.describe(pb::DescribeRequest {}).await.expect("it goes on");
}
