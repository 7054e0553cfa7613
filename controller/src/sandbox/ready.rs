//! Waiting until a sandbox is ready, and saying what is in the way when it is not.

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use futures::future::join_all;
use tokio::{
    net::TcpStream,
    time::{sleep, timeout},
};

use super::{error::SandboxError, layout::NodePlan, state::Shared};

/// How long a sandbox may take until every agent answers and every workload runs.
const READY_TIMEOUT: Duration = Duration::from_secs(15);
/// Between two looks at what is not ready.
const READY_POLL: Duration = Duration::from_millis(5);
/// How long one attempt to connect to an agent may take.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(250);
/// How much of a log is shown when something failed.
const LOG_LINES_SHOWN: usize = 10;

/// Waits until every agent can be connected to and every workload runs.
///
/// # Errors
/// The first thing that failed, or what is missing when the time is over.
pub(super) async fn wait(shared: &Shared, plans: &[NodePlan]) -> Result<(), SandboxError> {
    let until = Instant::now() + READY_TIMEOUT;
    let mut answered = vec![false; plans.len()];
    loop {
        if let Some(problem) = shared.first_problem() {
            // The log may be written a moment after the event.
            sleep(READY_POLL).await;
            return Err(SandboxError::Failed { what: problem.what, log: tail(&problem.log) });
        }
        let started = shared.agents_started();
        let attempts = answered.iter_mut().zip(started).zip(shared.agents());
        join_all(attempts.map(async |((answered, started), agent)| {
            // Before it is started its address may not be there, and would be waited for.
            *answered = *answered || started && accepts(&agent.address).await;
        }))
        .await;
        let pods = shared.pods_not_running();
        if pods.is_empty() && answered.iter().all(|answered| *answered) {
            return Ok(());
        }
        if Instant::now() > until {
            return Err(not_ready(plans, &answered, &pods));
        }
        drop(timeout(READY_POLL, shared.changed.notified()).await);
    }
}

async fn accepts(address: &str) -> bool {
    matches!(timeout(CONNECT_TIMEOUT, TcpStream::connect(address)).await, Ok(Ok(_)))
}

fn not_ready(plans: &[NodePlan], answered: &[bool], pods: &[(usize, String)]) -> SandboxError {
    let silent: Vec<&NodePlan> =
        plans.iter().zip(answered).filter(|(_, ok)| !**ok).map(|(plan, _)| plan).collect();
    let mut missing: Vec<String> =
        silent.iter().map(|plan| format!("the agent of {}", plan.name)).collect();
    missing.extend(pods.iter().map(|(_, name)| format!("the workload of pod {name}")));
    let log = match (silent.first(), pods.first()) {
        (Some(plan), _) => plan.agent_log(),
        (None, Some((index, name))) => {
            let plan = &plans[*index];
            let pod = plan.pods.iter().find(|pod| pod.name == *name);
            pod.map_or_else(|| plan.node_log(), |pod| plan.pod_log(pod))
        }
        (None, None) => Path::new("").into(),
    };
    SandboxError::NotReady { missing, within: READY_TIMEOUT, log: tail(&log) }
}

/// The last lines of a log, as far as they are text.
fn tail(log: &Path) -> String {
    let text = fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(LOG_LINES_SHOWN)..].join("\n")
}
