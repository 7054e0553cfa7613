//! What makes a connection a secure one: whom a probe believes, and by which name.

use rustls_pki_types::{CertificateDer, ServerName, pem::PemObject as _};

use super::address::{Wrong, checked, wrong};
use crate::{
    limits::PROBE_CA_BYTES_MAX,
    yaml::{self, Fields, Node, Problems},
};

/// How the other end is made sure of. By default: as the authorities of the web say.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Tls {
    /// Certificates of authorities as a PEM text; only they are believed.
    pub ca_pem: Option<String>,
    /// Anybody is believed: the connection is tried, not who is at its other end.
    pub insecure: bool,
    /// The name that the certificate must be valid for; `None`: the host's.
    pub server_name: Option<String>,
}

impl Tls {
    /// Checks what was taken from a wire.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn check(&self) -> Result<(), Wrong> {
        if let Some(ca) = &self.ca_pem {
            check_ca(ca)?;
        }
        if let Some(name) = &self.server_name {
            check_name(name)?;
        }
        Ok(())
    }
}

fn check_ca(text: &str) -> Result<(), Wrong> {
    let shape = "expected certificates as PEM: -----BEGIN CERTIFICATE-----";
    if text.len() > PROBE_CA_BYTES_MAX {
        let limit = format!("expected up to {PROBE_CA_BYTES_MAX} bytes");
        return Err(wrong("these are too many certificates", limit));
    }
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(text.as_bytes()).collect();
    match certificates {
        Ok(found) if !found.is_empty() => Ok(()),
        _ => Err(wrong("no certificate is in this text", shape)
            .help("write `ca: |`, and the content of the file below it, indented")),
    }
}

fn check_name(name: &str) -> Result<(), Wrong> {
    match ServerName::try_from(name) {
        Ok(_) => Ok(()),
        Err(_) => Err(wrong(
            format!("`{name}` is not a name that a certificate can be valid for"),
            "expected the name of a host, or an address",
        )),
    }
}

pub(super) fn decode(node: &Node, problems: &mut Problems) -> Option<Tls> {
    let mut fields = Fields::open(node, "tls", problems)?;
    let ca_span = fields.key_span("ca");
    let own = |check: fn(&str) -> Result<(), Wrong>| {
        move |node: &Node, problems: &mut Problems| {
            checked(|text| check(text).map(|()| text.to_owned()))(node, problems)
        }
    };
    let ca_pem = fields.optional("ca", problems, own(check_ca));
    let insecure =
        fields.optional("insecure", problems, yaml::one_of(&[("true", true), ("false", false)]));
    let server_name = fields.optional("serverName", problems, own(check_name));
    fields.finish_with(problems, |key| match key {
        "cert" | "key" | "clientCert" => Some("a probe shows no certificate of its own".into()),
        "skipVerify" | "insecureSkipVerify" => Some("write `insecure: true`".into()),
        _ => None,
    });
    let insecure = insecure.unwrap_or(false);
    if let Some(span) = ca_span.filter(|_| insecure) {
        problems
            .add(span, "`ca` means nothing beside `insecure: true`")
            .expected("expected one of the two");
        return None;
    }
    Some(Tls { ca_pem, insecure, server_name })
}
