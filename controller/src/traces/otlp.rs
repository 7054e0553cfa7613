//! A trace to a collector, as OTLP over HTTP with JSON (opentelemetry-proto, `ExportTraceServiceRequest`): one request,
//! a few lines, and nothing of a tracing framework in the program.

use std::{fmt, str::FromStr, time::Duration};

use hyper::Method;
use serde_json::{Value, json};

use super::{Span, Trace};
use crate::send::{Content, Server};

/// How long it may take in all: nobody's exit waits longer for a collector.
const SEND_MAX: Duration = Duration::from_secs(5);
/// Where traces go below what is written (the specification of the OTLP exporter).
const PATH: &str = "/v1/traces";
/// `SpanKind` and `StatusCode` of the protocol.
const KIND_INTERNAL: u8 = 1;
const STATUS_OK: u8 = 1;
const STATUS_ERROR: u8 = 2;

/// A collector of traces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Collector(Server);

impl FromStr for Collector {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        text.parse().map(Self)
    }
}

impl fmt::Display for Collector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{PATH}", self.0)
    }
}

impl Collector {
    /// Sends a trace.
    ///
    /// # Errors
    /// When the collector cannot be reached, does not take all of it, or is too slow: a sentence for a person.
    pub async fn send(&self, trace: &Trace) -> Result<(), String> {
        let content = Content { kind: "application/json", body: document(trace).to_string() };
        let sent = self.0.send(Method::POST, PATH, content);
        let sent = tokio::time::timeout(SEND_MAX, sent).await;
        let answer =
            sent.unwrap_or_else(|_late| Err(format!("{self} did not answer within {SEND_MAX:?}")))?;
        match rejected(&answer) {
            Some(why) => Err(format!("{self} {why}")),
            None => Ok(()),
        }
    }
}

/// What a collector did not take that answered with success.
fn rejected(answer: &str) -> Option<String> {
    let answer: Value = serde_json::from_str(answer).ok()?;
    let partial = &answer["partialSuccess"];
    // A 64 bit number is a text in JSON, and not everybody knows.
    let count = &partial["rejectedSpans"];
    let count =
        count.as_u64().or_else(|| count.as_str()?.parse().ok()).filter(|count| *count > 0)?;
    let why = partial["errorMessage"].as_str().unwrap_or("without saying why");
    Some(format!("rejected {count} spans: {why}"))
}

fn document(trace: &Trace) -> Value {
    let spans: Vec<Value> = trace.spans.iter().map(|one| span(&trace.id, one)).collect();
    let version = env!("CARGO_PKG_VERSION");
    let resource = [("service.name", "faultline".to_owned()), ("service.version", version.into())];
    json!({ "resourceSpans": [{
        "resource": { "attributes": attributes(&resource) },
        "scopeSpans": [{ "scope": { "name": "faultline", "version": version }, "spans": spans }],
    }] })
}

fn span(trace_id: &str, span: &Span) -> Value {
    let mut value = json!({
        "traceId": trace_id,
        "spanId": format!("{:016x}", span.id),
        "name": span.name,
        "kind": KIND_INTERNAL,
        "startTimeUnixNano": span.from.as_nanos().to_string(),
        "endTimeUnixNano": span.to.as_nanos().to_string(),
        "attributes": attributes(&span.attributes),
    });
    if let Some(parent) = span.parent {
        value["parentSpanId"] = format!("{parent:016x}").into();
    }
    match &span.outcome {
        None => {}
        Some(Ok(())) => value["status"] = json!({ "code": STATUS_OK }),
        Some(Err(why)) => value["status"] = json!({ "code": STATUS_ERROR, "message": why }),
    }
    value
}

fn attributes(attributes: &[(&'static str, String)]) -> Vec<Value> {
    let one = |(key, text): &(&'static str, String)| json!({ "key": key, "value": { "stringValue": text } });
    attributes.iter().filter(|(_, text)| !text.is_empty()).map(one).collect()
}
