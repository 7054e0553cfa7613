//! Who hears of a run what its journal is told, but for attempts of probes: to tell others in turn.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use tokio::sync::mpsc;

use crate::report::journal::Event;

/// Events that wait for a listener; with more, they are left out.
const WAITING_MAX: usize = 4096;

/// The side that tells. Telling never waits.
#[derive(Debug, Clone)]
pub struct Listener {
    heard: mpsc::Sender<Event>,
    missed: Arc<AtomicU64>,
}

/// The side that hears.
#[derive(Debug)]
pub struct Heard {
    /// What happened, in order; it ends once nobody is left to tell.
    pub events: mpsc::Receiver<Event>,
    missed: Arc<AtomicU64>,
}

impl Listener {
    /// A listener, and what it hears.
    pub fn new() -> (Self, Heard) {
        let (heard, events) = mpsc::channel(WAITING_MAX);
        let missed = Arc::new(AtomicU64::new(0));
        (Self { heard, missed: Arc::clone(&missed) }, Heard { events, missed })
    }

    pub(super) fn tell(&self, event: &Event) {
        let is_of_interest = matches!(
            event,
            Event::Prepared(_)
                | Event::Committed { .. }
                | Event::Proven { .. }
                | Event::NoEffect { .. }
                | Event::Reverted { .. }
                | Event::Verdict(_)
        );
        if is_of_interest && self.heard.try_send(event.clone()).is_err() {
            self.missed.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Heard {
    /// How many events were left out because too many waited.
    pub fn missed(&self) -> u64 {
        self.missed.load(Ordering::Relaxed)
    }
}
