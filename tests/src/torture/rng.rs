//! Chance that can be repeated: `SplitMix64` (Steele, Lea, Flood: Fast splittable pseudorandom number
//! generators, OOPSLA 2014).

use std::{ops::Range, time::Duration};

use faultline_proto::fault::Draw;

/// The golden ratio's fraction in 64 bits: what each step adds.
const GAMMA: u64 = 0x9e37_79b9_7f4a_7c15;

/// A stream of numbers that is the same for the same seed.
///
/// ```text
/// state += GAMMA; output = mix(state)
/// ```
#[derive(Debug, Clone)]
pub(crate) struct Rng(u64);

impl Rng {
    /// The stream of one round, whatever the rounds before it drew.
    pub(crate) fn of_round(seed: u64, round: u64) -> Self {
        // Mixed each by itself: states that differ by multiples of the step are one stream.
        Self(Self(seed).bits() ^ Self(round).bits().rotate_left(32))
    }

    /// 64 random bits.
    pub(crate) fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(GAMMA);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number of a range that is not empty. The bias of the remainder does not matter here.
    pub(crate) fn within(&mut self, range: Range<u64>) -> u64 {
        range.start + self.bits() % (range.end - range.start)
    }

    /// Whether something happens that does so in `percent` of all cases.
    pub(crate) fn chance(&mut self, percent: u64) -> bool {
        self.within(0..100) < percent
    }

    /// One of several, of which there is at least one.
    pub(crate) fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.index(from.len())]
    }

    /// A position among `len`, which is not 0.
    pub(crate) fn index(&mut self, len: usize) -> usize {
        usize::try_from(self.bits() % u64::try_from(len).unwrap_or(1)).unwrap_or(0)
    }

    /// A time of a range of milliseconds, to the microsecond.
    pub(crate) fn millis(&mut self, range: Range<u64>) -> Duration {
        Duration::from_micros(self.within(range.start * 1000..range.end * 1000))
    }
}

impl Draw for Rng {
    fn within(&mut self, range: Range<u64>) -> u64 {
        Self::within(self, range)
    }
}
