//! The points in time that measures are taken between, and the windows that they make of a run.

use std::time::Duration;

/// For how long at least the system is looked at as during a fault that is over at once.
const INSTANT_SEEN_FOR: Duration = Duration::from_secs(1);

/// Points in time of a run, counted from its beginning. Those that have not come are `None`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Times {
    /// The look at the steady state began.
    pub steady_from: Option<Duration>,
    /// It ended.
    pub steady_to: Option<Duration>,
    /// The first injection.
    pub injected: Option<Duration>,
    /// The injection of the step that was begun last.
    pub step_injected: Option<Duration>,
    /// The last step ended: everything that lasts was told to revert.
    pub method_end: Option<Duration>,
    /// From here on the system has to recover.
    pub recover_from: Option<Duration>,
    /// The run ended: attempts that began later count for nothing.
    pub ended: Option<Duration>,
    /// Every fault of the last step is over at once, and acts on in what has to recover from it.
    pub ends_with_instant: bool,
}

/// A part of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Window {
    /// The look at the steady state.
    Before,
    /// From the first injection to the end of the method; where the last step is over at once, to
    /// a second after it at least, and to the end of an outage that goes on then.
    During,
    /// From then on.
    After,
}

impl Window {
    /// All of them, in order.
    pub const ALL: [Self; 3] = [Self::Before, Self::During, Self::After];

    pub(super) fn index(self) -> usize {
        match self {
            Self::Before => 0,
            Self::During => 1,
            Self::After => 2,
        }
    }
}

impl Times {
    /// The window that a time is in; `None` before the look at the steady state, and between that and
    /// the first injection.
    pub fn window(&self, at: Duration) -> Option<Window> {
        if self.injected.is_some_and(|injected| at >= injected) {
            return Some(if self.during_end().is_some_and(|end| at >= end) {
                Window::After
            } else {
                Window::During
            });
        }
        let began = self.steady_from.is_some_and(|from| at >= from);
        let ended = self.steady_to.is_some_and(|to| at >= to);
        (began && !ended).then_some(Window::Before)
    }

    fn during_end(&self) -> Option<Duration> {
        let end = self.method_end?;
        if !self.ends_with_instant {
            return Some(end);
        }
        // What a fault that is over at once did is seen after it.
        let seen = self.step_injected.map(|injected| injected + INSTANT_SEEN_FOR);
        Some(seen.map_or(end, |seen| seen.max(end)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_has_three_windows_and_gaps_that_count_for_none() {
        let ms = |millis| Some(Duration::from_millis(millis));
        let times = Times {
            steady_from: ms(10),
            steady_to: ms(20),
            injected: ms(30),
            method_end: ms(40),
            ..Times::default()
        };
        let windows = |times: &Times| {
            [5, 10, 19, 20, 30, 39, 40, 90].map(|at| times.window(Duration::from_millis(at)))
        };
        let (before, during, after) =
            (Some(Window::Before), Some(Window::During), Some(Window::After));
        let expected = [None, before, before, None, during, during, after, after];
        assert_eq!(windows(&times), expected);
        let instant = Times { ends_with_instant: true, step_injected: ms(30), ..times };
        assert_eq!(windows(&instant)[6..], [during, during]);
        let at = |millis| instant.window(Duration::from_millis(millis));
        assert_eq!([1029, 1030].map(at), [during, after], "a second is seen of it");
        let later = Times { method_end: ms(3000), ..instant };
        assert_eq!(later.window(Duration::from_millis(2999)), during);
    }
}
