//! A Kubernetes cluster as a place: its pods, watched; its agents, reached directly from inside and through the API
//! server from outside; commands in its pods. The only user of `kube`.

mod agents;
mod budgets;
mod checkup;
mod claim;
mod claims;
mod connect;
pub mod controller;
mod election;
mod error;
mod event;
mod events;
mod exec;
pub mod fault;
mod fence;
mod forward;
mod halt;
mod identity;
pub mod install;
pub mod names;
mod pod;
mod record;
mod service;
mod stand_by;
mod watch;
mod workloads;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use k8s_openapi::api::core::v1;
use kube::{Api, runtime::watcher};
use service::Services;
use tokio::sync::OnceCell;

pub use budgets::Budget;
pub use checkup::{Certificate, Checkup, Health, WithoutAgent};
pub use claim::claimed;
pub use claims::Claims;
pub use connect::{ClusterChoice, Connection};
pub use error::{Asked, ClusterError};
pub use events::Events;
pub use watch::Watched;
pub use workloads::{ObjectState, ObjectWatch};

use crate::place::{
    AgentEndpoint, Aside, Credentials, ExecError, ExecOutcome, Needs, Pod, PodState, Via,
};

/// The namespace of an installation, or where it would be.
#[derive(Debug, Clone)]
pub(in crate::cluster) struct Home {
    namespace: String,
    /// It is there that Faultline is installed, or somebody has said so.
    is_meant: bool,
}

/// A cluster that Faultline is installed in.
#[derive(Debug)]
pub struct Cluster {
    connection: Connection,
    /// The namespace of the installation that is meant; wherever there is one if `None`.
    asked: Option<String>,
    pods: Watched<v1::Pod>,
    nodes: OnceCell<Watched<v1::Node>>,
    services: OnceCell<Watched<v1::Service>>,
}

impl Cluster {
    /// Connects, and learns who is there. Whether Faultline is installed there is asked when agents are needed: what
    /// goes through the API server needs none.
    ///
    /// # Errors
    /// When the cluster cannot be reached, or this user may not see it.
    pub async fn connect(choice: &ClusterChoice) -> Result<Self, ClusterError> {
        let connection = Connection::open(choice).await?;
        let api = Api::all(connection.client());
        let asked = Asked::new("list", "pods");
        let pods = Watched::start(&connection, api, watcher::Config::default(), asked).await?;
        let (nodes, services) = (OnceCell::new(), OnceCell::new());
        Ok(Self { connection, asked: choice.installation.clone(), pods, nodes, services })
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
    ///
    /// # Errors
    /// When it is not, or more than once.
    pub fn installation(&self) -> Result<String, ClusterError> {
        agents::installation(&self.pods.now(), self.asked.as_deref())
    }

    /// The namespace of the installation, or where it would be: that which is asked for, or the usual one.
    ///
    /// # Errors
    /// When it is installed more than once.
    fn home(&self) -> Result<Home, ClusterError> {
        let meant = |namespace| Home { namespace, is_meant: true };
        let usual = || Home { namespace: names::NAMESPACE_DEFAULT.into(), is_meant: false };
        match self.installation() {
            Err(ClusterError::NotInstalled { namespace }) => {
                Ok(namespace.map_or_else(usual, meant))
            }
            found => found.map(meant),
        }
    }

    /// Looks whether an installation that was named is there: its agents, or at least a controller that has stood by.
    ///
    /// # Errors
    /// When it is not, or that is not told.
    pub async fn check_installation(&self) -> Result<(), ClusterError> {
        let (Some(named), Err(error)) = (&self.asked, self.installation()) else { return Ok(()) };
        if stand_by::lease(&self.connection, named).await?.is_some() { Ok(()) } else { Err(error) }
    }

    /// Who injects through the API server, for one run; `without_controller`: also where no controller stands by who
    /// would take back what a run leaves behind.
    ///
    /// # Errors
    /// When Faultline is installed more than once, and it is not said which one is meant.
    pub fn injector(&self, without_controller: bool) -> Result<fault::Injector, ClusterError> {
        let (connection, pods) = (self.connection.clone(), self.pods.store());
        Ok(fault::Injector::new(connection, pods, self.home()?, without_controller))
    }

    /// The pods that have a node, as they are now.
    pub fn pods(&self) -> Vec<Pod> {
        let states = self.pod_states().into_iter().map(|state| state.pod);
        states.filter(|pod| !pod.node.is_empty()).collect()
    }

    /// The pods that no fault can be on.
    pub fn pods_aside(&self) -> Aside {
        let waiting = self.pod_states().into_iter().map(|state| state.pod);
        let waiting = waiting.filter(|pod| pod.node.is_empty()).collect();
        let pods = self.pods.now();
        let over = pods.iter().filter(|pod| pod::is_over(pod));
        let over = over.filter_map(|pod| Some(pod::state(pod, &BTreeMap::new())?.pod)).collect();
        Aside { waiting, over }
    }

    /// All pods whose work is not over, and how they are now.
    pub fn pod_states(&self) -> Vec<PodState> {
        let labels = self.node_labels();
        let none = BTreeMap::new();
        let services = self.services.get().map(|watched| Services::of(&watched.now()));
        let pods = self.pods.now();
        let states = pods.iter().filter(|pod| !pod::is_over(pod)).filter_map(|pod| {
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
        let Ok(installation) = self.installation() else { return Vec::new() };
        let running = agents::running(&self.pods.now(), &installation).into_iter();
        let endpoint = |(node, host, port): (String, String, u16)| AgentEndpoint {
            address: match host.parse() {
                Ok(std::net::IpAddr::V6(host)) => format!("[{host}]:{port}"),
                _ => format!("{host}:{port}"),
            },
            via: self.via(&installation, &node),
            server_name: Some(names::AGENTS_SERVER_NAME.into()),
            node,
        };
        running.map(endpoint).collect()
    }

    fn via(&self, installation: &str, node: &str) -> Via {
        if self.connection.is_inside() {
            return Via::Direct;
        }
        Via::Dialed(Arc::new(forward::Forward {
            connection: self.connection.clone(),
            agents: self.pods.store(),
            installation: installation.into(),
            node: node.into(),
        }))
    }

    /// Why a node has no agent that could be asked.
    pub fn why_no_agent(&self, node: &str) -> String {
        match self.installation() {
            Ok(installation) => agents::why_not_running(&self.pods.now(), &installation, node),
            Err(error) => error.to_string(),
        }
    }

    /// Why agents that have a pod do not run or are not ready, a line for each.
    pub(crate) fn agents_not_ready(&self) -> Vec<String> {
        self.installation().map_or_else(
            |error| vec![error.to_string()],
            |installation| agents::not_ready(&self.pods.now(), &installation),
        )
    }

    /// What the controller proves itself with to agents.
    ///
    /// # Errors
    /// When Faultline is not installed, or its Secret cannot be read.
    pub async fn credentials(&self) -> Result<Credentials, ClusterError> {
        Ok(identity::read(&self.connection, &self.installation()?).await?.0)
    }

    /// Whether whoever administers the installation asks every run to hit only who is enabled. Where nothing is
    /// installed, nobody does.
    ///
    /// # Errors
    /// When that cannot be read: then it is not known what is allowed.
    pub async fn requires_opt_in(&self) -> Result<bool, ClusterError> {
        match self.installation() {
            Ok(installation) => Ok(identity::read(&self.connection, &installation).await?.1),
            Err(ClusterError::NotInstalled { .. }) => Ok(false),
            Err(error) => Err(error),
        }
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
