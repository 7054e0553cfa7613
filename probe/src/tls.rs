//! Secure connections: whom an attempt believes.

use std::sync::Arc;

use faultline_proto::probe::Tls;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
    client::{
        Resumption,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature},
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject as _};
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::{Failure, FailureKind};

/// Whom is believed, and by which name.
#[derive(Debug, Clone)]
pub(crate) struct Secure {
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
}

impl Secure {
    /// Makes it ready for a host, and a protocol as ALPN names it.
    pub(crate) fn new(tls: &Tls, host: &str, protocol: &[u8]) -> Result<Self, String> {
        let name = tls.server_name.as_deref().unwrap_or(host);
        let name = ServerName::try_from(name.to_owned()).map_err(|_invalid| {
            format!("`{name}` is not a name that a certificate can be valid for")
        })?;
        let provider = Arc::new(ring::default_provider());
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|e| e.to_string())?;
        let mut config = if tls.insecure {
            builder
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(Anybody(provider)))
                .with_no_client_auth()
        } else {
            builder.with_root_certificates(roots(tls.ca_pem.as_deref())?).with_no_client_auth()
        };
        config.alpn_protocols = vec![protocol.to_vec()];
        // Every attempt is one of its own: nothing is left of the one before it.
        config.resumption = Resumption::disabled();
        Ok(Self { config: Arc::new(config), name })
    }

    /// Makes a connection a secure one.
    pub(crate) async fn wrap(&self, stream: TcpStream) -> Result<TlsStream<TcpStream>, Failure> {
        let connector = TlsConnector::from(Arc::clone(&self.config));
        connector.connect(self.name.clone(), stream).await.map_err(|error| {
            let tls = error.get_ref().and_then(|e| e.downcast_ref::<rustls::Error>());
            match tls {
                Some(tls) => Failure::new(FailureKind::Tls, sentence(tls)),
                None => Failure::from(&error),
            }
        })
    }
}

/// Why no secure connection came about, and what to do about it.
fn sentence(error: &rustls::Error) -> String {
    let rustls::Error::InvalidCertificate(why) = error else { return error.to_string() };
    match why {
        CertificateError::NotValidForNameContext { expected, presented } => {
            let name = expected.to_str();
            let names: Vec<String> = presented.iter().map(|name| plain(name)).collect();
            let names = if names.is_empty() { "no name".into() } else { names.join(", ") };
            format!(
                "the certificate of the server is not valid for `{name}`, but for {names}: \
                 say which name it has with `tls.serverName`"
            )
        }
        CertificateError::UnknownIssuer => {
            "the certificate of the server is signed by nobody who is believed: \
             put the certificate of its authority into `tls.ca`"
                .into()
        }
        CertificateError::BadSignature => {
            "the certificate of the server is signed with another key than that of the authority of this \
             name in `tls.ca`: put the right one there"
                .into()
        }
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            "the certificate of the server has expired: renew it, or compare the clocks".into()
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "the certificate of the server is not valid yet: compare the clocks".into()
        }
        CertificateError::Other(other) => match other.0.downcast_ref() {
            Some(webpki::Error::CaUsedAsEndEntity) => {
                "the server shows the certificate of an authority (CA:TRUE) as its own: make one for it \
                 with CA:FALSE, and put it, or who signed it, into `tls.ca`"
                    .into()
            }
            _ => format!("the certificate of the server is not believed ({other})"),
        },
        _ => error.to_string(),
    }
}

/// A name as it was presented: `DnsName("api.shop")` is shown as `api.shop`.
fn plain(presented: &str) -> String {
    let inner = presented.split_once('(').and_then(|(_, rest)| rest.strip_suffix(')'));
    inner.unwrap_or(presented).trim_matches('"').to_owned()
}

fn roots(ca_pem: Option<&str>) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    let Some(pem) = ca_pem else {
        roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
        return Ok(roots);
    };
    for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
        let certificate = certificate.map_err(|e| format!("`ca` cannot be read: {e}"))?;
        roots.add(certificate).map_err(|e| format!("`ca` cannot be believed: {e}"))?;
    }
    Ok(roots)
}

/// Believes anybody who has the key of the certificate that is shown.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
