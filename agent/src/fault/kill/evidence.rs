//! What a signal has done to one process, as the kernel tells it.

use std::time::Duration;

use faultline_proto::{boottime::BootTime, fault::Signal, units::duration};

use crate::kernel::{
    KernelError, clock,
    pidfd::PidFd,
    process::{SignalState, has_signal},
};

/// `SIGCONT`, and the signals whose default is to do nothing: `CHLD`, `URG`, `WINCH` (`signal(7)`).
const CONT: u8 = 18;
const IGNORED_BY_DEFAULT: [u8; 3] = [17, 23, 28];

/// A process that was sent a signal.
#[derive(Debug)]
pub(super) struct Signalled {
    pub(super) handle: PidFd,
    pub(super) name: String,
    pub(super) at: BootTime,
}

/// What has become of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Effect {
    /// What the signal is sent for: one clause says how that was seen.
    Seen(String),
    /// Not yet, or never: one clause says why.
    NotYet(String),
}

impl Signalled {
    /// Looks at it.
    pub(super) fn effect(&self, signal: Signal) -> Result<Effect, KernelError> {
        let ended = self.handle.has_ended()?;
        let state = if ended { None } else { SignalState::of(self.handle.id()) };
        let who = format!("process {} ({})", self.handle.id().pid, self.name);
        Ok(judge(&who, signal, state, clock::now() - self.at))
    }
}

/// `state`: `None` for a process that has ended.
fn judge(who: &str, signal: Signal, state: Option<SignalState>, after: Duration) -> Effect {
    let number = signal.number();
    let Some(state) = state else {
        // Milliseconds are what looking from time to time can tell; it ended before the look.
        let millis = u64::try_from(after.as_millis()).unwrap_or(0) + 1;
        let within = duration(Duration::from_millis(millis));
        return Effect::Seen(format!("{who} ended within {within} of {signal}"));
    };
    if let Some(why) = dropped(signal, &state) {
        return Effect::NotYet(format!("{who} {why}"));
    }
    let handles = has_signal(state.caught, number);
    if has_signal(state.pending, number) {
        let blocked = has_signal(state.blocked, number);
        let why = if blocked { "blocks it" } else { "has not run since" };
        return Effect::NotYet(format!("{signal} is pending: {who} {why}"));
    }
    if signal.is_meant_to_end() {
        let handles = if handles { "handles the signal itself and " } else { "" };
        return Effect::NotYet(format!("{who} {handles}still runs"));
    }
    if signal.stops() {
        return if state.is_stopped() {
            Effect::Seen(format!("{who} is stopped"))
        } else if handles {
            Effect::Seen(format!("{who} took {signal} by its own handler"))
        } else {
            // The kernel drops the terminal's stop signals where nobody could continue: signal(7),
            // setpgid(2) on orphaned process groups.
            Effect::NotYet(format!("{who} is not stopped"))
        };
    }
    if handles {
        return Effect::Seen(format!("{who} took {signal} by its own handler"));
    }
    if number == CONT && !state.is_stopped() {
        return Effect::Seen(format!("{who} is not stopped"));
    }
    Effect::NotYet(format!("{who} still runs"))
}

/// Why the kernel drops the signal for a process, if it does.
fn dropped(signal: Signal, state: &SignalState) -> Option<&'static str> {
    let number = signal.number();
    let handles = has_signal(state.caught, number);
    if signal == Signal::KILL || signal == Signal::STOP || handles {
        None
    } else if has_signal(state.ignored, number) && number != CONT {
        Some("ignores the signal")
    } else if state.is_namespace_init && number != CONT {
        Some("is the first of its pid namespace and has no handler for the signal: Linux drops it")
    } else if IGNORED_BY_DEFAULT.contains(&number) {
        Some("has no handler for the signal, which does nothing by default")
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RUNS: SignalState = SignalState {
        state: 'S',
        pending: 0,
        blocked: 0,
        ignored: 0,
        caught: 0,
        is_namespace_init: false,
    };

    fn signal(name: &str) -> Signal {
        Signal::from_name(name).unwrap()
    }

    fn bit(name: &str) -> u64 {
        1 << (signal(name).number() - 1)
    }

    fn seen(name: &str, state: Option<SignalState>) -> bool {
        let effect = judge("it", signal(name), state, Duration::from_millis(3));
        matches!(effect, Effect::Seen(_))
    }

    fn why_not(name: &str, state: SignalState) -> String {
        match judge("it", signal(name), Some(state), Duration::ZERO) {
            Effect::NotYet(why) => why,
            Effect::Seen(how) => panic!("seen: {how}"),
        }
    }

    #[test]
    fn only_its_end_proves_a_signal_meant_to_end_a_process() {
        let effect = judge("it", Signal::KILL, None, Duration::from_micros(3_700));
        assert_eq!(effect, Effect::Seen("it ended within 4ms of SIGKILL".into()));
        assert!(!seen("TERM", Some(RUNS)));
        let handles = SignalState { caught: bit("TERM"), ..RUNS };
        assert!(why_not("TERM", handles).contains("handles"));
        let ignores = SignalState { ignored: bit("TERM"), ..RUNS };
        assert!(why_not("TERM", ignores).contains("ignores"));
        let init = SignalState { is_namespace_init: true, ..RUNS };
        assert!(why_not("TERM", init).contains("Linux drops it"));
        assert!(why_not("KILL", init).contains("still runs"), "from outside it is not dropped");
    }

    #[test]
    fn other_signals_are_seen_when_they_were_taken() {
        let handles = SignalState { caught: bit("USR1"), ..RUNS };
        assert!(seen("USR1", Some(handles)));
        let pending = SignalState { pending: bit("USR1"), blocked: bit("USR1"), ..handles };
        assert!(why_not("USR1", pending).contains("blocks it"));
        assert!(why_not("USR1", SignalState { ignored: bit("USR1"), ..RUNS }).contains("ignores"));
        assert!(why_not("WINCH", RUNS).contains("by default"));
        assert!(seen("USR1", None), "its default is to end");
    }

    #[test]
    fn stopped_and_continued_are_states() {
        let stopped = SignalState { state: 'T', ..RUNS };
        assert!(seen("STOP", Some(stopped)) && !seen("STOP", Some(RUNS)));
        assert!(seen("CONT", Some(RUNS)) && !seen("CONT", Some(stopped)));
        assert!(seen("TSTP", Some(SignalState { caught: bit("TSTP"), ..RUNS })));
    }
}
