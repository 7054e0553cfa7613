//! Who this agent is, and the one whom it obeys: mutual TLS, and of all certificates that the
//! installation's authority signed only the controller's.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock},
};

use rustls::{
    RootCertStore, ServerConfig,
    crypto::ring,
    server::{WebPkiClientVerifier, danger::ClientCertVerifier},
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject as _};
use thiserror::Error;
use tonic::{Request, Status};
use webpki::EndEntityCert;

/// The agent's certificates, and the controller's name.
#[derive(Clone)]
pub struct Identity {
    /// The authority, the certificate and the key.
    files: [PathBuf; 3],
    /// What was in them.
    pems: [Vec<u8>; 3],
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
    /// What is in a file is not what should be in it.
    #[error("{path} cannot be used: {problem}")]
    Unusable {
        /// Which.
        path: String,
        /// Why not.
        problem: String,
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
        let controller = ServerName::try_from(controller.to_owned())
            .map_err(|_not_a_name| IdentityError::ControllerName(controller.into()))?;
        let files = [ca, cert, key].map(Path::to_owned);
        let pems = read(&files)?;
        Ok(Self { files, pems, controller })
    }

    /// Reads the files again; `None` if the same is in them.
    pub(super) fn read_again(&self) -> Result<Option<Self>, IdentityError> {
        let pems = read(&self.files)?;
        Ok((pems != self.pems).then(|| Self { pems, ..self.clone() }))
    }

    /// Who looks at every call, by the authorities of now.
    pub(super) fn guard(&self, current: Current) -> Guard {
        Guard { controller: self.controller.clone(), current }
    }

    /// What connections are accepted with: mutual TLS, and HTTP/2 in it.
    ///
    /// # Errors
    /// When what is in the files cannot be used, or does not belong together.
    pub(super) fn accepted(&self) -> Result<Accepted, IdentityError> {
        let [ca_pem, cert_pem, key_pem] = &self.pems;
        let unusable = |file: usize, problem: String| IdentityError::Unusable {
            path: self.files[file].display().to_string(),
            problem,
        };
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(ca_pem) {
            let certificate = certificate.map_err(|e| unusable(0, e.to_string()))?;
            roots.add(certificate).map_err(|e| unusable(0, e.to_string()))?;
        }
        let provider = Arc::new(ring::default_provider());
        let verifier =
            WebPkiClientVerifier::builder_with_provider(roots.into(), Arc::clone(&provider));
        let verifier = verifier.build().map_err(|e| unusable(0, e.to_string()))?;
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(cert_pem).collect();
        let chain = chain.map_err(|e| unusable(1, e.to_string()))?;
        let key = PrivateKeyDer::from_pem_slice(key_pem).map_err(|e| unusable(2, e.to_string()))?;
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|e| unusable(1, e.to_string()))?
            .with_client_cert_verifier(Arc::clone(&verifier))
            .with_single_cert(chain, key)
            .map_err(|e| unusable(1, e.to_string()))?;
        config.alpn_protocols = vec![b"h2".to_vec()];
        Ok(Accepted { config: Arc::new(config), verifier })
    }
}

/// What connections and calls are accepted with.
#[derive(Debug)]
pub(super) struct Accepted {
    pub(super) config: Arc<ServerConfig>,
    verifier: Arc<dyn ClientCertVerifier>,
}

/// The same, as it is now.
pub(super) type Current = Arc<RwLock<Accepted>>;

fn read(files: &[PathBuf; 3]) -> Result<[Vec<u8>; 3], IdentityError> {
    let read = |path: &PathBuf| {
        let object = path.display().to_string();
        fs::read(path).map_err(|source| IdentityError::Read { path: object, source })
    };
    let [ca, cert, key] = files;
    Ok([read(ca)?, read(cert)?, read(key)?])
}

/// Looks at the certificate of whoever calls, at every call: the TLS layer has checked it when the connection was made,
/// and a connection may outlive the authority that was trusted then, or the certificate itself.
#[derive(Debug, Clone)]
pub(super) struct Guard {
    controller: ServerName<'static>,
    current: Current,
}

impl Guard {
    pub(super) fn admit(&self, request: Request<()>) -> Result<Request<()>, Status> {
        let certificates = request.peer_certs();
        let leaf = certificates.as_ref().and_then(|chain| chain.split_first());
        if let Some((leaf, others)) = leaf
            && self.is_controller(leaf)
        {
            if self.is_trusted(leaf, others) {
                return Ok(request);
            }
            tracing::warn!(peer = ?request.remote_addr(), "refused: its certificate is trusted no more");
            return Err(Status::unauthenticated(
                "this certificate is trusted no more: connect again with the one of now",
            ));
        }
        tracing::warn!(peer = ?request.remote_addr(), "refused: not the controller");
        Err(Status::permission_denied("this agent obeys only its controller's certificate"))
    }

    /// Whether an authority of now has signed it, and it is valid now.
    fn is_trusted(&self, leaf: &CertificateDer<'_>, others: &[CertificateDer<'_>]) -> bool {
        let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
        current.verifier.verify_client_cert(leaf, others, UnixTime::now()).is_ok()
    }

    fn is_controller(&self, certificate: &CertificateDer<'_>) -> bool {
        EndEntityCert::try_from(certificate)
            .and_then(|cert| cert.verify_is_valid_for_subject_name(&self.controller))
            .is_ok()
    }
}
