//! Datagrams between two namespaces as fast as they go, in both directions and of both families, and
//! how many of them arrived: what slips through a gap of microseconds is seen.

use std::{
    net::{SocketAddr, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use crate::netns::{A4, A6, B4, B6, Namespace, Pair, any_of};

/// How long what was sent last may be on its way.
const ON_THE_WAY: Duration = Duration::from_millis(100);

/// A flood between the two of a [`Pair`], until it is dropped.
#[derive(Debug)]
pub struct Flood {
    shared: Arc<Shared>,
    threads: Vec<thread::JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    stop: AtomicBool,
    sent: AtomicU64,
    arrived: AtomicU64,
}

impl Flood {
    /// Begins, to this port.
    pub fn start(pair: &Pair, port: u16) -> Self {
        let shared = Arc::new(Shared::default());
        let mut threads = Vec::new();
        for (from, to, addresses) in [(&pair.a, &pair.b, [B4, B6]), (&pair.b, &pair.a, [A4, A6])] {
            let addresses = addresses.map(|address| SocketAddr::new(address, port));
            for address in addresses {
                let receiver = to.udp(address);
                receiver.set_read_timeout(Some(Duration::from_millis(20))).expect("not zero");
                let shared = Arc::clone(&shared);
                threads.push(thread::spawn(move || receive(&receiver, &shared)));
            }
            let senders = addresses.map(|to| (sender(from, to), to));
            let shared = Arc::clone(&shared);
            threads.push(thread::spawn(move || send(&senders, &shared)));
        }
        Self { shared, threads }
    }

    /// How many were sent, and how many of all until now have arrived.
    pub fn so_far(&self) -> (u64, u64) {
        let sent = self.shared.sent.load(Ordering::SeqCst);
        thread::sleep(ON_THE_WAY);
        (sent, self.shared.arrived.load(Ordering::SeqCst))
    }
}

impl Drop for Flood {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        for thread in self.threads.drain(..) {
            // One that panicked has said so.
            drop(thread.join());
        }
    }
}

fn sender(from: &Namespace, to: SocketAddr) -> UdpSocket {
    from.udp(SocketAddr::new(any_of(to.ip()), 0))
}

fn send(senders: &[(UdpSocket, SocketAddr)], shared: &Shared) {
    while !shared.stop.load(Ordering::Relaxed) {
        for (socket, to) in senders {
            // A cut shows as an error of the sender; what counts is what arrives.
            drop(socket.send_to(&[0], to));
            shared.sent.fetch_add(1, Ordering::Relaxed);
        }
    }
}

fn receive(receiver: &UdpSocket, shared: &Shared) {
    while !shared.stop.load(Ordering::Relaxed) {
        if receiver.recv(&mut [0]).is_ok() {
            shared.arrived.fetch_add(1, Ordering::SeqCst);
        }
    }
}
