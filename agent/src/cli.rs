//! The agent's command line, and the order in which an agent starts and ends.

use std::{
    ffi::OsString, io::IsTerminal, net::SocketAddr, path::PathBuf, process::ExitCode, sync::Arc,
    time::Duration,
};

use anyhow::Context;
use clap::{Parser, ValueEnum};
use tokio::{
    runtime,
    signal::unix::{SignalKind, signal},
    sync::oneshot,
};
use tracing::{error, info, warn};
use tracing_subscriber::EnvFilter;

use crate::{
    errors,
    kernel::{
        capabilities, cgroup::CgroupFs, cgroup_ns, container::Containers, descriptors, netns::NetNs,
    },
    metrics,
    node_info::NodeInfo,
    resolve::Resolver,
    server::{self, Identity},
    supervisor::{Config, Handle, QueueError, Status, Supervisor},
};

/// How long reverting everything may take when the agent is told to end. A pod's default grace is
/// 30 s; what is not reverted by then is in the journal, and its lease ends it.
const SHUTDOWN_MAX: Duration = Duration::from_secs(20);
/// How long to wait for a place in the supervisor's queue before asking again.
const QUEUE_POLL: Duration = Duration::from_millis(10);

/// Injects, proves and reverts faults on this node, as its controller says.
#[derive(Debug, Parser)]
#[command(name = "faultline-agent", version)]
struct Args {
    /// The name of this node
    #[arg(long, env = "NODE_NAME")]
    node: String,
    /// Where to listen for the controller
    #[arg(long, default_value = "0.0.0.0:7700")]
    listen: SocketAddr,
    /// Where to serve metrics and health over plain HTTP [default: not at all]
    #[arg(long, value_name = "ADDRESS")]
    metrics_listen: Option<SocketAddr>,
    /// Where the journal is kept; it must outlive the agent's container
    #[arg(long, default_value = "/var/lib/faultline")]
    state_dir: PathBuf,
    /// The kubelet's folder of pod logs, which tells the namespace of every pod
    #[arg(long, default_value = "/var/log/pods")]
    pods_dir: PathBuf,
    /// Where control groups cannot be used: a folder with `<pod uid>/<container id>` files of pids
    #[arg(long)]
    pids_dir: Option<PathBuf>,
    /// The certificate authority of the installation, PEM
    #[arg(long, default_value = "/etc/faultline/tls/ca.crt")]
    tls_ca: PathBuf,
    /// This agent's certificate, PEM
    #[arg(long, default_value = "/etc/faultline/tls/tls.crt")]
    tls_cert: PathBuf,
    /// This agent's private key, PEM
    #[arg(long, default_value = "/etc/faultline/tls/tls.key")]
    tls_key: PathBuf,
    /// The name in the one certificate that this agent obeys
    #[arg(long, default_value = "controller.faultline.internal")]
    controller_name: String,
    /// A namespace whose pods are never touched; may be given again
    #[arg(long = "protect-namespace", default_value = "kube-system")]
    protected_namespaces: Vec<String>,
    /// How to log, on stderr; what to log is said by `RUST_LOG`
    #[arg(long, value_enum, default_value_t = LogFormat::Text)]
    log_format: LogFormat,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum LogFormat {
    Text,
    Json,
}

/// Runs an agent with these arguments, the first of which is a program's name, until it is told to
/// end. Must be called on the main thread before there is any other.
pub fn run(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let args = match Args::try_parse_from(args) {
        Ok(args) => args,
        Err(e) => {
            // Where even that cannot be printed there is nobody to tell.
            drop(e.print());
            return ExitCode::from(if e.use_stderr() { 2 } else { 0 });
        }
    };
    start_logging(args.log_format);
    match run_agent(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            error!("{e:#}");
            ExitCode::FAILURE
        }
    }
}

fn start_logging(format: LogFormat) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_unset| EnvFilter::new("info"));
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr);
    match format {
        LogFormat::Text => subscriber.init(),
        LogFormat::Json => subscriber.json().init(),
    }
}

fn run_agent(args: Args) -> anyhow::Result<()> {
    let identity =
        Identity::read(&args.tls_ca, &args.tls_cert, &args.tls_key, &args.controller_name)?;
    // Capabilities belong to threads, and new threads inherit them: this must come first.
    descriptors::raise_limit();
    // So do namespaces. Where this cannot be done, faults on control groups say what they cannot find.
    match cgroup_ns::enter_of_process(1) {
        Ok(false) => {}
        Ok(true) => info!("entered the node's cgroup namespace"),
        Err(error) => warn!("control groups may not be found: {}", errors::chain(&error)),
    }
    let dropped = capabilities::drop_unneeded().context("cannot drop capabilities")?;
    info!(?dropped, "capabilities dropped");
    let resolver = Arc::new(Resolver {
        cgroups: CgroupFs::mounted()?,
        pods_dir: Some(args.pods_dir),
        containers: args.pids_dir.map_or(Containers::Cgroups, Containers::PidFiles),
        protected_namespaces: args.protected_namespaces,
        node_net_ns: NetNs::of_process(1)
            .or_else(|_hidden| NetNs::open("/proc/self/ns/net".as_ref()))?
            .id(),
    });
    let supervisor =
        Supervisor::start(Config { state_dir: args.state_dir, resolver: Arc::clone(&resolver) })?;
    // After what an earlier process left was taken back: a port that is in use must not keep that.
    if let Some(address) = args.metrics_listen {
        metrics::serve(address, Arc::clone(supervisor.handle.metrics()))?;
    }
    let info = Arc::new(NodeInfo::gather(args.node, resolver));
    // One thread serves: the supervisor's does the work, and an agent at rest should be small.
    let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(serve(args.listen, identity, supervisor, info))
}

async fn serve(
    address: SocketAddr,
    identity: Identity,
    supervisor: Supervisor,
    info: Arc<NodeInfo>,
) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let Supervisor { handle, ended } = supervisor;
    let (stop, stopped) = oneshot::channel::<()>();
    let serving = server::serve(address, identity, handle.clone(), info, async {
        drop(stopped.await);
    });
    tokio::pin!(serving);
    tokio::select! {
        result = &mut serving => {
            // Nobody can renew or revert through a server that is gone.
            let reverted = shut_down(&handle).await;
            result?;
            return reverted;
        }
        _ = ended => anyhow::bail!("the supervisor ended; the next start reverts what it held"),
        _ = terminate.recv() => info!("told to end"),
        _ = interrupt.recv() => info!("interrupted"),
    }
    let reverted = shut_down(&handle).await;
    drop(stop);
    // An open Watch would keep a graceful end waiting for ever.
    if let Ok(result) = tokio::time::timeout(Duration::from_secs(1), serving).await {
        result?;
    }
    reverted
}

/// Reverts everything, within the grace that a pod has. What is stuck holds nobody up: its record is in
/// the journal, and its lease ends what can be ended.
///
/// # Errors
/// When something may be left.
async fn shut_down(supervisor: &Handle) -> anyhow::Result<()> {
    let statuses = match tokio::time::timeout(SHUTDOWN_MAX, revert_all(supervisor)).await {
        Ok(statuses) => statuses.context("nothing could be reverted; the next start does")?,
        Err(_late) => anyhow::bail!(
            "not everything was reverted within {SHUTDOWN_MAX:?}; leases end it, and the next start \
             reverts what is left"
        ),
    };
    let left: Vec<_> = statuses.iter().filter(|s| !s.residue.is_empty()).collect();
    for status in &left {
        error!(fault = %status.fault_id, residue = ?status.residue, "not reverted");
    }
    info!(reverted = statuses.len() - left.len(), "everything reverted that could be");
    anyhow::ensure!(left.is_empty(), "{} not reverted; the next start tries again", left.len());
    Ok(())
}

/// Asks until the queue takes it: what waits there is answered soon.
async fn revert_all(supervisor: &Handle) -> Result<Vec<Status>, QueueError> {
    loop {
        match supervisor.shut_down().await {
            Err(QueueError::Full) => tokio::time::sleep(QUEUE_POLL).await,
            answer => return answer,
        }
    }
}
