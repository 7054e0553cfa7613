//! The counts as OpenMetrics text: names, help and labels of every series.

use std::{
    fmt,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

use faultline_proto::fault::KINDS;
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet, text},
    metrics::MetricType,
    registry::{Registry, Unit},
};
use std::sync::Arc;

use super::{Metrics, OfKind, REASONS, REFUSALS, RESULTS, histogram::Histogram};
use crate::kernel::clock;

/// What all names begin with but that of the build.
const PREFIX: &str = "faultline_agent";

impl Metrics {
    /// All of it now, as OpenMetrics text.
    ///
    /// # Errors
    /// None that a text in memory can give.
    pub fn text(self: &Arc<Self>) -> Result<String, fmt::Error> {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(Build));
        registry.sub_registry_with_prefix(PREFIX).register_collector(Box::new(Arc::clone(self)));
        let mut text = String::new();
        text::encode(&mut text, &registry)?;
        Ok(text)
    }
}

#[derive(Debug)]
struct Build;

impl Collector for Build {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let help = "Which program this is";
        let labels = [("version", env!("CARGO_PKG_VERSION")), ("component", "agent")];
        let mut metric =
            encoder.encode_descriptor("faultline_build", help, None, MetricType::Info)?;
        metric.encode_info(&labels)
    }
}

impl Collector for Metrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let out = &mut encoder;
        self.encode_injections(out)?;
        self.encode_reverts(out)?;
        let help = "Requests to prepare injections that were refused, dry runs included";
        let mut refused = counter(out, "refusals", help)?;
        for (word, count) in REFUSALS.iter().zip(&self.refused) {
            one(refused.encode_family(&[("reason", *word)])?, count)?;
        }
        self.encode_node(out)
    }
}

impl Metrics {
    fn each(&self) -> impl Iterator<Item = ((&'static str, &'static str), &OfKind)> {
        KINDS.iter().map(|info| ("kind", info.name)).zip(&self.kinds)
    }

    fn encode_injections(&self, out: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let mut active = gauge(out, "injections_active", "Faults that are in effect", None)?;
        for (kind, of_kind) in self.each() {
            level(active.encode_family(&[kind])?, &of_kind.active)?;
        }
        let help = "Faults that are being taken back";
        let mut reverting = gauge(out, "injections_reverting", help, None)?;
        for (kind, of_kind) in self.each() {
            level(reverting.encode_family(&[kind])?, &of_kind.reverting)?;
        }
        let help = "Injections that were begun, by whether their effect was seen";
        let mut injected = counter(out, "injections", help)?;
        for (kind, of_kind) in self.each() {
            for ((_, result), count) in RESULTS.iter().zip(&of_kind.injected) {
                one(injected.encode_family(&[kind, ("result", result)])?, count)?;
            }
        }
        let help = "From the change of the kernel until its effect was seen";
        self.encode_histogram(out, "time_to_effect", help, |of_kind| &of_kind.time_to_effect)
    }

    fn encode_reverts(&self, out: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let help = "Injections of which the kernel was read to hold nothing, by why they ended";
        let mut reverted = counter(out, "reverts", help)?;
        for (kind, of_kind) in self.each() {
            for ((_, reason), count) in REASONS.iter().zip(&of_kind.reverted) {
                one(reverted.encode_family(&[kind, ("reason", reason)])?, count)?;
            }
        }
        let help = "Attempts to revert that failed or left something; they are repeated";
        let mut failed = counter(out, "revert_failures", help)?;
        for (kind, of_kind) in self.each() {
            one(failed.encode_family(&[kind])?, &of_kind.revert_failures)?;
        }
        let help = "From the beginning of a revert until the kernel was read to hold nothing";
        self.encode_histogram(out, "revert_duration", help, |of_kind| &of_kind.revert_duration)
    }

    fn encode_histogram(
        &self,
        out: &mut DescriptorEncoder<'_>,
        name: &str,
        help: &str,
        of: impl Fn(&OfKind) -> &Histogram,
    ) -> fmt::Result {
        let seconds = Some(&Unit::Seconds);
        let mut family = out.encode_descriptor(name, help, seconds, MetricType::Histogram)?;
        for (kind, of_kind) in self.each() {
            of(of_kind).encode(family.encode_family(&[kind])?)?;
        }
        Ok(())
    }

    fn encode_node(&self, out: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let now = clock::now();
        let help =
            "What could not be reverted or is not understood, and keeps new faults from this node";
        level(gauge(out, "stuck", help, None)?, &self.stuck)?;
        let help = "What is stuck and somebody has looked at";
        level(gauge(out, "stuck_acknowledged", help, None)?, &self.acknowledged)?;
        let help = "Whether this node is halted: 1 if it takes no new faults until it is resumed";
        level(gauge(out, "halted", help, None)?, &self.halted)?;
        let help = "Undo records in the journal, of injections that are not over";
        level(gauge(out, "journal_records", help, None)?, &self.records)?;
        let help = "Failures to write the journal or to remove from it";
        one(counter(out, "journal_errors", help)?, &self.journal_errors)?;
        let help = "Things that carried our name without a record, and were taken away";
        one(counter(out, "swept", help)?, &self.swept)?;
        let seconds = Some(&Unit::Seconds);
        if let Some(left) = self.lease_seconds_left(now) {
            // Named with its unit in the middle, as it is read; so none is declared.
            let help =
                "Until the end of the lease that ends first, in seconds; below 0: it has ended";
            gauge(out, "lease_seconds_left", help, None)?.encode_gauge(&left)?;
        }
        if let Some(since) = self.since_turn(now) {
            let help = "Since the supervisor last came round; it does so once a second at least";
            gauge(out, "supervisor_age", help, seconds)?.encode_gauge(&since.as_secs_f64())?;
        }
        Ok(())
    }
}

fn gauge<'s>(
    out: &'s mut DescriptorEncoder<'_>,
    name: &'s str,
    help: &str,
    unit: Option<&'s Unit>,
) -> Result<MetricEncoder<'s>, fmt::Error> {
    out.encode_descriptor(name, help, unit, MetricType::Gauge)
}

fn counter<'s>(
    out: &'s mut DescriptorEncoder<'_>,
    name: &'s str,
    help: &str,
) -> Result<MetricEncoder<'s>, fmt::Error> {
    out.encode_descriptor(name, help, None, MetricType::Counter)
}

fn level(mut metric: MetricEncoder<'_>, value: &AtomicU64) -> fmt::Result {
    metric.encode_gauge(&value.load(Relaxed))
}

fn one(mut metric: MetricEncoder<'_>, count: &AtomicU64) -> fmt::Result {
    metric.encode_counter::<NoLabelSet, _, u64>(&count.load(Relaxed), None)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use faultline_proto::{boottime::BootTime, status::RevertReason};

    use super::*;
    use crate::metrics::{Injected, Standing};

    #[test]
    fn all_that_is_counted_is_in_the_text_with_its_labels() {
        let metrics = Arc::new(Metrics::default());
        metrics.injected("kill", Injected::Proven);
        metrics.took_effect("kill", Duration::from_millis(3));
        metrics.reverted("kill", RevertReason::LeaseLost, Some(Duration::from_secs(20)));
        metrics.refused("protected");
        metrics.refused("a word of tomorrow");
        let now = clock::now();
        let standing = Standing {
            now,
            lease_end: Some(BootTime::from_nanos(now.as_nanos() - 5_000_000_000)),
            stuck: 1,
            acknowledged: 2,
            halted: true,
            records: 3,
        };
        metrics.stand(&standing, ["kill", "kill"].into_iter(), ["partition"].into_iter());
        let text = metrics.text().expect("text");
        for line in [
            "faultline_agent_injections_active{kind=\"kill\"} 2",
            "faultline_agent_injections_active{kind=\"partition\"} 0",
            "faultline_agent_injections_reverting{kind=\"partition\"} 1",
            "faultline_agent_injections_total{kind=\"kill\",result=\"proven\"} 1",
            "faultline_agent_time_to_effect_seconds_bucket{le=\"0.0025\",kind=\"kill\"} 0",
            "faultline_agent_time_to_effect_seconds_bucket{le=\"0.005\",kind=\"kill\"} 1",
            "faultline_agent_reverts_total{kind=\"kill\",reason=\"lease_lost\"} 1",
            "faultline_agent_revert_duration_seconds_bucket{le=\"10.0\",kind=\"kill\"} 0",
            "faultline_agent_revert_duration_seconds_bucket{le=\"+Inf\",kind=\"kill\"} 1",
            "faultline_agent_revert_duration_seconds_sum{kind=\"kill\"} 20.0",
            "faultline_agent_refusals_total{reason=\"protected\"} 1",
            "faultline_agent_refusals_total{reason=\"other\"} 1",
            "faultline_agent_stuck 1",
            "faultline_agent_stuck_acknowledged 2",
            "faultline_agent_halted 1",
            "faultline_agent_journal_records 3",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} is not in\n{text}");
        }
        let left = text.lines().find_map(|l| l.strip_prefix("faultline_agent_lease_seconds_left "));
        let left: f64 = left.expect("a lease").parse().expect("a number");
        assert!((-60.0..=-5.0).contains(&left), "{left}");
        assert!(text.ends_with("# EOF\n"));
    }

    #[test]
    fn what_nothing_is_in_effect_of_has_no_lease() {
        let text = Arc::new(Metrics::default()).text().expect("text");
        assert!(!text.contains("lease_seconds_left"), "{text}");
        assert!(text.contains("faultline_agent_journal_errors_total 0\n"), "{text}");
    }
}
