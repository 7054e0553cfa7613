//! One attempt of `prometheus`: a query, and the one number that it has as its answer.

use bytes::Bytes;
use faultline_proto::{
    probe::{Prometheus, value_of},
    yaml::quote,
};
use http_body_util::Full;
use hyper::{Request, StatusCode, header};
use serde::{
    Deserialize,
    de::{DeserializeOwned, IgnoredAny},
};

use crate::{Dialer, Failure, FailureKind, http, tls::Secure};

#[derive(Debug)]
pub(crate) struct PrometheusAttempt {
    spec: Prometheus,
    request: Request<Full<Bytes>>,
    secure: Option<Secure>,
}

/// An answer of the server's HTTP API.
#[derive(Deserialize)]
struct Reply {
    data: Option<Data>,
    error: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Data {
    result_type: String,
    result: serde_json::Value,
}

#[derive(Deserialize)]
struct Series {
    value: Point,
}

/// When, and what: the number is written as a text.
type Point = (IgnoredAny, String);

impl PrometheusAttempt {
    pub(crate) fn new(spec: Prometheus) -> Result<Self, String> {
        let secure = http::secure(&spec.url, spec.tls.as_ref())?;
        let request = Request::post(spec.url.path())
            .header(header::HOST, spec.url.authority())
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
            .header(header::CONNECTION, "close")
            .body(Full::new(Bytes::from(format!("query={}", encoded(&spec.query)))))
            .map_err(|e| e.to_string())?;
        Ok(Self { spec, request, secure })
    }

    pub(crate) async fn run(&self, dialer: &impl Dialer) -> Result<Option<String>, Failure> {
        let request = self.request.clone();
        let answer = http::ask(dialer, &self.spec.url, self.secure.as_ref(), request).await?;
        if answer.is_cut {
            return Err(http::too_long());
        }
        let reply: Result<Reply, _> = serde_json::from_slice(&answer.body);
        let reply = match reply {
            Ok(Reply { error: Some(error), .. }) => {
                return Err(Failure::new(FailureKind::Status, value_of(error.as_bytes())));
            }
            _ if answer.status != StatusCode::OK => return Err(http::of_status(answer.status)),
            Ok(reply) => reply,
            Err(_) => return Err(not_prometheus()),
        };
        let text = number(reply.data.ok_or_else(not_prometheus)?)?;
        let number: f64 = text.parse().map_err(|_not_it| not_prometheus())?;
        match self.spec.expect {
            Some(bound) if !bound.contains(number) => {
                let text = format!("it is {}, and {bound} is asked", quote(&text));
                Err(Failure::new(FailureKind::Mismatch, text))
            }
            _ => Ok(Some(text)),
        }
    }
}

fn number(data: Data) -> Result<String, Failure> {
    let mismatch = |text: String| Err(Failure::new(FailureKind::Mismatch, text));
    match data.result_type.as_str() {
        "scalar" => Ok(read::<Point>(data.result)?.1),
        "vector" => match read::<Vec<Series>>(data.result)?.as_slice() {
            [Series { value: (_, text) }] => Ok(text.clone()),
            [] => mismatch("the query has no result".into()),
            many => mismatch(format!("the query has {} results, and one is needed", many.len())),
        },
        _ => mismatch("the result is neither a scalar nor a vector".into()),
    }
}

fn read<T: DeserializeOwned>(result: serde_json::Value) -> Result<T, Failure> {
    serde_json::from_value(result).map_err(|_not_it| not_prometheus())
}

fn not_prometheus() -> Failure {
    Failure::new(FailureKind::Protocol, "the answer is not one of Prometheus")
}

/// As a form has it: everything but letters, digits and `-._~` in percent signs.
fn encoded(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    let encode = |byte: u8| match byte {
        byte if plain(byte) => char::from(byte).to_string(),
        byte => format!("%{byte:02X}"),
    };
    text.bytes().map(encode).collect()
}
