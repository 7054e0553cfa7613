//! How long attempts took: a histogram to a thousandth, of a size that does not depend on how many
//! there were.

use std::time::Duration;

use hdrhistogram::Histogram;

use crate::experiment::Quantile;

/// Significant digits that are kept.
const DIGITS: u8 = 3;

/// How long attempts took, in microseconds. Nothing is allocated before the first.
#[derive(Debug, Clone, Default)]
pub struct Latency {
    histogram: Option<Histogram<u32>>,
    min: Duration,
    max: Duration,
}

impl Latency {
    /// Takes one in.
    pub(super) fn record(&mut self, took: Duration) {
        let empty = self.is_empty();
        self.min = if empty { took } else { self.min.min(took) };
        self.max = self.max.max(took);
        let histogram = self.histogram.get_or_insert_with(|| {
            let mut histogram = Histogram::new(DIGITS).expect("3 digits are allowed");
            histogram.auto(true);
            histogram
        });
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX).max(1);
        // It grows with what comes, and nothing takes longer than an hour: see the limits of probes.
        let recorded = histogram.record(micros.min(HOUR_MICROS));
        debug_assert!(recorded.is_ok(), "what grows has room for an hour");
    }

    /// Whether there was none.
    pub fn is_empty(&self) -> bool {
        self.histogram.is_none()
    }

    /// The shortest.
    pub fn min(&self) -> Option<Duration> {
        (!self.is_empty()).then_some(self.min)
    }

    /// The time that this share of them did not exceed, to a thousandth; `None` without any.
    pub fn at(&self, quantile: Quantile) -> Option<Duration> {
        let histogram = self.histogram.as_ref()?;
        if quantile.per_mille >= 1000 {
            return Some(self.max);
        }
        let micros = histogram.value_at_quantile(f64::from(quantile.per_mille) / 1000.0);
        Some(Duration::from_micros(micros).clamp(self.min, self.max))
    }
}

const HOUR_MICROS: u64 = 3_600_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_right_to_a_thousandth() {
        let mut latency = Latency::default();
        assert_eq!((latency.at(Quantile::ALL[0]), latency.min()), (None, None));
        for i in 1..=10_000 {
            latency.record(Duration::from_micros(i * 100));
        }
        for quantile in Quantile::ALL {
            let exact = f64::from(quantile.per_mille) / 1000.0;
            let found = latency.at(quantile).expect("there are some").as_secs_f64();
            assert!((found / exact - 1.0).abs() <= 0.001, "{quantile:?}: {found}");
        }
        assert_eq!(latency.min(), Some(Duration::from_micros(100)));
    }
}
