//! Commands in pods, through the API server: what `kubectl exec` does.

use std::time::Duration;

use futures::FutureExt as _;
use k8s_openapi::api::core::v1;
use kube::{Api, api::AttachParams};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _},
    time,
};

use super::{
    connect::Connection,
    error::{Asked, ClusterError},
};
use crate::place::{ExecError, ExecOutcome, Pod};

/// How much of each stream of a command is kept.
const OUTPUT_BYTES_MAX: u64 = 1 << 20;
/// The exit code for a command that could not be run, as shells have it.
const NOT_RUN: i32 = 127;

/// Runs a command in the first container of a pod. One that takes too long is left alone: the API server has no way
/// to end it, but for closing its streams.
pub(super) async fn exec(
    connection: &Connection,
    pod: &Pod,
    command: &[String],
    within: Duration,
) -> Result<ExecOutcome, ExecError> {
    let api: Api<v1::Pod> = Api::namespaced(connection.tunnel(), &pod.namespace);
    let asked = Asked::new("create", "pods/exec").within(&pod.namespace).named(&pod.name);
    let mut parameters = AttachParams::default().stdin(false).stdout(true).stderr(true);
    parameters.container = pod.containers.first().map(|container| container.name.clone());
    let running = async {
        let of = |error| match ClusterError::of(connection.server(), asked, error) {
            error if error.is_not_found() => ExecError::NoSuchPod { pod: pod.name.clone() },
            error => ExecError::Cluster(Box::new(error)),
        };
        let mut process = api.exec(&pod.name, command, &parameters).await.map_err(of)?;
        let status = process.take_status();
        let mut outcome = ExecOutcome::default();
        let (out, err) = (process.stdout(), process.stderr());
        let both =
            futures::future::join(keep(out, &mut outcome.stdout), keep(err, &mut outcome.stderr));
        both.map(|_| ()).await;
        let status = match status {
            Some(status) => status.await,
            None => None,
        };
        outcome.code = status.map_or(NOT_RUN, |status| code(&status));
        Ok(outcome)
    };
    time::timeout(within, running).await.unwrap_or(Err(ExecError::TimedOut { within }))
}

/// The first part of what comes; the rest is read and thrown away, so that nobody waits for us.
async fn keep(stream: Option<impl AsyncRead + Unpin>, kept: &mut Vec<u8>) {
    let Some(mut stream) = stream else { return };
    let mut first = (&mut stream).take(OUTPUT_BYTES_MAX);
    if first.read_to_end(kept).await.is_ok() {
        drop(tokio::io::copy(&mut stream, &mut tokio::io::sink()).await);
    }
}

/// The exit code: the API server tells one other than 0 as a cause of a failure.
fn code(status: &k8s_openapi::apimachinery::pkg::apis::meta::v1::Status) -> i32 {
    if status.status.as_deref() == Some("Success") {
        return 0;
    }
    let causes = status.details.iter().flat_map(|details| details.causes.iter().flatten());
    let mut codes = causes.filter(|cause| cause.reason.as_deref() == Some("ExitCode"));
    codes.find_map(|cause| cause.message.as_ref()?.parse().ok()).unwrap_or(NOT_RUN)
}
