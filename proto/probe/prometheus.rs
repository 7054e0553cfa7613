//! `prometheus`: a query that has one number as its answer.

use super::{
    Bound, Tls, Url,
    address::{checked, wrong},
    socket, tls,
};
use crate::{
    limits::PROBE_TEXT_BYTES_MAX,
    yaml::{Fields, Node, Problems, Spanned},
};

/// A query that a Prometheus server answers with one number.
#[derive(Debug, Clone, PartialEq)]
pub struct Prometheus {
    /// The server's instant query, the query itself left out.
    pub url: Url,
    /// What is asked, in the server's own language.
    pub query: String,
    /// The bound of the number; any is as good if `None`.
    pub expect: Option<Bound>,
    /// How an https server is made sure of.
    pub tls: Option<Tls>,
}

pub(super) fn decode(node: &Node, problems: &mut Problems) -> Option<Prometheus> {
    let mut fields = Fields::open(node, "prometheus", problems)?;
    let url = fields.required(
        "server",
        problems,
        checked(|text| {
            let url = Url::parse(text)?;
            if url.path().contains('?') {
                return Err(wrong("a server's URL has no `?`", "expected http://HOST:PORT")
                    .help("what is asked is `query`"));
            }
            url.join("/api/v1/query")
        }),
    );
    let query = fields.required(
        "query",
        problems,
        checked(|text| {
            if text.len() > PROBE_TEXT_BYTES_MAX {
                return Err(wrong(
                    "this query is too long",
                    format!("expected up to {PROBE_TEXT_BYTES_MAX} bytes"),
                ));
            }
            Ok(text.to_owned())
        }),
    );
    let expect = fields.optional("expect", problems, checked(Bound::parse));
    let tls = fields.optional("tls", problems, |node, problems| {
        let tls = tls::decode(node, problems)?;
        Some(Spanned { value: tls, span: node.key.unwrap_or(node.span) })
    });
    fields.finish_with(problems, |key| match key {
        "url" | "address" => Some("the URL of Prometheus is `server`".into()),
        "promql" | "expr" => Some("what is asked is `query`".into()),
        other => socket::hint(other),
    });
    let url = url?;
    let tls = super::http::only_secure(tls, &url, problems);
    Some(Prometheus { url, query: query?, expect, tls })
}
