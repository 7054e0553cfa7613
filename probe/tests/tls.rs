//! Secure connections.

use std::{net::SocketAddr, sync::Arc};

use faultline_probe::FailureKind;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, date_time_ymd};
use rustls::{ServerConfig, crypto::ring};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_rustls::TlsAcceptor;

use crate::support::{attempt, failure, serve};

/// A server with a certificate for `api.shop`, and the authority that signed it.
async fn server() -> (SocketAddr, String) {
    signed(|_| ()).await
}

/// As [`server`], with a certificate that is made otherwise.
async fn signed(change: impl FnOnce(&mut CertificateParams)) -> (SocketAddr, String) {
    let ca_key = KeyPair::generate().expect("a key");
    let mut ca = CertificateParams::new(Vec::new()).expect("valid");
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca_pem = ca.self_signed(&ca_key).expect("signed").pem();
    let issuer = Issuer::new(ca, ca_key);
    let key = KeyPair::generate().expect("a key");
    let mut own = CertificateParams::new(vec!["api.shop".to_owned()]).expect("valid");
    change(&mut own);
    let own = own.signed_by(&key, &issuer).expect("signed");
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(
            vec![own.der().clone()],
            rustls_pki_types::PrivateKeyDer::Pkcs8(key.serialize_der().into()),
        )
        .expect("a certificate");
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let address = serve(move |stream| {
        let acceptor = acceptor.clone();
        async move {
            let Ok(mut stream) = acceptor.accept(stream).await else { return };
            let mut head = [0; 4096];
            drop(stream.read(&mut head).await);
            drop(stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await);
            drop(stream.shutdown().await);
        }
    })
    .await;
    (address, ca_pem)
}

fn indented(pem: &str) -> String {
    pem.lines().map(|line| ["    ", line, "\n"].concat()).collect()
}

#[tokio::test]
async fn only_who_is_believed_is_spoken_to() {
    let (server, ca) = server().await;
    let (_, stranger) = self::server().await;
    let url = format!("url: https://{server}/\ntls:\n");
    let with =
        |ca: &str, name: &str| format!("{url}  serverName: {name}\n  ca: |\n{}", indented(ca));
    assert_eq!(attempt("http", &with(&ca, "api.shop")).await, Ok(None));
    assert_eq!(attempt("http", &format!("{url}  insecure: true")).await, Ok(None));
    for refused in
        [with(&ca, "db.shop"), with(&stranger, "api.shop"), format!("{url}  serverName: api.shop")]
    {
        assert_eq!(failure("http", &refused).await.0, FailureKind::Tls, "{refused}");
    }
}

#[tokio::test]
async fn why_a_certificate_is_not_believed_is_said_with_what_to_do() {
    let at = |server: SocketAddr, ca: &str, name: &str| {
        let ca = indented(ca);
        format!("url: https://{server}/\ntls:\n  serverName: {name}\n  ca: |\n{ca}")
    };
    let (server, ca) = server().await;
    let (_, stranger) = self::server().await;
    let unconstrained = IsCa::Ca(BasicConstraints::Unconstrained);
    let (authority, its_ca) = signed(|own| own.is_ca = unconstrained).await;
    let (old, old_ca) = signed(|own| own.not_after = date_time_ymd(2001, 1, 1)).await;
    for (asked, said) in [
        (at(server, &ca, "db.shop"), "not valid for `db.shop`, but for api.shop: say which name"),
        (at(server, &stranger, "api.shop"), "signed with another key than that of the authority"),
        (format!("url: https://{server}/"), "signed by nobody who is believed: put"),
        (at(authority, &its_ca, "api.shop"), "of an authority (CA:TRUE) as its own: make one"),
        (at(old, &old_ca, "api.shop"), "has expired: renew it"),
    ] {
        let (kind, text) = failure("http", &asked).await;
        assert_eq!(kind, FailureKind::Tls);
        assert!(text.contains(said), "{text}");
    }
}

#[tokio::test]
async fn a_server_without_tls_is_no_secure_one() {
    let plain = serve(|mut stream| async move {
        drop(stream.write_all(b"220 ready\r\n").await);
        drop(tokio::io::copy(&mut stream, &mut tokio::io::sink()).await);
    })
    .await;
    let https = format!("url: https://{plain}/");
    assert_eq!(failure("http", &https).await.0, FailureKind::Tls);
}
