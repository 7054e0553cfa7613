//! A server that is out at instants which it notes itself. It shares no code with what observes it.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinSet,
    time,
};

/// How a server is out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum How {
    /// Nobody listens, and what was under way is broken off.
    Refuses,
    /// It takes requests, and never answers one whose answer was due then.
    Silent,
    /// It takes requests, and answers them when it is over.
    Late,
}

/// An outage that is to be.
#[derive(Debug, Clone, Copy)]
pub(super) struct Planned {
    /// For so long before it, all is well.
    pub(super) after: Duration,
    /// For so long it is out.
    pub(super) lasts: Duration,
    /// How.
    pub(super) how: How,
}

/// An outage that was, as the server noted it: it began and ended between two instants each.
#[derive(Debug, Clone, Copy)]
pub(super) struct Outage {
    /// Between these it began.
    pub(super) began: (Instant, Instant),
    /// Between these it ended.
    pub(super) ended: (Instant, Instant),
    /// How it was out.
    pub(super) how: How,
    /// Requests whose answer was due then, and never came.
    pub(super) met: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Well,
    Out(How),
}

type Met = Arc<Mutex<u32>>;

/// Serves at an address, and is out as is planned. Returns what was; serves on until `stop` says so.
///
/// # Errors
/// When the address cannot be had.
pub(super) async fn serve(
    address: SocketAddr,
    service_time: Duration,
    plan: Vec<Planned>,
    mut stop: watch::Receiver<bool>,
) -> anyhow::Result<Vec<Outage>> {
    let (tell, state) = watch::channel(State::Well);
    let met = Met::default();
    let accept =
        |listener| tokio::spawn(accept(listener, service_time, state.clone(), Arc::clone(&met)));
    let mut serving = accept(TcpListener::bind(address).await?);
    let mut outages = Vec::new();
    for Planned { after, lasts, how } in plan {
        time::sleep(after).await;
        *met.lock().unwrap_or_else(PoisonError::into_inner) = 0;
        let first = Instant::now();
        if how == How::Refuses {
            serving.abort();
            drop((&mut serving).await);
        } else {
            tell.send_replace(State::Out(how));
        }
        let began = (first, Instant::now());
        time::sleep(lasts).await;
        let first = Instant::now();
        if how == How::Refuses {
            serving = accept(TcpListener::bind(address).await?);
        } else {
            tell.send_replace(State::Well);
        }
        let ended = (first, Instant::now());
        let met = *met.lock().unwrap_or_else(PoisonError::into_inner);
        outages.push(Outage { began, ended, how, met });
    }
    drop(stop.wait_for(|stop| *stop).await);
    serving.abort();
    Ok(outages)
}

async fn accept(
    listener: TcpListener,
    service_time: Duration,
    state: watch::Receiver<State>,
    met: Met,
) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let Ok((stream, _)) = accepted else { continue };
                connections.spawn(answer(stream, service_time, state.clone(), Arc::clone(&met)));
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

/// Answers one request, at the time that this takes, if that is not in an outage.
async fn answer(
    mut stream: TcpStream,
    service_time: Duration,
    mut state: watch::Receiver<State>,
    met: Met,
) {
    let mut request = [0; 1024];
    // A probe that only connects sends none.
    if !matches!(stream.read(&mut request).await, Ok(1..)) {
        return;
    }
    time::sleep(service_time).await;
    let now = *state.borrow();
    if let State::Out(how) = now {
        *met.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        if how == How::Silent {
            // Held until whoever asked gives up.
            drop(stream.read(&mut request).await);
            return;
        }
        drop(state.wait_for(|state| *state == State::Well).await);
    }
    let response = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok";
    drop(stream.write_all(response).await);
    drop(stream.shutdown().await);
}
