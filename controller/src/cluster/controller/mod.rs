//! `faultline controller`: what stands by in the cluster. It restores at its deadline what was changed through the
//! API server, whoever has gone; renews certificates before they end; and tells how that is. One of several leads.
//!
//! Nothing in it is needed for faults on nodes to end: those have their leases, in their kernels.

mod lease;
mod metrics;
mod restorer;
mod serve;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use thiserror::Error;
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::watch,
    time,
};

use self::{lease::Candidate, metrics::Metrics, restorer::Restorer};
use super::{ClusterChoice, ClusterError, Connection, install};
use crate::run::one_line;

/// How often certificates are looked at.
const RENEW_EVERY: Duration = Duration::from_hours(1);
/// The same after a look that failed.
const RENEW_AGAIN: Duration = Duration::from_mins(5);

/// How it is run.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The cluster.
    pub cluster: ClusterChoice,
    /// The namespace of the installation, where the Lease is.
    pub namespace: String,
    /// Who this is, among those who could lead.
    pub identity: String,
    /// Where metrics and health are served.
    pub listen: SocketAddr,
}

/// Why it cannot be run.
#[derive(Debug, Error)]
pub enum ControllerError {
    /// There is no way to the cluster.
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    /// Metrics cannot be offered.
    #[error("cannot listen on {address} for metrics")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// Nobody could end it.
    #[error("cannot listen for signals")]
    Signals(#[source] std::io::Error),
}

/// Runs until it is told to end; then it gives the Lease up, so that another one need not wait for that.
///
/// # Errors
/// When it cannot begin.
pub async fn run(settings: &Settings) -> Result<(), ControllerError> {
    let connection = Connection::open(&settings.cluster).await?;
    let metrics = Arc::new(Metrics::default());
    let address = settings.listen;
    let listen = |source| ControllerError::Listen { address, source };
    let listener = tokio::net::TcpListener::bind(address).await.map_err(listen)?;
    let bound = listener.local_addr().map_err(listen)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(ControllerError::Signals)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(ControllerError::Signals)?;
    say(&format!("{} stands by at {}; metrics on {bound}", settings.identity, connection.server()));

    let (leads, leading) = watch::channel(false);
    let candidate = Candidate::new(connection.clone(), &settings.namespace, &settings.identity);
    let restorer = Restorer::new(connection.clone(), Arc::clone(&metrics));
    let serving = tokio::spawn(serve::serve(listener, Arc::clone(&metrics)));
    let restoring = tokio::spawn(restorer.run(leading.clone()));
    let renewing = tokio::spawn(renew(connection, settings.namespace.clone(), leading));
    let (end, ending) = watch::channel(false);
    let electing = tokio::spawn(candidate.run(leads, Arc::clone(&metrics), ending));
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    say("told to end");
    restoring.abort();
    renewing.abort();
    end.send_replace(true);
    drop(electing.await);
    serving.abort();
    Ok(())
}

/// Renews certificates before they end, while this one leads.
async fn renew(connection: Connection, namespace: String, mut leading: watch::Receiver<bool>) {
    loop {
        if leading.wait_for(|leads| *leads).await.is_err() {
            return;
        }
        let again = match install::renew(&connection, &namespace).await {
            Ok(said) => {
                for text in &said {
                    say(text);
                }
                RENEW_EVERY
            }
            Err(error) => {
                say(&format!("certificates are not renewed: {}", one_line(&error)));
                RENEW_AGAIN
            }
        };
        time::sleep(again).await;
    }
}

/// A line for whoever reads the log.
fn say(text: &str) {
    use std::io::Write as _;
    drop(writeln!(anstream::stderr(), "{}", crate::report::clean(text)));
}
