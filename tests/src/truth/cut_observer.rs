//! Cuts between two network namespaces, and when they were: numbered datagrams every millisecond, and which of them
//! arrived. It shares nothing with what observes the same cuts through TCP.

use std::{
    collections::BTreeSet,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use nix::sys::socket::{setsockopt, sockopt};

use crate::netns::{Namespace, any_of};

/// Between two datagrams.
const SPACING: Duration = Duration::from_millis(1);
/// One that has not arrived so long after the last was sent is lost: between two namespaces they take microseconds.
const LAST_ARRIVES_WITHIN: Duration = Duration::from_millis(200);

/// What may wait for a receiver that is not given any time: some seconds of datagrams. Less would look like a cut.
const RECEIVE_BYTES: usize = 4 << 20;

/// A time without arrivals, as its observer knows it: some datagrams in a row were lost.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cut {
    /// The last datagram before it that arrived was sent no earlier than this.
    pub(super) after: Instant,
    /// When the first that was lost had been sent.
    pub(super) first_lost: Instant,
    /// The last that was lost was sent no earlier than this.
    pub(super) last_lost: Instant,
    /// When the first datagram behind it that arrived had been sent.
    pub(super) until: Instant,
}

impl Cut {
    /// It lasted at least so long.
    pub(super) fn least(&self) -> Duration {
        self.last_lost.saturating_duration_since(self.first_lost)
    }

    /// It lasted at most so long.
    pub(super) fn most(&self) -> Duration {
        self.until.saturating_duration_since(self.after)
    }
}

/// Sends and receives until it is asked what it saw.
#[derive(Debug)]
pub(super) struct Observer {
    stop: Arc<AtomicBool>,
    /// Before and after each datagram was sent.
    sender: JoinHandle<Vec<(Instant, Instant)>>,
    /// The numbers of those that arrived.
    receiver: JoinHandle<BTreeSet<usize>>,
}

impl Observer {
    /// Observes the way from one namespace to an address in another.
    pub(super) fn start(from: &Namespace, to: &Namespace, address: SocketAddr) -> Self {
        let receiver = to.udp(address);
        setsockopt(&receiver, sockopt::RcvBufForce, &RECEIVE_BYTES).expect("root");
        receiver.set_read_timeout(Some(LAST_ARRIVES_WITHIN)).expect("not zero");
        let sender = from.udp(SocketAddr::new(any_of(address.ip()), 0));
        let stop = Arc::new(AtomicBool::new(false));
        let (stop_sending, stop_receiving) = (Arc::clone(&stop), Arc::clone(&stop));
        let sender = thread::spawn(move || {
            let mut sent = Vec::new();
            while !stop_sending.load(Ordering::Relaxed) {
                let before = Instant::now();
                // What cannot be sent does not arrive.
                drop(sender.send_to(&sent.len().to_le_bytes(), address));
                sent.push((before, Instant::now()));
                thread::sleep(SPACING);
            }
            sent
        });
        let receiver = thread::spawn(move || {
            let (mut arrived, mut number) = (BTreeSet::new(), [0; size_of::<usize>()]);
            loop {
                match receiver.recv(&mut number) {
                    Ok(_) => drop(arrived.insert(usize::from_le_bytes(number))),
                    Err(_) if stop_receiving.load(Ordering::Relaxed) => return arrived,
                    Err(_) => {}
                }
            }
        });
        Self { stop, sender, receiver }
    }

    /// Ends, and returns the cuts that were and are over, in their order.
    pub(super) fn cuts(self) -> Vec<Cut> {
        self.stop.store(true, Ordering::Relaxed);
        let sent = self.sender.join().expect("no panic");
        let arrived: Vec<usize> = self.receiver.join().expect("no panic").into_iter().collect();
        let lost = arrived.windows(2).filter(|pair| pair[1] > pair[0] + 1);
        lost.map(|pair| Cut {
            after: sent[pair[0]].0,
            first_lost: sent[pair[0] + 1].1,
            last_lost: sent[pair[1] - 1].0,
            until: sent[pair[1]].1,
        })
        .collect()
    }
}
