//! `tcp` and `udp`: a connection or a datagram, and what comes back.

use super::{Address, Pattern, Payload, address::checked, payload};
use crate::yaml::{Fields, Node, Problems};

/// A connection that is accepted; with `expect`, also what comes on it.
#[derive(Debug, Clone, PartialEq)]
pub struct Tcp {
    /// To whom.
    pub address: Address,
    /// What is sent once it is accepted; only with `expect`.
    pub send: Option<Payload>,
    /// What must have come back; read until it has.
    pub expect: Option<Pattern>,
}

/// A datagram, and one in answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Udp {
    /// To whom.
    pub address: Address,
    /// What is sent.
    pub send: Payload,
    /// What the first answer must contain; any answer does if `None`.
    pub expect: Option<Pattern>,
}

pub(super) fn decode_tcp(node: &Node, problems: &mut Problems) -> Option<Tcp> {
    let mut fields = Fields::open(node, "tcp", problems)?;
    let address = fields.required("address", problems, checked(|text| Address::parse(text, None)));
    let send = fields.optional("send", problems, payload::decode);
    let expect = fields.optional("expect", problems, checked(Pattern::parse));
    if let (Some(span), None) = (fields.key_span("send"), fields.key_span("expect")) {
        problems
            .add(span, "that something was sent says nothing of whether it arrived")
            .expected("expected `expect` beside it: what must come back");
    }
    fields.finish_with(problems, hint);
    Some(Tcp { address: address?, send, expect })
}

pub(super) fn decode_udp(node: &Node, problems: &mut Problems) -> Option<Udp> {
    let mut fields = Fields::open(node, "udp", problems)?;
    let address = fields.required("address", problems, checked(|text| Address::parse(text, None)));
    let send = fields.required("send", problems, payload::decode);
    let expect = fields.optional("expect", problems, checked(Pattern::parse));
    fields.finish_with(problems, hint);
    Some(Udp { address: address?, send: send?, expect })
}

/// Where a field belongs that is none of a socket's.
pub(super) fn hint(key: &str) -> Option<String> {
    match key {
        "host" | "port" => Some("write `address: HOST:PORT`".into()),
        "url" | "path" => Some("what is asked for by a URL is an `http` probe".into()),
        "tls" => Some("with `tls` there are `http` and `grpc` probes".into()),
        "every" | "timeout" | "steady" | "during" | "recovery" => {
            Some(format!("`{key}` belongs beside the kind of the probe, not in it"))
        }
        _ => None,
    }
}
