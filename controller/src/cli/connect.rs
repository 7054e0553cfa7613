//! Where the command line meets what does the work.

use super::{Exit, HaltRequest, PlanRequest, PsRequest, ResumeRequest, RunRequest, SandboxRequest};

fn not_connected(command: &str) -> anyhow::Result<Exit> {
    anyhow::bail!("`{command}` is not connected yet")
}

pub(super) fn run(request: RunRequest) -> anyhow::Result<Exit> {
    drop(request);
    not_connected("run")
}

pub(super) fn plan(request: PlanRequest) -> anyhow::Result<Exit> {
    drop(request);
    not_connected("plan")
}

pub(super) fn ps(request: PsRequest) -> anyhow::Result<Exit> {
    drop(request);
    not_connected("ps")
}

pub(super) fn halt(request: HaltRequest) -> anyhow::Result<Exit> {
    drop(request);
    not_connected("halt")
}

pub(super) fn resume(request: ResumeRequest) -> anyhow::Result<Exit> {
    drop(request);
    not_connected("resume")
}

pub(super) fn sandbox(request: SandboxRequest) -> anyhow::Result<Exit> {
    drop(request);
    not_connected("sandbox")
}
