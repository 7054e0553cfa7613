//! Manifests as YAML, for who applies them in another way.

use super::{
    identity::{Identities, empty},
    manifests,
    settings::Settings,
};

/// How identities are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Secrets {
    /// With identities that are made for this, and nowhere kept: whoever has the text has the keys.
    Fresh,
    /// As Secrets without content, which the controller in the cluster fills: nothing in the text is secret.
    Empty,
}

/// All manifests as one YAML stream. It is the same every time, but for the identities.
///
/// # Errors
/// When no keys can be made.
pub fn print(settings: &Settings, secrets: Secrets) -> Result<String, rcgen::Error> {
    let mut objects = vec![manifests::namespace(settings)];
    objects.extend(match secrets {
        Secrets::Fresh => Identities::new()?.objects(&settings.namespace),
        Secrets::Empty => empty(&settings.namespace),
    });
    objects.extend(manifests::objects(settings, None));
    let mut text = String::new();
    for object in objects {
        text += "---\n";
        // A JSON value, whose keys are texts: there is nothing that could not be written.
        text += &serde_saphyr::to_string(&object.value).unwrap_or_default();
        if !text.ends_with('\n') {
            text.push('\n');
        }
    }
    Ok(text)
}
