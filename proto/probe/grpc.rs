//! `grpc`: a server is asked for its health, as grpc.health.v1 has it.

use super::{
    Address, Tls,
    address::{checked, wrong},
    socket, tls,
};
use crate::{
    limits::PROBE_TEXT_BYTES_MAX,
    yaml::{Fields, Node, Problems},
};

/// A server that says of a service that it is serving.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grpc {
    /// Who is asked.
    pub address: Address,
    /// Of which service; empty: of the server as a whole.
    pub service: String,
    /// Over a secure connection.
    pub tls: Option<Tls>,
}

pub(super) fn decode(node: &Node, problems: &mut Problems) -> Option<Grpc> {
    let mut fields = Fields::open(node, "grpc", problems)?;
    let address = fields.required("address", problems, checked(|text| Address::parse(text, None)));
    let service = fields.optional(
        "service",
        problems,
        checked(|text| {
            if text.len() > PROBE_TEXT_BYTES_MAX {
                return Err(wrong("this name is too long", "expected the name of a service"));
            }
            Ok(text.to_owned())
        }),
    );
    let tls = fields.optional("tls", problems, tls::decode);
    fields.finish_with(problems, |key| match key {
        "method" => Some("a grpc probe calls grpc.health.v1.Health/Check".into()),
        "tls" => None,
        other => socket::hint(other),
    });
    Some(Grpc { address: address?, service: service.unwrap_or_default(), tls })
}
