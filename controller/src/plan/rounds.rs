//! When the rounds of a `repeat` begin. Pure: the same experiment and seed give the same offsets again.

use std::time::Duration;

use super::select::split_mix;
use crate::experiment::{Repeat, Until};

/// The rounds of one `repeat`, one after the other.
#[derive(Debug)]
pub struct Rounds<'a> {
    repeat: &'a Repeat,
    seed: u64,
    begun: u32,
}

impl<'a> Rounds<'a> {
    /// Of a `repeat` whose first step has this place in the method.
    pub fn new(repeat: &'a Repeat, seed: u64, place: usize) -> Self {
        let place = u64::try_from(place).unwrap_or(u64::MAX);
        // So that two of one experiment do not shift alike.
        let seed = seed ^ place.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        Self { repeat, seed, begun: 0 }
    }

    /// How many have begun.
    pub fn begun(&self) -> u32 {
        self.begun
    }

    /// When the next one begins, after the beginning of the first: `elapsed` is where that is now. One
    /// that is late begins at once. `None`: there is none.
    pub fn next(&mut self, elapsed: Duration) -> Option<Duration> {
        let at = self.planned().map_or(elapsed, |at| at.max(elapsed));
        let is_over = match self.repeat.until {
            Until::Times(times) => self.begun >= times,
            // The first is never too late.
            Until::For(time) => self.begun > 0 && at >= time,
        };
        if is_over {
            return None;
        }
        self.begun += 1;
        Some(at)
    }

    /// When the next one should begin; `None`: when the one before is over.
    fn planned(&self) -> Option<Duration> {
        let every = self.repeat.every?;
        let at = every * self.begun;
        if self.begun == 0 {
            return Some(at);
        }
        let mut state = self.seed.wrapping_add(u64::from(self.begun));
        let range = u128::from(self.repeat.jitter_basis_points) * every.as_nanos() / 10_000;
        let drawn = u128::from(split_mix(&mut state)) % (2 * range + 1);
        let nanos = |count: u128| Duration::from_nanos(u64::try_from(count).unwrap_or(u64::MAX));
        Some((at + nanos(drawn)).saturating_sub(nanos(range)))
    }
}

#[cfg(test)]
mod tests {
    use faultline_proto::yaml::Span;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn repeat(until: Until, every: Option<Duration>, jitter_basis_points: u32) -> Repeat {
        Repeat { until, every, jitter_basis_points, steps: Vec::new(), span: Span::default() }
    }

    /// When rounds begin that take so long each.
    fn begins(repeat: &Repeat, seed: u64, takes: Duration) -> Vec<Duration> {
        let mut rounds = Rounds::new(repeat, seed, 0);
        let (mut now, mut begins) = (Duration::ZERO, Vec::new());
        while let Some(at) = rounds.next(now) {
            begins.push(at);
            now = at + takes;
        }
        begins
    }

    #[test]
    fn rounds_begin_so_often_or_one_after_the_other() {
        let times = begins(&repeat(Until::Times(3), Some(10 * SECOND), 0), 1, SECOND);
        assert_eq!(times, [Duration::ZERO, 10 * SECOND, 20 * SECOND]);
        let after = begins(&repeat(Until::Times(3), None, 0), 1, SECOND);
        assert_eq!(after, [Duration::ZERO, SECOND, 2 * SECOND]);
        let late = begins(&repeat(Until::Times(3), Some(SECOND), 0), 1, 3 * SECOND);
        assert_eq!(late, [Duration::ZERO, 3 * SECOND, 6 * SECOND], "never two at once");
    }

    #[test]
    fn no_round_begins_after_the_time() {
        let of = |until, every| begins(&repeat(Until::For(until), every, 0), 1, SECOND).len();
        assert_eq!(of(30 * SECOND, Some(10 * SECOND)), 3, "not at its end");
        assert_eq!(of(31 * SECOND, Some(10 * SECOND)), 4);
        assert_eq!(of(5 * SECOND, None), 5);
        assert_eq!(of(Duration::ZERO, None), 1);
    }

    #[test]
    fn jitter_is_within_its_bounds_and_the_same_for_the_same_seed() {
        let every = 10 * SECOND;
        let flapping = repeat(Until::Times(200), Some(every), 2_000);
        let begins_of = |seed| begins(&flapping, seed, SECOND);
        let begun = begins_of(7);
        assert_eq!(begun, begins_of(7));
        assert_ne!(begun, begins_of(8));
        let mut offsets = Vec::new();
        for (number, at) in (0_u32..).zip(&begun) {
            let offset = at.as_secs_f64() - (every * number).as_secs_f64();
            assert!(offset.abs() <= 2.0, "{number}: {offset}");
            offsets.push(offset);
        }
        assert!(offsets.iter().any(|o| *o < -1.0) && offsets.iter().any(|o| *o > 1.0), "both ways");
    }
}
