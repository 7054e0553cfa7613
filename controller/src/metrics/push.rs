//! Metrics to a Pushgateway, for runs that are over before anybody could scrape them.
//!
//! A run takes the place of what the last run of its experiment pushed: the group is
//! `job="faultline"`, `instance="<experiment>"`. Of counters the gateway so has what one run counted.

use std::{fmt, str::FromStr, time::Duration};

use hyper::Method;

use super::{Metrics, exposition};
use crate::send::{Content, Server};

/// How long a push may take in all: nobody's exit waits longer for a gateway.
const PUSH_MAX: Duration = Duration::from_secs(5);

/// Where metrics are pushed to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gateway(Server);

impl FromStr for Gateway {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        text.parse().map(Self)
    }
}

impl fmt::Display for Gateway {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Gateway {
    /// Pushes what the last run of an experiment came to.
    ///
    /// # Errors
    /// When the gateway cannot be reached, does not take it, or is too slow: a sentence for a person.
    pub async fn push(&self, experiment: &str, metrics: &Metrics) -> Result<(), String> {
        let text = metrics.openmetrics().map_err(|e| e.to_string())?;
        let kind = "text/plain; version=0.0.4; charset=utf-8";
        let content = Content { kind, body: exposition::classic(&text) };
        // Names of experiments are such as need no escaping.
        let path = format!("/metrics/job/faultline/instance/{experiment}");
        let pushed = self.0.send(Method::PUT, &path, content);
        let pushed = tokio::time::timeout(PUSH_MAX, pushed).await;
        pushed
            .unwrap_or_else(|_late| Err(format!("{self} did not answer within {PUSH_MAX:?}")))
            .map(drop)
    }
}
