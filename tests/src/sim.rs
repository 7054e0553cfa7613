//! What the sim ring needs to run experiments without a cluster: made-up pods, a place with agents of
//! one's choice, and experiments from a few lines.

use std::{collections::BTreeMap, fs, sync::Arc};

use faultline::{
    experiment::{Experiment, load_source},
    place::{
        AgentEndpoint, Credentials, Place, Pod,
        inventory::{Inventory, Tls},
    },
};
use faultline_proto::{target::Container, yaml::Source};
use tempfile::TempDir;

/// A pod of app `api`.
pub fn pod(name: &str, node: &str, number: u8) -> Pod {
    Pod {
        namespace: "shop".into(),
        name: name.into(),
        uid: format!("11111111-2222-3333-4444-{number:012}"),
        node: node.into(),
        labels: BTreeMap::from([("app".into(), "api".into())]),
        addresses: vec![[10, 244, number, 2].into()],
        containers: vec![Container { name: "main".into(), id: format!("{number:064x}") }],
        ..Pod::default()
    }
}

/// A place of these pods and agents, and the directory that its certificates are in.
pub fn place(
    pods: Vec<Pod>,
    agents: Vec<AgentEndpoint>,
    credentials: &Credentials,
) -> anyhow::Result<(Arc<Place>, TempDir)> {
    let dir = tempfile::tempdir()?;
    let Credentials { ca_pem, cert_pem, key_pem } = credentials;
    let path = |name: &str| dir.path().join(name);
    let tls = Tls { ca: path("ca"), cert: path("cert"), key: path("key") };
    for (path, text) in [(&tls.ca, ca_pem), (&tls.cert, cert_pem), (&tls.key, key_pem)] {
        fs::write(path, text)?;
    }
    let file = path("inventory.yaml");
    let holders = BTreeMap::new();
    let inventory = Inventory { file, agents, pods, tls, network: None, holders };
    Ok((Arc::new(Place::Inventory(inventory)), dir))
}

/// The experiment with this `spec`, the lines of which are indented by two but the first.
///
/// # Panics
/// When it has mistakes.
pub fn experiment(spec: &str) -> Experiment {
    let text = format!(
        "apiVersion: faultline.dev/v1alpha1\nkind: Experiment\nmetadata: {{ name: test }}\nspec:\n  {spec}\n"
    );
    match load_source(Source { name: "test.yaml".into(), text }) {
        Ok(mut loaded) => loaded.remove(0).experiment,
        Err(errors) => panic!("{errors:?}"),
    }
}
