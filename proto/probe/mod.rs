//! What a probe tries: one file per kind, with its bounds and its YAML form.
//!
//! A [`Spec`] says what is sent to whom and which answer counts as a success. Neither how often it is
//! tried nor how the outcome is judged is said here, and nothing here touches a network.

mod address;
mod bound;
mod dns;
mod exec;
mod grpc;
mod http;
mod pattern;
mod payload;
mod prometheus;
mod socket;
mod status;
mod tls;
mod url;
mod wire;

pub use address::{Address, check_host};
pub use bound::Bound;
pub use dns::{Dns, RecordType};
pub use exec::{Exec, decode_command};
pub use grpc::Grpc;
pub use http::{Http, JsonCheck, Method};
pub use pattern::{Found, Pattern, value_of};
pub use payload::Payload;
pub use prometheus::Prometheus;
pub use socket::{Tcp, Udp};
pub use status::Statuses;
pub use tls::Tls;
pub use url::Url;

use crate::yaml::{Node, Problems};

/// What one attempt of a probe is, for every kind that needs nothing but a network.
#[derive(Debug, Clone, PartialEq)]
pub enum Spec {
    /// A name is looked up.
    Dns(Dns),
    /// A server is asked for its health, by gRPC's own protocol for that.
    Grpc(Grpc),
    /// A request.
    Http(Http),
    /// A query that a Prometheus server answers.
    Prometheus(Prometheus),
    /// A connection.
    Tcp(Tcp),
    /// A datagram, and one in answer.
    Udp(Udp),
}

/// The kinds that a [`Spec`] can be, by name.
pub const KINDS: [&str; 6] = ["dns", "grpc", "http", "prometheus", "tcp", "udp"];

impl Spec {
    /// Decodes what is written for a kind of [`KINDS`].
    pub fn decode(kind: &str, node: &Node, problems: &mut Problems) -> Option<Self> {
        match kind {
            "dns" => dns::decode(node, problems).map(Self::Dns),
            "grpc" => grpc::decode(node, problems).map(Self::Grpc),
            "http" => http::decode(node, problems).map(Self::Http),
            "prometheus" => prometheus::decode(node, problems).map(Self::Prometheus),
            "tcp" => socket::decode_tcp(node, problems).map(Self::Tcp),
            "udp" => socket::decode_udp(node, problems).map(Self::Udp),
            _ => None,
        }
    }

    /// The name of its kind.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Dns(_) => "dns",
            Self::Grpc(_) => "grpc",
            Self::Http(_) => "http",
            Self::Prometheus(_) => "prometheus",
            Self::Tcp(_) => "tcp",
            Self::Udp(_) => "udp",
        }
    }
}

/// In which kinds a field belongs that was written somewhere else; empty: in none.
pub fn kinds_with(field: &str) -> &'static [&'static str] {
    match field {
        "url" | "method" | "headers" | "body" | "status" | "match" | "json" => &["http"],
        "address" => &["tcp", "udp", "grpc"],
        "send" => &["tcp", "udp"],
        "tls" => &["http", "grpc"],
        "service" => &["grpc"],
        "query" => &["prometheus"],
        "server" => &["dns", "prometheus"],
        "command" => &["exec"],
        "target" => &["exec", "pods"],
        "ready" | "conditions" => &["pods", "kubernetes"],
        "restarts" | "count" => &["pods"],
        "object" | "desired" => &["kubernetes"],
        "expect" => &["exec", "tcp", "udp", "dns", "prometheus"],
        _ => &[],
    }
}
