//! Ctrl-C and SIGTERM: the first means "revert and end", the second "end now, the leases do the rest".

use std::{
    io::Write,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use tokio::{
    signal::unix::{SignalKind, signal},
    sync::Notify,
};

use crate::report::Verdict;

/// Whether somebody wants the run to end. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Interrupt {
    set: Arc<AtomicBool>,
    notify: Arc<Notify>,
    /// Something is in effect, or not proven to have been taken back.
    holds: Arc<AtomicBool>,
    /// What stays behind if the program ends at once, and who removes it.
    left: Arc<Mutex<Option<String>>>,
}

impl Interrupt {
    /// Listens for the signals from now on.
    ///
    /// # Errors
    /// When the handlers cannot be installed.
    pub fn listen() -> std::io::Result<Self> {
        let interrupt = Self::default();
        let mut ctrl_c = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        let told = interrupt.clone();
        tokio::spawn(async move {
            for count in 1_u32.. {
                tokio::select! {
                    _ = ctrl_c.recv() => {}
                    _ = terminate.recv() => {}
                }
                if count > 1 {
                    let mut err = anstream::stderr();
                    let holds = told.holds.load(Ordering::SeqCst);
                    let text = if holds {
                        "ended at once; what is in effect ends with its lease, which nobody proves"
                    } else {
                        "ended at once; nothing was in effect"
                    };
                    drop(writeln!(err, "{text}"));
                    if let Some(left) = told.left().take() {
                        drop(writeln!(err, "{left}"));
                    }
                    end_at_once(if holds { Verdict::Residue } else { Verdict::Interrupted });
                }
                told.set();
            }
        });
        Ok(interrupt)
    }

    /// Notes whether something may be in effect that a program that ends at once leaves to its lease.
    pub fn holds(&self, something: bool) {
        self.holds.store(something, Ordering::SeqCst);
    }

    /// Notes what stays behind if a second signal comes, and who removes it; `None`: nothing.
    pub fn leaves(&self, left: Option<String>) {
        *self.left() = left;
    }

    fn left(&self) -> MutexGuard<'_, Option<String>> {
        self.left.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// As if a signal had come.
    pub fn set(&self) {
        self.set.store(true, Ordering::SeqCst);
        self.notify.notify_waiters();
    }

    /// Whether one has come.
    pub fn is_set(&self) -> bool {
        self.set.load(Ordering::SeqCst)
    }

    /// Waits for one.
    pub async fn wait(&self) {
        loop {
            let notified = self.notify.notified();
            tokio::pin!(notified);
            notified.as_mut().enable();
            if self.is_set() {
                return;
            }
            notified.await;
        }
    }
}

#[allow(clippy::exit, reason = "the second Ctrl-C ends the program wherever it is")]
fn end_at_once(verdict: Verdict) -> ! {
    std::process::exit(verdict.exit_code().into())
}
