//! How long attempts took: a histogram to a thousandth, of a size that does not depend on how many
//! there were.

use std::time::Duration;

use hdrhistogram::Histogram;

/// Significant digits that are kept.
const DIGITS: u8 = 3;

/// How long attempts took, in microseconds. Nothing is allocated before the first.
#[derive(Debug, Clone, Default)]
pub struct Latency {
    histogram: Option<Histogram<u32>>,
    min: Duration,
    max: Duration,
}

/// A share of attempts that took no longer than what is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Quantile {
    /// Half of them.
    P50,
    /// 90 %.
    P90,
    /// 95 %.
    P95,
    /// 99 %.
    P99,
    /// 99.9 %.
    P999,
    /// All of them.
    Max,
}

impl Quantile {
    /// Every one, with its name.
    pub const ALL: [(&'static str, Self); 6] = [
        ("p50", Self::P50),
        ("p90", Self::P90),
        ("p95", Self::P95),
        ("p99", Self::P99),
        ("p999", Self::P999),
        ("max", Self::Max),
    ];

    /// Its name.
    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(_, quantile)| *quantile == self).map_or("max", |(name, _)| name)
    }

    fn share(self) -> f64 {
        match self {
            Self::P50 => 0.5,
            Self::P90 => 0.9,
            Self::P95 => 0.95,
            Self::P99 => 0.99,
            Self::P999 => 0.999,
            Self::Max => 1.0,
        }
    }
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
        if quantile == Quantile::Max {
            return Some(self.max);
        }
        let micros = histogram.value_at_quantile(quantile.share());
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
        assert_eq!((latency.at(Quantile::P50), latency.min()), (None, None));
        for i in 1..=10_000 {
            latency.record(Duration::from_micros(i * 100));
        }
        for (quantile, exact) in [
            (Quantile::P50, 0.5),
            (Quantile::P90, 0.9),
            (Quantile::P99, 0.99),
            (Quantile::P999, 0.999),
            (Quantile::Max, 1.0),
        ] {
            let found = latency.at(quantile).expect("there are some").as_secs_f64();
            assert!((found / exact - 1.0).abs() <= 0.001, "{quantile:?}: {found}");
        }
        assert_eq!(latency.min(), Some(Duration::from_micros(100)));
    }
}
