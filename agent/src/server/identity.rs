//! Who this agent is, and the one whom it obeys: mutual TLS, and of all certificates that the
//! installation's authority signed only the controller's.

use std::{fs, path::Path};

use rustls_pki_types::{CertificateDer, ServerName};
use thiserror::Error;
use tonic::{
    Request, Status,
    transport::{Certificate, ServerTlsConfig},
};
use webpki::EndEntityCert;

/// The agent's certificates, and the controller's name.
#[derive(Clone)]
pub struct Identity {
    ca_pem: Vec<u8>,
    cert_pem: Vec<u8>,
    key_pem: Vec<u8>,
    controller: ServerName<'static>,
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Identity").field("controller", &self.controller).finish_non_exhaustive()
    }
}

/// The certificates cannot be used.
#[derive(Debug, Error)]
pub enum IdentityError {
    /// A file cannot be read.
    #[error("cannot read {path}")]
    Read {
        /// Which.
        path: String,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// The controller's name is none.
    #[error("`{0}` is not a name that a certificate can be valid for")]
    ControllerName(String),
}

impl Identity {
    /// Reads the certificates. They are checked when the server starts.
    ///
    /// # Errors
    /// When a file cannot be read or the controller's name is not a DNS name.
    pub fn read(
        ca: &Path,
        cert: &Path,
        key: &Path,
        controller: &str,
    ) -> Result<Self, IdentityError> {
        let read = |path: &Path| {
            let object = path.display().to_string();
            fs::read(path).map_err(|source| IdentityError::Read { path: object, source })
        };
        let name = ServerName::try_from(controller.to_owned())
            .map_err(|_not_a_name| IdentityError::ControllerName(controller.into()))?;
        Ok(Self { ca_pem: read(ca)?, cert_pem: read(cert)?, key_pem: read(key)?, controller: name })
    }

    pub(super) fn guard(&self) -> Guard {
        Guard { controller: self.controller.clone() }
    }

    pub(super) fn into_tls(self) -> ServerTlsConfig {
        ServerTlsConfig::new()
            .identity(tonic::transport::Identity::from_pem(self.cert_pem, self.key_pem))
            .client_ca_root(Certificate::from_pem(self.ca_pem))
    }
}

/// Looks at the certificate of whoever calls. That it was signed by the authority and is a client's
/// has been checked by the TLS layer before.
#[derive(Debug, Clone)]
pub(super) struct Guard {
    controller: ServerName<'static>,
}

impl Guard {
    pub(super) fn admit(&self, request: Request<()>) -> Result<Request<()>, Status> {
        let certificates = request.peer_certs();
        let leaf = certificates.as_ref().and_then(|chain| chain.first());
        if leaf.is_some_and(|leaf| self.is_controller(leaf)) {
            return Ok(request);
        }
        tracing::warn!(peer = ?request.remote_addr(), "refused: not the controller");
        Err(Status::permission_denied("this agent obeys only its controller's certificate"))
    }

    fn is_controller(&self, certificate: &CertificateDer<'_>) -> bool {
        EndEntityCert::try_from(certificate)
            .and_then(|cert| cert.verify_is_valid_for_subject_name(&self.controller))
            .is_ok()
    }
}
