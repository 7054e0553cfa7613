//! `http`: a request, and the answer that counts as a success.

use http::{HeaderName, HeaderValue};

use super::{
    Pattern, Payload, Statuses, Tls, Url,
    address::{Wrong, checked, wrong},
    payload, socket, status, tls,
};
use crate::{
    limits::{PROBE_HEADER_BYTES_MAX, PROBE_HEADERS_MAX, PROBE_TEXT_BYTES_MAX},
    yaml::{self, Fields, Node, Problems, Spanned, Value, quote},
};

/// A request, and the answer that counts as a success. Redirects are answers, and not followed.
#[derive(Debug, Clone, PartialEq)]
pub struct Http {
    /// Where it goes.
    pub url: Url,
    /// What is asked.
    pub method: Method,
    /// What is said with it, in the order written.
    pub headers: Vec<(String, String)>,
    /// What is sent with it.
    pub body: Option<Payload>,
    /// Which statuses are a success.
    pub status: Statuses,
    /// What the body must contain.
    pub matches: Option<Pattern>,
    /// What the body must be as JSON.
    pub json: Option<JsonCheck>,
    /// How an https server is made sure of.
    pub tls: Option<Tls>,
}

/// A method of HTTP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Method {
    /// `GET`
    #[default]
    Get,
    /// `HEAD`
    Head,
    /// `POST`
    Post,
    /// `PUT`
    Put,
    /// `PATCH`
    Patch,
    /// `DELETE`
    Delete,
    /// `OPTIONS`
    Options,
}

const METHODS: [(&str, Method); 7] = [
    ("GET", Method::Get),
    ("HEAD", Method::Head),
    ("POST", Method::Post),
    ("PUT", Method::Put),
    ("PATCH", Method::Patch),
    ("DELETE", Method::Delete),
    ("OPTIONS", Method::Options),
];

impl Method {
    /// Its name, in capitals.
    pub fn name(self) -> &'static str {
        METHODS.iter().find(|(_, method)| *method == self).map_or("GET", |(name, _)| name)
    }

    /// The method of this name.
    pub fn from_name(name: &str) -> Option<Self> {
        METHODS.iter().find(|(known, _)| *known == name).map(|(_, method)| *method)
    }
}

/// A place in a JSON document, and what must be there.
#[derive(Debug, Clone, PartialEq)]
pub struct JsonCheck {
    /// Where, as RFC 6901 has it: `/items/0/name`; empty: the document itself.
    pub pointer: String,
    /// What must be there; anything if `None`.
    pub equals: Option<serde_json::Value>,
}

impl JsonCheck {
    /// Checks a pointer.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn check_pointer(pointer: &str) -> Result<(), Wrong> {
        let shape = "expected a JSON pointer: /status, or /items/0/name";
        let escapes = pointer.split('~').skip(1).all(|rest| rest.starts_with(['0', '1']));
        if pointer.len() > PROBE_TEXT_BYTES_MAX {
            return Err(wrong("this pointer is too long", shape));
        }
        if !pointer.is_empty() && !pointer.starts_with('/') {
            let help = pointer.trim_start_matches(['$', '.']).replace('.', "/");
            return Err(wrong(format!("{} is not a JSON pointer", quote(pointer)), shape)
                .help(format!("write `/{help}`")));
        }
        if !escapes {
            return Err(wrong("behind `~` a JSON pointer has 0 (for `~`) or 1 (for `/`)", shape));
        }
        Ok(())
    }
}

pub(super) fn decode(node: &Node, problems: &mut Problems) -> Option<Http> {
    let mut fields = Fields::open(node, "http", problems)?;
    let url = fields.required("url", problems, checked(Url::parse));
    let method = fields.optional("method", problems, yaml::one_of(&METHODS));
    let headers = fields.optional("headers", problems, decode_headers);
    let body = fields.optional("body", problems, payload::decode);
    let status = fields.optional("status", problems, status::decode);
    let matches = fields.optional("match", problems, checked(Pattern::parse));
    let json = fields.optional("json", problems, decode_json);
    let tls = fields.optional("tls", problems, |node, problems| {
        let tls = tls::decode(node, problems)?;
        Some(Spanned { value: tls, span: node.key.unwrap_or(node.span) })
    });
    if method == Some(Method::Head)
        && let Some(span) = fields.key_span("match").or_else(|| fields.key_span("json"))
    {
        problems.add(span, "the answer to a HEAD has no body").expected("expected another method");
    }
    fields.finish_with(problems, |key| match key {
        "expect" => Some("what the body must say is `match` or `json`".into()),
        "followRedirects" | "redirects" => {
            Some("redirects are not followed: they are answers, with a status such as 3xx".into())
        }
        "path" | "host" | "port" | "address" => Some(format!("`{key}` is part of the `url`")),
        other => socket::hint(other),
    });
    let url = url?;
    let tls = only_secure(tls, &url, problems);
    Some(Http {
        url,
        method: method.unwrap_or_default(),
        headers: headers.unwrap_or_default(),
        body,
        status: status.unwrap_or_default(),
        matches,
        json,
        tls,
    })
}

/// Reports `tls` beside a URL that is not https.
pub(super) fn only_secure(
    tls: Option<Spanned<Tls>>,
    url: &Url,
    problems: &mut Problems,
) -> Option<Tls> {
    let tls = tls?;
    if !url.is_secure() {
        let rest = url.to_string().replacen("http://", "https://", 1);
        problems
            .add(tls.span, "`tls` means nothing beside a URL that is not https")
            .expected("expected it left out")
            .help(format!("or write {}", quote(&rest)));
    }
    Some(tls.value)
}

fn decode_headers(node: &Node, problems: &mut Problems) -> Option<Vec<(String, String)>> {
    let Value::Mapping(entries) = &node.value else {
        // Says that it is none.
        Fields::open(node, "headers", problems)?;
        return None;
    };
    if entries.len() > PROBE_HEADERS_MAX {
        let limit = format!("expected up to {PROBE_HEADERS_MAX}");
        problems.add(node.span, format!("{} headers", entries.len())).expected(limit);
        return None;
    }
    let mut headers = Vec::new();
    for (key, value) in entries {
        let Some(name) = key.as_text() else { continue };
        if let Err(wrong) = check_header_name(name) {
            problems.add(key.span, wrong.message).expected(wrong.expected).help = wrong.help;
        }
        let text = checked(|text| check_header_value(text).map(|()| text.to_owned()));
        headers.extend(text(value, problems).map(|text| (name.to_owned(), text)));
    }
    Some(headers)
}

/// Checks the name of a header.
///
/// # Errors
/// What is wrong with it.
pub(super) fn check_header_name(name: &str) -> Result<(), Wrong> {
    if HeaderName::from_bytes(name.as_bytes()).is_err() {
        let expected = "expected letters, digits and `-`";
        return Err(wrong(format!("{} is not the name of a header", quote(name)), expected));
    }
    let own = ["connection", "content-length", "transfer-encoding", "upgrade", "te"];
    if own.iter().any(|own| own.eq_ignore_ascii_case(name)) {
        let message = format!("{} is said by the probe itself", quote(name));
        return Err(wrong(message, "expected it left out"));
    }
    Ok(())
}

/// Checks the value of a header.
///
/// # Errors
/// What is wrong with it.
pub(super) fn check_header_value(value: &str) -> Result<(), Wrong> {
    if value.len() > PROBE_HEADER_BYTES_MAX || HeaderValue::from_str(value).is_err() {
        let limit = format!("expected up to {PROBE_HEADER_BYTES_MAX} visible characters");
        return Err(wrong(format!("{} is not the value of a header", quote(value)), limit));
    }
    Ok(())
}

fn decode_json(node: &Node, problems: &mut Problems) -> Option<JsonCheck> {
    let mut fields = Fields::open(node, "json", problems)?;
    let pointer = fields.required("pointer", problems, |node, problems| {
        // The empty pointer is the document itself.
        if matches!(&node.value, Value::Scalar { text, plain: false } if text.is_empty()) {
            return Some(String::new());
        }
        checked(|text| JsonCheck::check_pointer(text).map(|()| text.to_owned()))(node, problems)
    });
    let equals = fields.optional("equals", problems, decode_scalar);
    fields.finish_with(problems, |key| match key {
        "path" => Some("where it is, is a `pointer`: /items/0/name".into()),
        "value" => Some("what must be there is `equals`".into()),
        _ => None,
    });
    Some(JsonCheck { pointer: pointer?, equals })
}

/// A JSON value from a scalar: quoted, it is a text; plain, a number, `true`, `false` or nothing.
fn decode_scalar(node: &Node, problems: &mut Problems) -> Option<serde_json::Value> {
    match &node.value {
        Value::Scalar { .. } if node.is_null() => Some(serde_json::Value::Null),
        Value::Scalar { text, plain: true } => {
            Some(serde_json::from_str(text).unwrap_or_else(|_| text.as_str().into()))
        }
        Value::Scalar { text, .. } => Some(text.as_str().into()),
        _ => {
            problems
                .add(node.span, format!("found {}", node.describe()))
                .expected("expected a text, a number, true, false or null");
            None
        }
    }
}
