//! Where the metrics and traces of runs go, as it is said on the command line.

use std::path::PathBuf;

use clap::ValueHint;

use super::{PlaceChoice, print};
#[cfg(feature = "otlp")]
use crate::traces::{Collector, Trace};
use crate::{
    metrics::{
        Metrics,
        file::{self, FileError},
        push::Gateway,
    },
    report::{Console, Report},
    run::one_line,
};

/// Where metrics go; nowhere by default.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct MetricsArgs {
    /// Add what each run came to to this file, for node_exporter's textfile collector
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    metrics_file: Option<PathBuf>,
    /// Push what each run came to to a Pushgateway; if that fails, a warning says so, and no more
    #[arg(long, value_name = "URL", value_hint = ValueHint::Url)]
    push_gateway: Option<Gateway>,
    /// Send a trace of each run to this collector, as OTLP over HTTP; if that fails, a warning says so
    #[cfg(feature = "otlp")]
    #[arg(long, value_name = "URL", value_hint = ValueHint::Url, env = "OTEL_EXPORTER_OTLP_ENDPOINT")]
    otlp_endpoint: Option<Collector>,
}

impl MetricsArgs {
    /// What speaks against these arguments in a place.
    pub(super) fn unusable_in(&self, place: &PlaceChoice) -> Option<String> {
        let in_sandbox = matches!(place, PlaceChoice::Sandbox { .. });
        #[cfg(feature = "otlp")]
        if in_sandbox && self.otlp_endpoint.is_some() {
            return Some(
                "--otlp-endpoint: a sandbox has a network of its own, from which no collector is reached"
                    .into(),
            );
        }
        (in_sandbox && self.push_gateway.is_some()).then(|| {
            "--push-gateway: a sandbox has a network of its own, from which no gateway is reached; \
             write --metrics-file"
                .into()
        })
    }

    /// Whether the file can be written: a run whose metrics have nowhere to go is better not begun.
    pub(super) fn check(&self) -> Result<(), FileError> {
        self.metrics_file.as_deref().map_or(Ok(()), file::check)
    }

    /// Whether traces are made of runs.
    #[cfg_attr(
        not(feature = "otlp"),
        allow(clippy::unused_self, reason = "there is nothing to ask without it")
    )]
    pub(super) fn is_traced(&self) -> bool {
        #[cfg(feature = "otlp")]
        let is_traced = self.otlp_endpoint.is_some();
        #[cfg(not(feature = "otlp"))]
        let is_traced = false;
        is_traced
    }

    /// Tells what a run came to. What fails is said; the run is over, and came to what it came to.
    pub(super) async fn tell(&self, report: &Report, console: &Console) {
        #[cfg(feature = "otlp")]
        if let Some(collector) = &self.otlp_endpoint {
            match collector.send(&Trace::of(report)).await {
                Ok(()) => console.say("trace", &report.trace_id.clone().unwrap_or_default()),
                Err(why) => print::error(&format!("no trace was sent: {why}")),
            }
        }
        if self.metrics_file.is_none() && self.push_gateway.is_none() {
            return;
        }
        let metrics = Metrics::of(report);
        if let Some(path) = &self.metrics_file
            && let Err(error) = file::add(path, &metrics)
        {
            print::error(&format!("no metrics: {}", one_line(&error)));
        }
        if let Some(gateway) = &self.push_gateway {
            match gateway.push(&report.experiment, &metrics).await {
                Ok(()) => console.say("push", &gateway.to_string()),
                Err(why) => print::error(&format!("no metrics were pushed: {why}")),
            }
        }
    }
}
