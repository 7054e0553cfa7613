//! Where the metrics of runs go, as it is said on the command line.

use std::path::PathBuf;

use clap::ValueHint;

use super::{PlaceChoice, print};
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
}

impl MetricsArgs {
    /// What speaks against these arguments in a place.
    pub(super) fn unusable_in(&self, place: &PlaceChoice) -> Option<String> {
        let in_sandbox = matches!(place, PlaceChoice::Sandbox { .. });
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

    /// Tells what a run came to. What fails is said; the run is over, and came to what it came to.
    pub(super) async fn tell(&self, report: &Report, console: &Console) {
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
