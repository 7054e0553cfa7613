//! The vm ring: what can only be tried on a machine of its own, because it sets the clock or cuts the
//! power of a disk. `cargo test` leaves it out; `CONTRIBUTING.md` says how it is run.

mod clock;
mod power;

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Set by whoever gives this ring a machine that may be spoilt.
const OWN_MACHINE: &str = "FAULTLINE_OWN_MACHINE";

static TURN: Mutex<()> = Mutex::new(());

/// Refuses to spoil a machine that somebody needs. One test at a time has it.
#[track_caller]
fn own_machine() -> MutexGuard<'static, ()> {
    let is_own = std::env::var_os(OWN_MACHINE).is_some_and(|value| value == "1");
    assert!(is_own, "these tests set the clock and need a throw-away machine: see {OWN_MACHINE}");
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}
