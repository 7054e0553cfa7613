use std::path::Path;

use serde_json::Value;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};

use super::*;
use crate::report::journal;

/// A run that cut something for a second.
fn report() -> Report {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/journal/whole.jsonl");
    let mut report = journal::rebuild(journal::read(&file).expect("a journal")).report;
    report.started_unix_ms = 1_700_000_000_123;
    report.phases = [
        ("steady", None, 10.0),
        ("inject", Some(1), 800.0),
        ("hold", Some(1), 850.0),
        ("revert", Some(1), 1900.0),
        ("inject", Some(1), 2000.0),
        ("recovery", None, 2100.0),
    ]
    .into_iter()
    .map(|(phase, step, began_ms)| PhaseReport {
        phase: serde_json::from_value(phase.into()).expect("a phase"),
        step,
        began_ms,
    })
    .collect();
    for injection in &mut report.injections {
        (injection.prepared_at_ms, injection.ordered_at_ms) = (Some(820.0), Some(822.0));
    }
    report
}

fn named<'a>(trace: &'a Trace, name: &str) -> &'a Span {
    trace.spans.iter().find(|span| span.name == name).unwrap_or_else(|| panic!("no {name}"))
}

#[test]
fn a_run_is_a_span_and_all_else_is_a_part_of_it() {
    let report = report();
    let trace = Trace::of(&report);
    let run = &trace.spans[0];
    assert_eq!((run.name.as_str(), run.parent), ("run cut", None));
    assert_eq!(run.from, Duration::from_millis(1_700_000_000_123));
    let mut ids: Vec<u64> = trace.spans.iter().map(|span| span.id).collect();
    for span in &trace.spans[1..] {
        assert!(span.parent.is_some_and(|parent| ids.contains(&parent)), "{}", span.name);
        assert!(span.from <= span.to, "{}", span.name);
    }
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), trace.spans.len(), "every id is another one");
    let steps: Vec<_> = trace.spans.iter().filter(|span| span.name == "step 1").collect();
    assert_eq!(steps.len(), 2, "each round of what is repeated");
    let fault = trace.spans.iter().find(|s| s.name.starts_with("partition of ")).expect("a fault");
    assert_eq!(fault.parent, Some(steps[0].id));
    assert_eq!(fault.from.saturating_sub(run.from), Duration::from_millis(820));
    let parts = trace.spans.iter().filter(|span| span.parent == Some(fault.id));
    let parts: Vec<_> = parts.map(|span| span.name.as_str()).collect();
    assert_eq!(parts, ["prepared", "commit", "effect", "revert"]);
    let outage = named(&trace, "outage of lost");
    let told = &report.probes[1].outages[0];
    let lasted = outage.to.saturating_sub(outage.from).as_secs_f64() * 1e3;
    assert!((lasted - (told.ended_ms - told.began_ms)).abs() < 0.01, "{lasted}");
}

/// A collector of the test's own: takes one request, and answers so. Returns its head and body.
async fn collector(answer: &'static str) -> (Collector, tokio::task::JoinHandle<(String, Value)>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let taken = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.expect("somebody");
        let (mut bytes, mut buffer) = (Vec::new(), [0; 4096]);
        loop {
            let read = stream.read(&mut buffer).await.expect("a request");
            bytes.extend_from_slice(&buffer[..read]);
            let text = String::from_utf8_lossy(&bytes);
            let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
            if let Ok(body) = serde_json::from_str(body) {
                stream.write_all(answer.as_bytes()).await.expect("it listens");
                return (head.to_owned(), body);
            }
            assert!(read > 0, "a whole document: {text}");
        }
    });
    (format!("http://127.0.0.1:{port}/otel/").parse().expect("a collector"), taken)
}

#[tokio::test]
async fn a_collector_gets_the_trace_as_otlp_has_it() {
    let trace = Trace::of(&report());
    let (to, taken) = collector("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}").await;
    to.send(&trace).await.expect("taken");
    let (head, body) = taken.await.expect("taken");
    assert!(head.starts_with("POST /otel/v1/traces HTTP/1.1\r\n"), "{head}");
    assert!(head.to_lowercase().contains("content-type: application/json"), "{head}");
    let resource = &body["resourceSpans"][0];
    let service = &resource["resource"]["attributes"][0];
    assert_eq!(service["value"]["stringValue"], "faultline");
    let spans = resource["scopeSpans"][0]["spans"].as_array().expect("spans");
    assert_eq!(spans.len(), trace.spans.len());
    let is_hex = |value: &Value, digits: usize| {
        let text = value.as_str().unwrap_or_default();
        text.len() == digits
            && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
            && text.bytes().any(|b| b != b'0')
    };
    for span in spans {
        assert!(is_hex(&span["traceId"], 32) && is_hex(&span["spanId"], 16), "{span}");
        assert!(span["parentSpanId"].is_null() || is_hex(&span["parentSpanId"], 16), "{span}");
        let nanos = |key: &str| span[key].as_str().and_then(|text| text.parse::<u64>().ok());
        let (from, to) = (nanos("startTimeUnixNano"), nanos("endTimeUnixNano"));
        assert!(from.is_some_and(|from| from > 1_700_000_000_000_000_000) && from <= to, "{span}");
        assert!((1..=5).contains(&span["kind"].as_u64().unwrap_or(0)));
    }
    assert_eq!(spans[0]["status"]["code"], 1, "held");
    assert_eq!(spans[0]["traceId"], trace_id(&report().run_id));
}

#[tokio::test]
async fn what_a_collector_does_not_take_is_told() {
    let trace = Trace::of(&report());
    let (to, _) = collector(
        "HTTP/1.1 200 OK\r\ncontent-length: 67\r\n\r\n{\"partialSuccess\":{\"rejectedSpans\":\"3\",\"errorMessage\":\"too old\"}}  ",
    )
    .await;
    let why = to.send(&trace).await.expect_err("some are rejected");
    assert!(why.ends_with("/otel/v1/traces rejected 3 spans: too old"), "{why}");
    let (to, _) = collector("HTTP/1.1 400 Bad Request\r\ncontent-length: 5\r\n\r\nwhat?").await;
    let why = to.send(&trace).await.expect_err("refused");
    assert!(why.contains("answered 400 Bad Request: what?"), "{why}");
}
