//! Certificates, renewed before they end: what the controller in the cluster does from time to time.

use std::time::SystemTime;

use super::{
    super::{connect::Connection, error::ClusterError},
    apply,
    error::InstallError,
    identity::Identities,
    secrets,
};

/// Makes the certificates of agents and controller anew that are in the last third of their time, or that are missing
/// or broken. Where the Secrets are there and empty, as `kubectl apply -k deploy/` makes them, all are made. Agents take the new one up by themselves. Returns what was done, in sentences; nothing, mostly.
///
/// The authority is not changed: that takes somebody who waits for all agents, `faultline install --rotate`. What it
/// says of an authority that is in the last third of its time is among the sentences.
///
/// # Errors
/// When the Secrets cannot be read or written, or the authority is not there.
pub async fn renew(connection: &Connection, namespace: &str) -> Result<Vec<String>, InstallError> {
    let now = SystemTime::now();
    let kept = secrets::read(connection, namespace).await?;
    let Some((identities, authority_due)) = Identities::renewed(kept, now)? else {
        return Err(InstallError::Cluster(ClusterError::Identity {
            namespace: namespace.into(),
            secret: super::super::names::CA_SECRET,
            what: "has no authority that could sign".into(),
        }));
    };
    let mut said = identities.notes.clone();
    if !said.is_empty() {
        for object in identities.objects(namespace) {
            apply::apply(connection, &object).await?;
        }
    }
    if authority_due {
        said.push(
            "the certificate authority is in the last third of its time; `faultline install` makes another one".into(),
        );
    }
    Ok(said)
}
