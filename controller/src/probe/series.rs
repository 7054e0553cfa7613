//! What a probe saw over time, for a chart: a fixed number of buckets, whose width doubles when they
//! are full. Every probe's buckets begin with the run.

use std::time::Duration;

/// Buckets at most.
const BUCKETS_MAX: usize = 512;
/// How wide a bucket is at first.
const WIDTH_MIN: Duration = Duration::from_millis(100);
/// Classes of latencies in a bucket: two for each power of two of microseconds, up to a minute.
const CLASSES: usize = 52;

/// A probe over time.
#[derive(Debug, Clone)]
pub struct Series {
    width: Duration,
    buckets: Vec<Bucket>,
}

/// Attempts that began in one span of time.
#[derive(Debug, Clone)]
pub struct Bucket {
    /// How many.
    pub attempts: u32,
    /// Those that failed.
    pub failures: u32,
    /// The shortest of those that succeeded.
    min: Duration,
    /// The longest.
    max: Duration,
    classes: [u16; CLASSES],
}

impl Default for Bucket {
    fn default() -> Self {
        let (min, max) = (Duration::MAX, Duration::ZERO);
        Self { attempts: 0, failures: 0, min, max, classes: [0; CLASSES] }
    }
}

impl Default for Series {
    fn default() -> Self {
        Self { width: WIDTH_MIN, buckets: Vec::new() }
    }
}

impl Series {
    /// Takes an attempt in: when it began, and how long it took if it succeeded.
    pub(super) fn record(&mut self, began: Duration, took: Option<Duration>) {
        let index = loop {
            let index = began.as_nanos() / self.width.as_nanos();
            match usize::try_from(index) {
                Ok(index) if index < BUCKETS_MAX => break index,
                _ => self.widen(),
            }
        };
        if self.buckets.len() <= index {
            self.buckets.resize_with(index + 1, Bucket::default);
        }
        self.buckets[index].record(took);
    }

    /// How much time a bucket stands for.
    pub fn width(&self) -> Duration {
        self.width
    }

    /// The buckets, from the beginning of the run to the last attempt.
    pub fn buckets(&self) -> &[Bucket] {
        &self.buckets
    }

    fn widen(&mut self) {
        self.width *= 2;
        let pairs = self.buckets.chunks(2).map(|pair| match pair {
            [first, second] => first.with(second),
            _ => pair[0].clone(),
        });
        self.buckets = pairs.collect();
    }
}

impl Bucket {
    fn record(&mut self, took: Option<Duration>) {
        self.attempts += 1;
        let Some(took) = took else {
            self.failures += 1;
            return;
        };
        (self.min, self.max) = (self.min.min(took), self.max.max(took));
        let class = &mut self.classes[class(took)];
        *class = class.saturating_add(1);
    }

    fn with(&self, other: &Self) -> Self {
        let mut classes = self.classes;
        for (ours, theirs) in classes.iter_mut().zip(other.classes) {
            *ours = ours.saturating_add(theirs);
        }
        Self {
            attempts: self.attempts + other.attempts,
            failures: self.failures + other.failures,
            min: self.min.min(other.min),
            max: self.max.max(other.max),
            classes,
        }
    }

    /// The shortest time, one that half of them did not exceed (to a quarter of it), and the longest, of
    /// the attempts that succeeded; `None` without any.
    pub fn latency(&self) -> Option<(Duration, Duration, Duration)> {
        let count: u32 = self.classes.iter().map(|n| u32::from(*n)).sum();
        let mut seen = 0;
        let middle = self.classes.iter().position(|n| {
            seen += u32::from(*n);
            seen * 2 >= count && seen > 0
        })?;
        Some((self.min, middle_of(middle).clamp(self.min, self.max), self.max))
    }
}

/// The class of a latency: its power of two, and whether it is in the upper half up to the next.
fn class(took: Duration) -> usize {
    let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX).max(1);
    let power = micros.ilog2();
    let upper = power > 0 && micros >> (power - 1) & 1 == 1;
    (power as usize * 2 + usize::from(upper)).min(CLASSES - 1)
}

/// The middle of a class.
fn middle_of(class: usize) -> Duration {
    let power = 1_u64 << (class / 2);
    let half_micros = if class.is_multiple_of(2) { power * 5 } else { power * 7 };
    Duration::from_nanos(half_micros * 250)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_few_and_lose_nothing_but_detail() {
        let mut series = Series::default();
        for i in 0..360_000_u64 {
            let failed = i % 100 == 7;
            let took = (!failed).then(|| Duration::from_micros(900 + i % 200));
            series.record(Duration::from_millis(i * 10), took);
        }
        let buckets = series.buckets();
        assert!(buckets.len() <= BUCKETS_MAX && buckets.len() > BUCKETS_MAX / 4);
        assert_eq!(buckets.iter().map(|b| b.attempts).sum::<u32>(), 360_000);
        assert_eq!(buckets.iter().map(|b| b.failures).sum::<u32>(), 3_600);
        let (min, middle, max) = buckets[3].latency().expect("there are some");
        assert_eq!((min.as_micros(), max.as_micros()), (900, 1_099));
        assert!((750..1_250).contains(&middle.as_micros()), "{middle:?}");
        assert_eq!(Bucket::default().latency(), None);
    }

    #[test]
    fn every_latency_is_within_a_quarter_of_the_middle_of_its_class() {
        for micros in [1_u64, 2, 3, 5, 100, 1_000, 1_500, 999_999, 59_000_000] {
            let took = Duration::from_micros(micros);
            let ratio = middle_of(class(took)).as_secs_f64() / took.as_secs_f64();
            assert!((0.8..=1.26).contains(&ratio), "{micros}: {ratio}");
        }
        assert_eq!(class(Duration::from_hours(1)), CLASSES - 1);
    }
}
