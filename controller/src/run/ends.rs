//! What ends a run from outside of its method: a signal, or an alarm that its own watch raises. Whatever
//! the run waits for, it stops waiting then.

use std::{
    sync::{Arc, OnceLock},
    time::Instant,
};

use tokio::sync::Notify;

use super::{Ended, Interrupt};

/// Why everything is to be taken back at once.
#[derive(Debug, Clone)]
pub(super) struct Raised {
    /// When that was seen.
    pub(super) at: Instant,
    /// Why, in one sentence that names the rule and where it is written.
    pub(super) why: String,
}

/// Whether a run is to end. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Ends {
    interrupt: Interrupt,
    raised: Arc<OnceLock<Raised>>,
    notify: Arc<Notify>,
}

impl Ends {
    pub(super) fn new(interrupt: &Interrupt) -> Self {
        Self { interrupt: interrupt.clone(), raised: Arc::default(), notify: Arc::default() }
    }

    /// Raises the alarm. The first reason stays.
    pub(super) fn raise(&self, why: String) {
        let mut is_new = false;
        self.raised.get_or_init(|| {
            is_new = true;
            Raised { at: Instant::now(), why }
        });
        if is_new {
            self.notify.notify_waiters();
        }
    }

    /// What was raised.
    pub(super) fn raised(&self) -> Option<&Raised> {
        self.raised.get()
    }

    /// Whether the run is to end.
    ///
    /// # Errors
    /// That it is, and why.
    pub(super) fn check(&self) -> Result<(), Ended> {
        if self.interrupt.is_set() {
            return Err(Ended::Interrupted);
        }
        self.raised().map_or(Ok(()), |raised| Err(Ended::Stopped(vec![raised.why.clone()])))
    }

    /// Waits until the run is to end.
    async fn wait(&self) -> Ended {
        let alarm = async {
            loop {
                let notified = self.notify.notified();
                tokio::pin!(notified);
                notified.as_mut().enable();
                if self.raised().is_some() {
                    return;
                }
                notified.await;
            }
        };
        tokio::select! {
            () = self.interrupt.wait() => Ended::Interrupted,
            () = alarm => self.check().err().unwrap_or(Ended::Interrupted),
        }
    }

    /// Does some work, unless the run is to end before it is done: then it is dropped where it is.
    ///
    /// # Errors
    /// That the run is to end, and why.
    pub(super) async fn unless<T>(&self, work: impl Future<Output = T>) -> Result<T, Ended> {
        tokio::select! {
            biased;
            ended = self.wait() => Err(ended),
            done = work => Ok(done),
        }
    }
}
