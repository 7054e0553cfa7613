//! A Kubernetes cluster as a place: its pods, watched; its agents, reached directly from inside and through the API
//! server from outside; commands in its pods. The only user of `kube`.

mod agents;
mod budgets;
mod claim;
mod claims;
mod connect;
mod election;
mod error;
mod event;
mod events;
mod exec;
mod fence;
mod forward;
mod identity;
pub mod install;
pub mod names;
mod pod;
mod record;
mod service;
mod watch;
mod workloads;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use k8s_openapi::api::core::v1;
use kube::{Api, runtime::watcher};
use service::Services;
use tokio::sync::OnceCell;

pub use budgets::Budget;
pub use claim::claimed;
pub use claims::Claims;
pub use connect::{ClusterChoice, Connection};
pub use error::{Asked, ClusterError};
pub use events::Events;
pub use watch::Watched;
pub use workloads::{ObjectState, ObjectWatch};

use crate::place::{AgentEndpoint, Credentials, ExecError, ExecOutcome, Needs, Pod, PodState, Via};

/// A cluster that Faultline is installed in.
#[derive(Debug)]
pub struct Cluster {
    connection: Connection,
    /// The namespace of the installation.
    installation: String,
    pods: Watched<v1::Pod>,
    nodes: OnceCell<Watched<v1::Node>>,
    services: OnceCell<Watched<v1::Service>>,
    credentials: Credentials,
    requires_opt_in: bool,
}

impl Cluster {
    /// Connects, and learns who is there.
    ///
    /// # Errors
    /// When the cluster cannot be reached, this user may not see it, or Faultline is not installed in it.
    pub async fn connect(choice: &ClusterChoice) -> Result<Self, ClusterError> {
        let connection = Connection::open(choice).await?;
        let api = Api::all(connection.client());
        let asked = Asked::new("list", "pods");
        let pods = Watched::start(&connection, api, watcher::Config::default(), asked).await?;
        let installation = agents::installation(&pods.now(), choice.installation.as_deref())?;
        let (credentials, requires_opt_in) = identity::read(&connection, &installation).await?;
        let (nodes, services) = (OnceCell::new(), OnceCell::new());
        Ok(Self { connection, installation, pods, nodes, services, credentials, requires_opt_in })
    }

    /// Begins to watch what is needed and not watched yet.
    ///
    /// # Errors
    /// When it is not told.
    pub async fn provide(&self, needs: Needs) -> Result<(), ClusterError> {
        let config = watcher::Config::default;
        if needs.nodes {
            let api = Api::all(self.connection.client());
            let asked = Asked::new("list", "nodes");
            let start = || Watched::start(&self.connection, api, config(), asked);
            self.nodes.get_or_try_init(start).await?;
        }
        if needs.services {
            let api = Api::all(self.connection.client());
            let asked = Asked::new("list", "services");
            let start = || Watched::start(&self.connection, api, config(), asked);
            self.services.get_or_try_init(start).await?;
        }
        Ok(())
    }

    /// The API server's client.
    pub fn connection(&self) -> &Connection {
        &self.connection
    }

    /// The namespace that Faultline is installed in.
    pub fn installation(&self) -> &str {
        &self.installation
    }

    /// The pods that have a node, as they are now.
    pub fn pods(&self) -> Vec<Pod> {
        let states = self.pod_states().into_iter().map(|state| state.pod);
        states.filter(|pod| !pod.node.is_empty()).collect()
    }

    /// All pods whose work is not over, and how they are now.
    pub fn pod_states(&self) -> Vec<PodState> {
        let labels = self.node_labels();
        let none = BTreeMap::new();
        let services = self.services.get().map(|watched| Services::of(&watched.now()));
        let pods = self.pods.now();
        let states = pods.iter().filter_map(|pod| {
            let node = pod.spec.as_ref().and_then(|spec| spec.node_name.as_ref());
            let mut state =
                pod::state(pod, node.and_then(|node| labels.get(node)).unwrap_or(&none))?;
            if let Some(services) = &services {
                state.pod.services = services.in_front_of(&state.pod);
            }
            Some(state)
        });
        let mut states: Vec<_> = states.collect();
        states
            .sort_by(|a, b| (&a.pod.namespace, &a.pod.name).cmp(&(&b.pod.namespace, &b.pod.name)));
        states
    }

    fn node_labels(&self) -> BTreeMap<String, BTreeMap<String, String>> {
        let nodes = self.nodes.get().into_iter().flat_map(Watched::now);
        let labels = nodes.filter_map(|node| {
            Some((node.metadata.name.clone()?, node.metadata.labels.clone().unwrap_or_default()))
        });
        labels.collect()
    }

    /// A number that is another one after each change of a pod, and of what is watched for it.
    pub(crate) fn version(&self) -> u64 {
        let others = [
            self.nodes.get().map_or(0, Watched::version),
            self.services.get().map_or(0, Watched::version),
        ];
        // Each of them only grows.
        others.into_iter().fold(self.pods.version(), u64::wrapping_add)
    }

    /// Why nobody knows how the pods are now, if that is so.
    pub(crate) fn trouble(&self) -> Option<String> {
        let others = || self.nodes.get().and_then(Watched::trouble);
        let services = || self.services.get().and_then(Watched::trouble);
        self.pods.trouble().or_else(others).or_else(services)
    }

    /// How the agents that run are reached, one of each node.
    pub fn agents(&self) -> Vec<AgentEndpoint> {
        let running = agents::running(&self.pods.now(), &self.installation).into_iter();
        let endpoint = |(node, host, port): (String, String, u16)| AgentEndpoint {
            address: match host.parse() {
                Ok(std::net::IpAddr::V6(host)) => format!("[{host}]:{port}"),
                _ => format!("{host}:{port}"),
            },
            via: self.via(&node),
            server_name: Some(names::AGENTS_SERVER_NAME.into()),
            node,
        };
        running.map(endpoint).collect()
    }

    fn via(&self, node: &str) -> Via {
        if self.connection.is_inside() {
            return Via::Direct;
        }
        Via::Dialed(Arc::new(forward::Forward {
            connection: self.connection.clone(),
            agents: self.pods.store(),
            installation: self.installation.clone(),
            node: node.into(),
        }))
    }

    /// Why a node has no agent that could be asked.
    pub fn why_no_agent(&self, node: &str) -> String {
        agents::why_not_running(&self.pods.now(), &self.installation, node)
    }

    /// Why agents that have a pod do not run or are not ready, a line for each.
    pub(crate) fn agents_not_ready(&self) -> Vec<String> {
        agents::not_ready(&self.pods.now(), &self.installation)
    }

    /// What the controller proves itself with.
    pub fn credentials(&self) -> &Credentials {
        &self.credentials
    }

    /// Runs a command in a pod, and stops waiting for it after `within`.
    ///
    /// # Errors
    /// When the outcome is not known. An exit code other than 0 is no error.
    pub async fn exec(
        &self,
        pod: &Pod,
        command: &[String],
        within: Duration,
    ) -> Result<ExecOutcome, ExecError> {
        exec::exec(&self.connection, pod, command, within).await
    }

    /// What it is, for a person.
    pub fn name(&self) -> String {
        match self.connection.context() {
            Some(context) => format!("the cluster {context} ({})", self.connection.server()),
            None => "the cluster that this pod is in".into(),
        }
    }
}
