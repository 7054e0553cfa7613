//! What a run ran on, without a name that would tell whose machine it is.

use std::time::Duration;

use faultline_proto::pb;
use serde::{Deserialize, Serialize};

use super::millis;

/// What the controller ran on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Environment {
    /// The controller's version.
    pub faultline_version: String,
    /// `uname -r`.
    pub kernel: String,
    /// `x86_64`, `aarch64`, …
    pub architecture: String,
}

impl Environment {
    /// Of this process.
    pub fn here() -> Self {
        let kernel = nix::sys::utsname::uname();
        let kernel = kernel.map(|name| name.release().to_string_lossy().into_owned());
        Self {
            faultline_version: env!("CARGO_PKG_VERSION").into(),
            kernel: kernel.unwrap_or_else(|_unknown| "unknown".into()),
            architecture: std::env::consts::ARCH.into(),
        }
    }
}

/// An agent of the run, as it was when it was connected to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AgentReport {
    /// Its node.
    pub node: String,
    /// Its version.
    pub version: String,
    /// `uname -r` there.
    pub kernel: String,
    /// The version of control groups there; `null`: none.
    pub cgroup_version: Option<u8>,
    /// The shortest question and answer that was seen.
    pub rtt_ms: f64,
    /// What its `CLOCK_BOOTTIME` said when the run began.
    pub boottime_ms: f64,
    /// How far that may be off, and with it every time of its that is told.
    pub clock_uncertainty_ms: f64,
}

impl AgentReport {
    /// Of an agent that described itself so, and whose clock said `boottime` when the run began.
    pub fn new(
        described: &pb::DescribeResponse,
        rtt: Duration,
        boottime: Duration,
        uncertainty: Duration,
    ) -> Self {
        let cgroup_version = match described.cgroup_version() {
            pb::CgroupVersion::V1 => Some(1),
            pb::CgroupVersion::V2 => Some(2),
            pb::CgroupVersion::None | pb::CgroupVersion::Unspecified => None,
        };
        Self {
            node: described.node.clone(),
            version: described.agent_version.clone(),
            kernel: described.kernel_release.clone(),
            cgroup_version,
            rtt_ms: millis(rtt),
            boottime_ms: millis(boottime),
            clock_uncertainty_ms: millis(uncertainty),
        }
    }
}
