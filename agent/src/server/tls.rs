//! TLS on the agent's port, with certificates that may change while it serves: whoever connects from then on sees the
//! new ones. Connections that are there go on as long as what they began with is trusted (`identity`). Faults go on.

use std::{
    io,
    sync::{Arc, PoisonError},
    time::Duration,
};

use futures::{Stream, StreamExt as _};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Semaphore, mpsc},
    time,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_stream::wrappers::ReceiverStream;
use tracing::{debug, info, warn};

use super::identity::{Current, Identity};
use crate::errors::chain;

/// How often the files are looked at. A kubelet takes a minute to change them.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// How long whoever connects may take for the handshake.
const HANDSHAKE_MAX: Duration = Duration::from_secs(5);
/// Handshakes at once; one more waits to be accepted.
const HANDSHAKES_MAX: usize = 128;
/// The pause after a connection could not be accepted, for want of a file descriptor say.
const ACCEPT_AGAIN: Duration = Duration::from_millis(200);

/// Connections whose handshake is done, for as long as somebody takes them.
pub(super) fn incoming(
    listener: TcpListener,
    identity: Identity,
    current: Current,
) -> impl Stream<Item = io::Result<TlsStream<TcpStream>>> {
    let (accepted, taken) = mpsc::channel(1);
    tokio::spawn(follow(identity, Arc::clone(&current), accepted.clone()));
    tokio::spawn(accept(listener, current, accepted));
    ReceiverStream::new(taken).map(Ok)
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
            let accepted = read.as_ref().map(Identity::accepted).transpose()?;
            Ok(read.zip(accepted))
        });
        match found {
            Ok(Some((read, accepted))) => {
                *current.write().unwrap_or_else(PoisonError::into_inner) = accepted;
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
        let config = Arc::clone(&current.read().unwrap_or_else(PoisonError::into_inner).config);
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
