//! `http` and `prometheus`.

use faultline_probe::FailureKind;
use tokio::{io::AsyncWriteExt as _, sync::mpsc};

use crate::support::{attempt, failure, nobody, read_head, says, serve};

fn answer(status: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

#[tokio::test]
async fn statuses_are_compared() {
    let server = says(answer("503 Service Unavailable", "")).await;
    let url = format!("url: http://{server}/");
    let failure_of = failure("http", &url).await;
    assert_eq!(failure_of, (FailureKind::Status, "status 503".into()));
    for status in ["503", "5xx", "500-599", "[200, 503]"] {
        assert_eq!(attempt("http", &format!("{url}\nstatus: {status}")).await, Ok(None));
    }
    let redirect = says(answer("302 Found", "")).await;
    let redirect = format!("url: http://{redirect}/\nstatus: 3xx");
    assert_eq!(attempt("http", &redirect).await, Ok(None), "not followed");
    let refused = format!("url: http://{}/", nobody().await);
    assert_eq!(failure("http", &refused).await.0, FailureKind::Refused);
}

#[tokio::test]
async fn the_request_is_what_was_written() {
    let (head, mut heads) = mpsc::unbounded_channel();
    let server = serve(move |mut stream| {
        let head = head.clone();
        async move {
            let read = read_head(&mut stream).await;
            drop(stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await);
            drop(head.send(read));
        }
    })
    .await;
    let yaml = format!(
        "url: http://{server}/a?b=c\nmethod: POST\nbody: hello\nheaders: {{ X-Who: me, host: api.shop }}"
    );
    assert_eq!(attempt("http", &yaml).await, Ok(None));
    let head = heads.recv().await.expect("a request").to_lowercase();
    assert!(head.starts_with("post /a?b=c http/1.1\r\n"), "{head}");
    for header in ["x-who: me", "host: api.shop", "content-length: 5", "connection: close"] {
        assert_eq!(head.matches(&format!("\r\n{header}\r\n")).count(), 1, "{header} in {head}");
    }
    assert_eq!(head.matches("host:").count(), 1, "{head}");
}

#[tokio::test]
async fn bodies_are_compared_and_have_values() {
    let body = r#"{ "orders": { "count": 17, "state": "ok", "none": null } }"#;
    let server = says(answer("200 OK", body)).await;
    let asks = |rest: &str| format!("url: http://{server}/\n{rest}");
    for (rest, value) in [
        ("match: orders", None),
        (r"match: '/count.: (\d+)/'", Some("17")),
        ("json: { pointer: /orders/count, equals: 17.0 }", Some("17")),
        ("json: { pointer: /orders/state, equals: ok }", Some("ok")),
        ("json: { pointer: /orders/state, equals: 'ok' }", Some("ok")),
        ("json: { pointer: /orders/none, equals: null }", Some("null")),
        ("json: { pointer: /orders/count }\nmatch: orders", Some("17")),
    ] {
        let found = attempt("http", &asks(rest)).await;
        assert_eq!(found, Ok(value.map(str::to_owned)), "{rest}");
    }
    for (rest, text) in [
        ("match: customers", "does not contain `customers`"),
        ("json: { pointer: /orders/count, equals: 18 }", "`/orders/count` is `17`"),
        ("json: { pointer: /orders/count, equals: '17' }", "`/orders/count` is `17`"),
        ("json: { pointer: /orders/gone }", "nothing is at `/orders/gone`"),
    ] {
        let (kind, said) = failure("http", &asks(rest)).await;
        assert!(kind == FailureKind::Mismatch && said.contains(text), "{rest}: {kind} {said}");
    }
    let text = says(answer("200 OK", "no json")).await;
    let asks = format!("url: http://{text}/\njson: {{ pointer: /a }}");
    assert_eq!(failure("http", &asks).await.0, FailureKind::Protocol);
}

#[tokio::test]
async fn what_is_no_answer_is_told_as_what_it_is() {
    for (answer, kind) in [
        ("hello\r\n\r\n".into(), FailureKind::Protocol),
        (String::new(), FailureKind::Reset),
        ("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhel".into(), FailureKind::Reset),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n".into(),
            FailureKind::Protocol,
        ),
        (format!("HTTP/1.1 200 OK\r\n{}\r\n", "a: b\r\n".repeat(1000)), FailureKind::Protocol),
        (format!("HTTP/1.1 200 OK\r\na: {}\r\n\r\n", "b".repeat(1 << 20)), FailureKind::Protocol),
    ] {
        let server = says(answer.clone()).await;
        let (found, text) = failure("http", &format!("url: http://{server}/")).await;
        assert_eq!(found, kind, "{text} for {answer:.60}");
    }
}

#[tokio::test]
async fn a_body_without_end_is_not_read_to_its_end() {
    let flood = serve(|mut stream| async move {
        read_head(&mut stream).await;
        drop(stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await);
        while stream.write_all(&[b'x'; 1 << 12]).await.is_ok() {}
    })
    .await;
    let url = format!("url: http://{flood}/");
    assert_eq!(attempt("http", &url).await, Ok(None));
    let (kind, text) = failure("http", &format!("{url}\nmatch: hello")).await;
    assert_eq!((kind, text.as_str()), (FailureKind::Protocol, "the answer is longer than 1MiB"));
}

#[tokio::test]
async fn a_query_has_one_number_as_its_answer() {
    let vector = |series: &str| {
        let data = format!(r#""data":{{"resultType":"vector","result":[{series}]}}"#);
        answer("200 OK", &format!(r#"{{"status":"success",{data}}}"#))
    };
    let one = r#"{"metric":{"a":"b"},"value":[1700000000.1,"0.04"]}"#;
    let scalar = r#"{"status":"success","data":{"resultType":"scalar","result":[1,"3"]}}"#;
    let matrix = r#"{"status":"success","data":{"resultType":"matrix","result":[]}}"#;
    let wrong = r#"{"status":"error","errorType":"bad_data","error":"parse error"}"#;
    for (answer, expect, found) in [
        (vector(one), "", Ok("0.04")),
        (vector(one), "expect: '< 0.05'", Ok("0.04")),
        (vector(one), "expect: '> 0.05'", Err(FailureKind::Mismatch)),
        (answer("200 OK", scalar), "expect: '== 3'", Ok("3")),
        (vector(""), "", Err(FailureKind::Mismatch)),
        (vector(&format!("{one},{one}")), "", Err(FailureKind::Mismatch)),
        (answer("200 OK", matrix), "", Err(FailureKind::Mismatch)),
        (answer("400 Bad Request", wrong), "", Err(FailureKind::Status)),
        (answer("502 Bad Gateway", "<html>"), "", Err(FailureKind::Status)),
        (answer("200 OK", "<html>"), "", Err(FailureKind::Protocol)),
        (answer("200 OK", "{}"), "", Err(FailureKind::Protocol)),
    ] {
        let server = says(answer.clone()).await;
        let asks = format!("server: http://{server}\nquery: 'rate(errors[1m]) > 0'\n{expect}");
        let outcome = attempt("prometheus", &asks).await;
        let outcome = outcome.map_err(|failure| failure.kind);
        assert_eq!(outcome, found.map(|text| Some(text.to_owned())), "{expect} {answer}");
    }
}
