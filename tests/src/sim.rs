//! What the sim ring needs to run experiments without a cluster: made-up pods, a place with agents of
//! one's choice, and experiments from a few lines.

use std::collections::BTreeMap;

use faultline::{
    experiment::{Experiment, load_source},
    place::{AgentEndpoint, Credentials, Inventory, Place, Pod},
};
use faultline_proto::{target::Container, yaml::Source};

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
    }
}

/// A place of these pods and agents.
pub fn place(pods: Vec<Pod>, agents: Vec<AgentEndpoint>, credentials: Credentials) -> Place {
    Place::from(Inventory::new(pods, agents, credentials))
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
