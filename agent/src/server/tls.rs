//! TLS on the agent's port, with certificates that may change while it serves: whoever connects from then on sees the
//! new ones, and connections that are there go on until they end by themselves. So do faults.

use std::{
    io,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use futures::{Stream, StreamExt as _};
use rustls::ServerConfig;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Semaphore, mpsc},
    time,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_stream::wrappers::ReceiverStream;
use tracing::{debug, info, warn};

use super::identity::{Identity, IdentityError};
use crate::errors::chain;

/// How often the files are looked at. A kubelet takes a minute to change them.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// How long whoever connects may take for the handshake.
const HANDSHAKE_MAX: Duration = Duration::from_secs(5);
/// Handshakes at once; one more waits to be accepted.
const HANDSHAKES_MAX: usize = 128;
/// The pause after a connection could not be accepted, for want of a file descriptor say.
const ACCEPT_AGAIN: Duration = Duration::from_millis(200);

/// What new connections are accepted with.
type Current = Arc<RwLock<Arc<ServerConfig>>>;

/// Connections whose handshake is done, for as long as somebody takes them.
///
/// # Errors
/// When the certificates cannot be used now.
pub(super) fn incoming(
    listener: TcpListener,
    identity: Identity,
) -> Result<impl Stream<Item = io::Result<TlsStream<TcpStream>>>, IdentityError> {
    let current: Current = Arc::new(RwLock::new(identity.config()?));
    let (accepted, taken) = mpsc::channel(1);
    tokio::spawn(follow(identity, Arc::clone(&current), accepted.clone()));
    tokio::spawn(accept(listener, current, accepted));
    Ok(ReceiverStream::new(taken).map(Ok))
}

/// Takes up what is in the files, whenever that is something else and can be used.
async fn follow(
    mut identity: Identity,
    current: Current,
    accepted: mpsc::Sender<TlsStream<TcpStream>>,
) {
    // What cannot be used is said once, and not every time that it is looked at.
    let mut complained = String::new();
    loop {
        tokio::select! {
            () = accepted.closed() => return,
            () = time::sleep(LOOK_EVERY) => {}
        }
        let found = identity.read_again().and_then(|read| {
            let config = read.as_ref().map(Identity::config).transpose()?;
            Ok(read.zip(config))
        });
        match found {
            Ok(Some((read, config))) => {
                *current.write().unwrap_or_else(PoisonError::into_inner) = config;
                identity = read;
                complained.clear();
                info!("new certificates are in use");
            }
            // Three files cannot be read in one instant: what does not belong together now does so later.
            Err(error) if chain(&error) != complained => {
                complained = chain(&error);
                warn!(error = %complained, "the certificates changed and cannot be used; the old ones stay in use");
            }
            Ok(None) | Err(_) => {}
        }
    }
}

async fn accept(
    listener: TcpListener,
    current: Current,
    accepted: mpsc::Sender<TlsStream<TcpStream>>,
) {
    let places = Arc::new(Semaphore::new(HANDSHAKES_MAX));
    loop {
        // Never closed, so that there always is a place to wait for.
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        let connection = tokio::select! {
            () = accepted.closed() => return,
            connection = listener.accept() => connection,
        };
        let (stream, peer) = match connection {
            Ok(connection) => connection,
            Err(error) => {
                warn!(%error, "a connection was not accepted");
                time::sleep(ACCEPT_AGAIN).await;
                continue;
            }
        };
        let config = Arc::clone(&current.read().unwrap_or_else(PoisonError::into_inner));
        let accepted = accepted.clone();
        tokio::spawn(async move {
            // An answer that waits for more to send with it waits for 40 ms (tcp(7), TCP_NODELAY).
            drop(stream.set_nodelay(true));
            match time::timeout(HANDSHAKE_MAX, TlsAcceptor::from(config).accept(stream)).await {
                // Where nobody takes it any more, the agent ends.
                Ok(Ok(stream)) => drop(accepted.send(stream).await),
                Ok(Err(error)) => debug!(%peer, %error, "no handshake"),
                Err(_late) => debug!(%peer, "no handshake in time"),
            }
            drop(place);
        });
    }
}
