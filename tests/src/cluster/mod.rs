//! A real cluster, as the cluster ring sees it: through `kubectl` and through pods of its own, never through what it
//! tests.

mod inside;
mod kubectl;
mod namespace;
mod observers;

use std::{env, process::Command, time::Duration};

pub use inside::{report_in_pod, run_in_pod};
pub use kubectl::{Said, apply, get, kubectl, ok, until};
pub use namespace::Namespace;
pub use observers::{Outage, WatchPod, echo_pods, pods_of, watch_pod};

use crate::program::{Ended, Running, faultline, use_cluster};

/// The image with this ring's own programs and a shell: `FAULTLINE_TEST_IMAGE`.
pub fn test_image() -> String {
    env::var("FAULTLINE_TEST_IMAGE").unwrap_or_else(|_unset| "faultline/tests:dev".into())
}

/// What Faultline's images begin with, for `faultline install --image`: `FAULTLINE_IMAGE`.
pub fn image() -> String {
    env::var("FAULTLINE_IMAGE").unwrap_or_else(|_unset| "faultline".into())
}

/// More flags for `faultline install`, where a cluster needs some: `FAULTLINE_INSTALL_FLAGS`.
pub fn install_flags() -> Vec<String> {
    let flags = env::var("FAULTLINE_INSTALL_FLAGS").unwrap_or_default();
    flags.split_whitespace().map(str::to_owned).collect()
}

/// The program of a lab that can do to nodes what `kubectl` cannot, such as cut their power: `FAULTLINE_LAB`.
pub fn lab() -> Option<String> {
    env::var("FAULTLINE_LAB").ok().filter(|lab| !lab.is_empty())
}

/// Installs Faultline, or brings it to what is built.
pub fn install() -> Ended {
    use_cluster();
    let mut command = Command::new(faultline());
    command.args(["install", "--image", &image()]).args(install_flags());
    Running::start_command(&mut command).end(Duration::from_mins(3))
}
