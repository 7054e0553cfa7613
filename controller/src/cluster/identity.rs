//! What the controller proves itself with, out of the cluster's Secret.

use k8s_openapi::api::core::v1::Secret;
use kube::Api;

use super::{
    connect::Connection,
    error::{Asked, ClusterError},
    names::{CA_FILE, CERT_FILE, CONTROLLER_SECRET, KEY_FILE, OPT_IN_ANNOTATION},
};
use crate::place::Credentials;

/// Reads the controller's identity, and whether it may be used on those alone who are enabled.
///
/// # Errors
/// When this user may not read the Secret, or it is not there, or it is not what `install` made.
pub(super) async fn read(
    connection: &Connection,
    namespace: &str,
) -> Result<(Credentials, bool), ClusterError> {
    let secrets: Api<Secret> = Api::namespaced(connection.client(), namespace);
    let asked = Asked::new("get", "secrets").within(namespace).named(CONTROLLER_SECRET);
    let wrong = |what: String| ClusterError::Identity {
        namespace: namespace.into(),
        secret: CONTROLLER_SECRET,
        what,
    };
    let secret = match connection.answer(asked, secrets.get(CONTROLLER_SECRET)).await {
        Err(error) if error.is_not_found() => return Err(wrong("is not there".into())),
        answer => answer?,
    };
    let annotations = secret.metadata.annotations.unwrap_or_default();
    // Whatever it says but that it is off: whoever mistyped it meant something by it.
    let requires_opt_in = annotations.get(OPT_IN_ANNOTATION).is_some_and(|value| value != "false");
    let data = secret.data.unwrap_or_default();
    let text = |file: &str| {
        let bytes = data.get(file).ok_or_else(|| wrong(format!("has no `{file}`")))?;
        let text = String::from_utf8(bytes.0.clone());
        text.map_err(|_not_text| wrong(format!("has a `{file}` that is no PEM text")))
    };
    let (ca_pem, cert_pem, key_pem) = (text(CA_FILE)?, text(CERT_FILE)?, text(KEY_FILE)?);
    Ok((Credentials { ca_pem, cert_pem, key_pem }, requires_opt_in))
}

/// The certificate in a Secret, if it is there and this user may read it.
pub(super) async fn certificate(
    connection: &Connection,
    namespace: &str,
    secret: &str,
) -> Option<String> {
    let secrets: Api<Secret> = Api::namespaced(connection.client(), namespace);
    let asked = Asked::new("get", "secrets").within(namespace).named(secret);
    let secret = connection.answer(asked, secrets.get(secret)).await.ok()?;
    String::from_utf8(secret.data?.remove(CERT_FILE)?.0).ok()
}
