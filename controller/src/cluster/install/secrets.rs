//! The identities that are kept in a cluster, read.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Secret;
use kube::Api;

use super::{
    super::{
        connect::Connection,
        error::{Asked, ClusterError},
        names::{AGENT_SECRET, CA_SECRET, CERT_FILE, CONTROLLER_SECRET, KEY_FILE},
    },
    identity::{Kept, PREVIOUS_FILE},
};
use crate::pki::Identity;

/// Reads all of them.
///
/// # Errors
/// When this user may not. That one is not there is no error.
pub(super) async fn read(connection: &Connection, namespace: &str) -> Result<Kept, ClusterError> {
    let authority = secret(connection, namespace, CA_SECRET).await?;
    let agent = secret(connection, namespace, AGENT_SECRET).await?;
    let controller = secret(connection, namespace, CONTROLLER_SECRET).await?;
    let is_empty = |secret: &Secret| secret.data.as_ref().is_none_or(BTreeMap::is_empty);
    Ok(Kept {
        is_empty: authority.as_ref().is_some_and(is_empty),
        previous_pem: authority.as_ref().and_then(|secret| text(secret, PREVIOUS_FILE)),
        authority: authority.as_ref().and_then(identity),
        agent: agent.as_ref().and_then(identity),
        controller: controller.as_ref().and_then(identity),
    })
}

async fn secret(
    connection: &Connection,
    namespace: &str,
    name: &str,
) -> Result<Option<Secret>, ClusterError> {
    let api: Api<Secret> = Api::namespaced(connection.client(), namespace);
    let asked = Asked::new("get", "secrets").within(namespace).named(name);
    connection.answer(asked, api.get_opt(name)).await
}

fn text(secret: &Secret, file: &str) -> Option<String> {
    String::from_utf8(secret.data.as_ref()?.get(file)?.0.clone()).ok()
}

fn identity(secret: &Secret) -> Option<Identity> {
    Some(Identity { cert_pem: text(secret, CERT_FILE)?, key_pem: text(secret, KEY_FILE)? })
}
