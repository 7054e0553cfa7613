//! Identities: a certificate authority, and the certificates that it signs for controllers and agents.
//!
//! It reads and writes nothing: where an identity is kept is the business of the sandbox and of the installation
//! in a cluster.

mod check;

use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};

pub use check::{Flaw, Validity, check, renewal_due, validity};

/// Clocks differ by seconds; a step back must not end a run.
const VALID_BEFORE_NOW: Duration = Duration::from_mins(5);

/// What a certificate may be used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Usage {
    /// To connect to agents, and for nothing else.
    Client,
    /// To be connected to, and for nothing else.
    Server,
}

/// A certificate and its key, as PEM texts.
#[derive(Clone, PartialEq, Eq)]
pub struct Identity {
    /// The certificate.
    pub cert_pem: String,
    /// Its private key.
    pub key_pem: String,
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Identity { .. }")
    }
}

/// A certificate authority, and its key.
pub struct Authority {
    identity: Identity,
    issuer: Issuer<'static, KeyPair>,
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Authority { .. }")
    }
}

impl Authority {
    /// A new one, of this name.
    ///
    /// # Errors
    /// When no key can be made.
    pub fn new(name: &str, valid_for: Duration) -> Result<Self, rcgen::Error> {
        let key = KeyPair::generate()?;
        let mut params = authority_params(name)?;
        valid_now(&mut params, valid_for);
        let cert_pem = params.self_signed(&key)?.pem();
        let identity = Identity { cert_pem, key_pem: key.serialize_pem() };
        Ok(Self { identity, issuer: Issuer::new(params, key) })
    }

    /// One that [`Authority::new`] made under the same name.
    ///
    /// # Errors
    /// When the key is none.
    pub fn load(name: &str, identity: Identity) -> Result<Self, rcgen::Error> {
        let key = KeyPair::from_pem(&identity.key_pem)?;
        Ok(Self { identity, issuer: Issuer::new(authority_params(name)?, key) })
    }

    /// Its own certificate, as a PEM text.
    pub fn pem(&self) -> &str {
        &self.identity.cert_pem
    }

    /// Its own certificate and key.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// A certificate for one name and one side of the connection.
    ///
    /// # Errors
    /// When no key can be made, or the name is none that a certificate can be valid for.
    pub fn issue(
        &self,
        name: &str,
        usage: Usage,
        valid_for: Duration,
    ) -> Result<Identity, rcgen::Error> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new([name.to_owned()])?;
        valid_now(&mut params, valid_for);
        params.distinguished_name.push(DnType::CommonName, name);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![match usage {
            Usage::Client => ExtendedKeyUsagePurpose::ClientAuth,
            Usage::Server => ExtendedKeyUsagePurpose::ServerAuth,
        }];
        params.use_authority_key_identifier_extension = true;
        let cert_pem = params.signed_by(&key, &self.issuer)?.pem();
        Ok(Identity { cert_pem, key_pem: key.serialize_pem() })
    }
}

fn authority_params(name: &str) -> Result<CertificateParams, rcgen::Error> {
    let mut params = CertificateParams::new(Vec::new())?;
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    Ok(params)
}

fn valid_now(params: &mut CertificateParams, valid_for: Duration) {
    let now = SystemTime::now();
    params.not_before = (now - VALID_BEFORE_NOW).into();
    params.not_after = (now + valid_for).into();
}
