//! Throw-away identities: one certificate authority for one sandbox, a certificate for the
//! controller and one for each agent, good for a day.
//!
//! Keys are written with mode 0600 into a directory that only this user can enter.

use std::{
    fs::{self, OpenOptions},
    io::Write as _,
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
    time::Duration,
};

use super::error::{SandboxError, Step as _, StepError};
use crate::{
    pki::{self, Usage},
    place::{CONTROLLER_NAME, Credentials, agent_server_name},
};

const VALID_FOR: Duration = Duration::from_hours(24);

/// The names of the files in a sandbox's directory.
pub(super) const CA_FILE: &str = "ca.pem";
pub(super) const CONTROLLER_CERT_FILE: &str = "controller.pem";
pub(super) const CONTROLLER_KEY_FILE: &str = "controller-key.pem";
/// The names of the files in a node's directory.
pub(super) const AGENT_CERT_FILE: &str = "agent.pem";
pub(super) const AGENT_KEY_FILE: &str = "agent-key.pem";

/// A certificate authority that signs for one sandbox and is then forgotten: its key is never
/// written.
pub(super) struct Authority(pki::Authority);

impl Authority {
    pub(super) fn new() -> Result<Self, SandboxError> {
        Ok(Self(pki::Authority::new("Faultline sandbox", VALID_FOR)?))
    }

    /// The controller's identity: good for connecting to agents, and for nothing else.
    pub(super) fn write_controller(&self, directory: &Path) -> Result<Credentials, SandboxError> {
        let pki::Identity { cert_pem, key_pem } =
            self.0.issue(CONTROLLER_NAME, Usage::Client, VALID_FOR)?;
        write_private(&directory.join(CA_FILE), self.0.pem())?;
        write_private(&directory.join(CONTROLLER_CERT_FILE), &cert_pem)?;
        write_private(&directory.join(CONTROLLER_KEY_FILE), &key_pem)?;
        Ok(Credentials { ca_pem: self.0.pem().to_owned(), cert_pem, key_pem })
    }

    /// An agent's identity: good for being connected to, and for nothing else.
    pub(super) fn write_agent(&self, node: &str, directory: &Path) -> Result<(), SandboxError> {
        let identity = self.0.issue(&agent_server_name(node), Usage::Server, VALID_FOR)?;
        write_private(&directory.join(CA_FILE), self.0.pem())?;
        write_private(&directory.join(AGENT_CERT_FILE), &identity.cert_pem)?;
        write_private(&directory.join(AGENT_KEY_FILE), &identity.key_pem)?;
        Ok(())
    }
}

/// Writes a new file that only this user can read, all of it or nothing: what others may be reading
/// is replaced, not changed.
pub(super) fn write_private(path: &Path, text: &str) -> Result<(), StepError> {
    write(path, text, 0o600)
}

/// Writes a new file that everybody can read who gets to see it, all of it or nothing.
pub(super) fn write_public(path: &Path, text: &str) -> Result<(), StepError> {
    write(path, text, 0o644)
}

fn write(path: &Path, text: &str, mode: u32) -> Result<(), StepError> {
    let draft = path.with_extension("new");
    let write = || {
        let mut options = OpenOptions::new();
        let mut file = options.write(true).create(true).truncate(true).mode(mode).open(&draft)?;
        file.write_all(text.as_bytes())?;
        fs::rename(&draft, path)
    };
    write().step(|| format!("write {}", path.display()))
}
