//! Every limit of the contract, in one place. A refusal names the limit it is about.

use std::time::Duration;

/// Peers in one partition of one target, in each direction.
pub const PEERS_MAX: usize = 20_000;
/// Port ranges in one partition.
pub const PORT_RANGES_MAX: usize = 64;
/// Injections that one node holds at once.
pub const FAULTS_PER_NODE_MAX: usize = 128;
/// Injections in one Prepare.
pub const INJECTIONS_PER_REQUEST_MAX: usize = 128;
/// Bytes of one gRPC message: 128 partitions do not fit, a few of 20 000 peers do.
pub const MESSAGE_BYTES_MAX: usize = 16 << 20;
/// Requests waiting for the supervisor of a node.
pub const QUEUE_LEN_MAX: usize = 256;

/// How long a fault lives without a renewal, unless the experiment says otherwise.
pub const LEASE_DEFAULT: Duration = Duration::from_secs(10);
/// The shortest lease: three renewals must fit with the latency of a busy cluster.
pub const LEASE_MIN: Duration = Duration::from_millis(500);
/// The longest lease: how long a fault may outlive whoever asked for it.
pub const LEASE_MAX: Duration = Duration::from_mins(5);
/// Renewals in one lease: two may be lost.
pub const RENEWALS_PER_LEASE: u32 = 3;
/// The shortest time a fault may be asked to last.
pub const LIFETIME_MIN: Duration = Duration::from_millis(10);
/// The longest time a fault may be asked to last.
pub const LIFETIME_MAX: Duration = Duration::from_hours(24);
/// How long a prepared injection waits for its Commit.
pub const PREPARED_MAX: Duration = Duration::from_secs(30);

/// The shortest interval of a repeated signal.
pub const KILL_EVERY_MIN: Duration = Duration::from_millis(10);
/// Bytes of a process name in the kernel, its end not counted: `TASK_COMM_LEN` - 1, proc(5).
pub const PROCESS_NAME_BYTES_MAX: usize = 15;
/// The least memory that pressure can be put at.
pub const MEMORY_LEVEL_BYTES_MIN: u64 = 1 << 20;
/// The most memory that pressure can be put at.
pub const MEMORY_LEVEL_BYTES_MAX: u64 = 1 << 44;
/// The longest ramp.
pub const RAMP_MAX: Duration = Duration::from_hours(1);
/// Bytes of a halt's reason.
pub const REASON_BYTES_MAX: usize = 1024;

/// Bytes of a body or datagram that a probe sends.
pub const PROBE_PAYLOAD_BYTES_MAX: usize = 16 << 10;
/// Headers of a probe's request.
pub const PROBE_HEADERS_MAX: usize = 32;
/// Bytes of one such header's value.
pub const PROBE_HEADER_BYTES_MAX: usize = 4 << 10;
/// Bytes of a text that an answer is compared with.
pub const PROBE_PATTERN_BYTES_MAX: usize = 4 << 10;
/// Bytes of a URL, a query or a path into a document.
pub const PROBE_TEXT_BYTES_MAX: usize = 4 << 10;
/// Entries of a list that an answer is compared with.
pub const PROBE_LIST_MAX: usize = 64;
/// Bytes of an answer that are read.
pub const PROBE_ANSWER_BYTES_MAX: usize = 1 << 20;
/// Bytes of the value that one attempt observes; what is longer is cut off.
pub const PROBE_VALUE_BYTES_MAX: usize = 4 << 10;
/// Bytes of the certificates that a probe believes.
pub const PROBE_CA_BYTES_MAX: usize = 64 << 10;
/// Probes that are made from the pods of one node at once.
pub const OBSERVED_PER_NODE_MAX: usize = 64;
/// The densest a probe may be.
pub const PROBE_EVERY_MIN: Duration = Duration::from_millis(10);
/// The sparsest a probe may be.
pub const PROBE_EVERY_MAX: Duration = Duration::from_hours(1);
/// The least that one attempt of a probe may take.
pub const PROBE_TIMEOUT_MIN: Duration = Duration::from_millis(1);
/// The most that one attempt of a probe may take.
pub const PROBE_TIMEOUT_MAX: Duration = Duration::from_mins(1);
