//! What the controller in the cluster tells of itself.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicI64, AtomicU64},
    },
    time::{Duration, Instant},
};

use prometheus_client::{
    encoding::text,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

type ByKind = Family<[(&'static str, String); 1], Counter<u64, AtomicU64>>;

/// Counted things, and when its loop last came round.
#[derive(Debug)]
pub(super) struct Metrics {
    registry: Registry,
    leads: Gauge<i64, AtomicI64>,
    records: Gauge<i64, AtomicI64>,
    overdue: Gauge<i64, AtomicI64>,
    restored: ByKind,
    failed: ByKind,
    turned: Mutex<Instant>,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::default();
        let [leads, records, overdue] = [
            ("faultline_controller_leads", "1 where this one leads, 0 where it stands by"),
            (
                "faultline_controller_undo_records",
                "Objects that bear a record of a fault through the API server",
            ),
            (
                "faultline_controller_undo_records_overdue",
                "Those of them that should have been restored already",
            ),
        ]
        .map(|(name, help)| {
            let gauge = Gauge::<i64, AtomicI64>::default();
            registry.register(name, help, gauge.clone());
            gauge
        });
        let [restored, failed] = [
            (
                "faultline_controller_restored",
                "Objects that were restored at their deadline, by kind",
            ),
            (
                "faultline_controller_restore_failures",
                "Attempts to restore an object that did not succeed, by kind",
            ),
        ]
        .map(|(name, help)| {
            let family = ByKind::default();
            registry.register(name, help, family.clone());
            family
        });
        let turned = Mutex::new(Instant::now());
        Self { registry, leads, records, overdue, restored, failed, turned }
    }
}

impl Metrics {
    pub(super) fn leads(&self, leads: bool) {
        self.leads.set(leads.into());
    }

    pub(super) fn records(&self, all: usize, overdue: usize) {
        self.records.set(i64::try_from(all).unwrap_or(i64::MAX));
        self.overdue.set(i64::try_from(overdue).unwrap_or(i64::MAX));
    }

    pub(super) fn restored(&self, kind: &str) {
        self.restored.get_or_create(&[("kind", kind.to_owned())]).inc();
    }

    pub(super) fn failed(&self, kind: &str) {
        self.failed.get_or_create(&[("kind", kind.to_owned())]).inc();
    }

    /// Notes that the election came round.
    pub(super) fn turned(&self) {
        *self.turned.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    /// How long ago that was.
    pub(super) fn since_turn(&self) -> Duration {
        self.turned.lock().unwrap_or_else(PoisonError::into_inner).elapsed()
    }

    /// All of it, as OpenMetrics text.
    pub(super) fn text(&self) -> Result<String, std::fmt::Error> {
        let mut out = String::new();
        text::encode(&mut out, &self.registry)?;
        Ok(out)
    }
}
