//! The agents of all nodes that a run touches: one call to each of them at once.
//!
//! Injection has two phases. Prepare goes to every agent first, and if one of them refuses, what the
//! others prepared is reverted and nothing has happened anywhere. Commit then takes place on all of
//! them at one instant, told to each agent in the time of its own clock.
//!
//! What is injected through the API server of a cluster takes part as if by one more agent.

mod client;
mod clock;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use faultline_proto::{id::RunId, pb};
use futures::{StreamExt, stream};

pub use client::{ANSWER_MAX, Agent, AgentError, Dial, Io};
pub use clock::AgentClock;

use crate::{
    cluster::fault::{API_SERVER, FaultError, Injection, Injector},
    place::{AgentEndpoint, Credentials},
};

/// Agents that are spoken to at once.
const CONCURRENT_MAX: usize = 64;
/// How far ahead the instant of a commit on several nodes is set: time for the last to hear of it.
const COMMIT_LEAD_MIN: Duration = Duration::from_millis(10);
/// The same, for each node: what it takes to tell one of them, on a busy machine.
const COMMIT_LEAD_PER_NODE: Duration = Duration::from_micros(1_500);

/// Agents whose clocks are asked for again at once: few, so that they do not delay each other's answers.
const SHARPENED_AT_ONCE: usize = 4;
/// How long that may take in all: what was known before will do as well.
const SHARPEN_MAX: Duration = Duration::from_millis(500);
/// How long the API server is asked again, at the end of a run, to restore what it could not be asked before.
const REVERT_AGAIN_MAX: Duration = Duration::from_secs(2);

/// Whoever injects: agents by node, and in a cluster the API server, which is spoken of by the name [`API_SERVER`]
/// where a node would stand.
#[derive(Debug, Default)]
pub struct Fleet {
    agents: BTreeMap<String, Agent>,
    api: Option<Injector>,
}

/// What is to be prepared.
#[derive(Debug, Clone, Default)]
pub struct Orders {
    /// By agents.
    pub nodes: ByNode<pb::Injection>,
    /// Through the API server.
    pub api: Vec<Injection>,
}

impl From<ByNode<pb::Injection>> for Orders {
    fn from(nodes: ByNode<pb::Injection>) -> Self {
        Self { nodes, api: Vec::new() }
    }
}

/// What is to be prepared, by node.
pub type ByNode<T> = BTreeMap<String, Vec<T>>;

/// The answers of agents, by node; some may have failed.
pub type Answers<T> = BTreeMap<String, Result<T, AgentError>>;

impl Fleet {
    /// Connects to agents, and learns their clocks.
    ///
    /// # Errors
    /// Every agent that cannot be reached, or is not who it should be.
    pub async fn connect(
        endpoints: &[AgentEndpoint],
        credentials: &Credentials,
    ) -> Result<Self, Vec<AgentError>> {
        let (fleet, errors) = Self::connect_some(endpoints, credentials).await;
        if errors.is_empty() { Ok(fleet) } else { Err(errors) }
    }

    /// Connects to those agents that can be reached, and tells of the others.
    pub async fn connect_some(
        endpoints: &[AgentEndpoint],
        credentials: &Credentials,
    ) -> (Self, Vec<AgentError>) {
        let connecting = endpoints.iter().map(|endpoint| Agent::connect(endpoint, credentials));
        let results: Vec<_> =
            stream::iter(connecting).buffer_unordered(CONCURRENT_MAX).collect().await;
        let mut fleet = Self::default();
        let mut errors = Vec::new();
        for result in results {
            match result {
                Ok(agent) => drop(fleet.agents.insert(agent.node().to_owned(), agent)),
                Err(error) => errors.push(error),
            }
        }
        fleet.sharpen_clocks().await;
        (fleet, errors)
    }

    /// Asks those agents for the time again whose answers took much longer than that of the quickest: when
    /// many are connected to at once, they wait for each other here.
    async fn sharpen_clocks(&mut self) {
        let rtt = |agent: &Agent| agent.clock().rtt();
        let Some(quickest) = self.agents.values().map(rtt).min() else { return };
        let slow = self.agents.values().filter(|agent| rtt(agent) > quickest * 2);
        let asking: Vec<_> = slow.map(Agent::clock_again).collect();
        let mut asked = stream::iter(asking).buffer_unordered(SHARPENED_AT_ONCE);
        let mut known = Vec::new();
        let all = async {
            while let Some(one) = asked.next().await {
                known.extend(one);
            }
        };
        // Whoever has not answered by then keeps the clock that was learnt first.
        drop(tokio::time::timeout(SHARPEN_MAX, all).await);
        drop(asked);
        for (node, clock) in known {
            if let Some(agent) = self.agents.get_mut(&node) {
                agent.know_better(clock);
            }
        }
    }

    /// Takes in the agents of another fleet.
    pub fn join(&mut self, other: Self) {
        self.agents.extend(other.agents);
    }

    /// The same, with what can be done through the API server.
    #[must_use]
    pub fn with_api(self, api: Injector) -> Self {
        Self { api: Some(api), ..self }
    }

    /// The clock by which an injection's times are told.
    pub fn clock(&self, node: &str) -> Option<AgentClock> {
        if node == API_SERVER {
            return self.api.as_ref().map(Injector::clock);
        }
        self.get(node).map(Agent::clock)
    }

    /// The agent of a node.
    pub fn get(&self, node: &str) -> Option<&Agent> {
        self.agents.get(node)
    }

    /// All of them.
    pub fn agents(&self) -> impl Iterator<Item = &Agent> {
        self.agents.values()
    }

    /// Asks the same of the agents of some nodes at once. What is asked of each owns all it needs, so
    /// that a call can go on in a task.
    async fn each<T, F>(&self, nodes: Vec<String>, call: impl Fn(Agent) -> F) -> Answers<T>
    where
        F: Future<Output = Result<T, AgentError>>,
    {
        self.each_of(CONCURRENT_MAX, nodes, call).await
    }

    /// The same, of so many at once.
    async fn each_of<T, F>(
        &self,
        at_once: usize,
        nodes: Vec<String>,
        call: impl Fn(Agent) -> F,
    ) -> Answers<T>
    where
        F: Future<Output = Result<T, AgentError>>,
    {
        let agents = nodes.into_iter().filter_map(|node| self.agents.get(&node).cloned());
        let calls: Vec<_> = agents
            .map(|agent| {
                let node = agent.node().to_owned();
                let answer = call(agent);
                async move { (node, answer.await) }
            })
            .collect();
        stream::iter(calls).buffer_unordered(at_once).collect().await
    }

    fn nodes(&self) -> Vec<String> {
        self.agents.keys().cloned().collect()
    }

    /// Prepares everything everywhere, or nothing anywhere: where one refuses, everything is reverted again. With
    /// `dry_run`, nothing is kept anyway.
    ///
    /// # Errors
    /// What each who refused or failed said.
    pub async fn prepare(
        &self,
        run_id: RunId,
        orders: &Orders,
        dry_run: bool,
    ) -> Result<Vec<pb::Prepared>, Vec<AgentError>> {
        if orders.api.is_empty() {
            return self.prepare_nodes(run_id, &orders.nodes, dry_run).await;
        }
        let Some(api) = &self.api else { return Err(vec![AgentError::missing(API_SERVER)]) };
        let on_nodes = self.prepare_nodes(run_id, &orders.nodes, dry_run);
        let (nodes, objects) =
            tokio::join!(on_nodes, Box::pin(api.prepare(run_id, &orders.api, dry_run)));
        let api_errors = |errors: Vec<FaultError>| {
            errors.into_iter().map(|error| AgentError::Api(Box::new(error))).collect::<Vec<_>>()
        };
        match (nodes, objects) {
            (Ok(nodes), Ok(objects)) => Ok([nodes, objects].concat()),
            (nodes, objects) => {
                if nodes.is_ok() && !dry_run {
                    self.revert(&orders.node_ids(), ANSWER_MAX).await;
                }
                let nodes = nodes.err().unwrap_or_default();
                Err(nodes.into_iter().chain(objects.err().map_or(Vec::new(), api_errors)).collect())
            }
        }
    }

    /// The same, of injections on nodes alone.
    async fn prepare_nodes(
        &self,
        run_id: RunId,
        injections: &ByNode<pb::Injection>,
        dry_run: bool,
    ) -> Result<Vec<pb::Prepared>, Vec<AgentError>> {
        let missing = injections.keys().filter(|node| !self.agents.contains_key(*node));
        let missing: Vec<_> = missing.map(|node| AgentError::missing(node)).collect();
        if !missing.is_empty() {
            return Err(missing);
        }
        let answers = self
            .each(injections.keys().cloned().collect(), |agent| {
                let items = of(injections, &agent);
                async move { agent.prepare(run_id, items, dry_run).await }
            })
            .await;
        let mut prepared = Vec::new();
        let mut errors = Vec::new();
        for answer in answers.into_values() {
            match answer {
                Ok(items) => prepared.extend(items),
                Err(error) => errors.push(error),
            }
        }
        if errors.is_empty() {
            return Ok(prepared);
        }
        if !dry_run {
            // Also where it failed: a Prepare whose answer was lost may have been done. What cannot
            // be reached gives it up by itself, and the kernel is untouched there.
            self.revert(&ids_of(injections), ANSWER_MAX).await;
        }
        Err(errors)
    }

    /// Injects what was prepared, everywhere at one instant.
    pub async fn commit(&self, ids: &ByNode<String>) -> Answers<Vec<pb::InjectionStatus>> {
        let rtt_max = ids.keys().filter_map(|n| self.agents.get(n)).map(|a| a.clock().rtt()).max();
        let nodes = u32::try_from(ids.len()).unwrap_or(u32::MAX);
        let lead = (rtt_max.unwrap_or_default() * 2)
            .max(COMMIT_LEAD_MIN)
            .max(COMMIT_LEAD_PER_NODE.saturating_mul(nodes));
        // One node needs no appointment.
        let at = (ids.len() > 1).then(|| Instant::now() + lead);
        // All of them at once, however many: an agent answers only after that instant, and whoever had to
        // wait for an answer of others would be late.
        let agents = self.each_of(usize::MAX, ids.keys().cloned().collect(), |agent| {
            let at = at.map(|at| agent.clock().to_agent(at));
            let ids = of(ids, &agent);
            async move { agent.commit(ids, at).await }
        });
        let api = async {
            let (api, ids) = self.api.as_ref().zip(ids.get(API_SERVER))?;
            Some(api.commit(ids, at).await.map_err(|error| AgentError::Api(Box::new(error))))
        };
        let (mut answers, api) = tokio::join!(agents, api);
        answers.extend(api.map(|answer| (API_SERVER.to_owned(), answer)));
        answers
    }

    /// Adds what the API server's side answers to what agents do.
    async fn with_api_answer<T>(
        agents: impl Future<Output = Answers<T>>,
        api: impl Future<Output = Option<T>>,
    ) -> Answers<T> {
        let (mut answers, api) = tokio::join!(agents, api);
        answers.extend(api.map(|answer| (API_SERVER.to_owned(), Ok(answer))));
        answers
    }

    /// Extends leases on one node; `limit` is how long its agent may take to answer.
    ///
    /// One node, and not all of them at once: an agent that hangs must not cost the others theirs.
    ///
    /// # Errors
    /// When there is no such agent, or it does not answer in time.
    pub async fn renew(
        &self,
        node: &str,
        ids: Vec<String>,
        limit: Duration,
    ) -> Result<Vec<pb::InjectionStatus>, AgentError> {
        if let (Some(api), API_SERVER) = (&self.api, node) {
            // Nothing is to be renewed there; but how things are is of interest all the same.
            return Ok(api.statuses(&ids));
        }
        let agent = self.get(node).ok_or_else(|| AgentError::missing(node))?;
        agent.within(limit, agent.renew(ids)).await
    }

    /// Changes what active injections do; leases and deadlines stay.
    pub async fn amend(
        &self,
        amendments: &ByNode<pb::Amendment>,
    ) -> Answers<Vec<pb::InjectionStatus>> {
        self.each(amendments.keys().cloned().collect(), |agent| {
            let amendments = of(amendments, &agent);
            async move { agent.amend(amendments).await }
        })
        .await
    }

    /// Reverts everything of a run, on all nodes.
    pub async fn revert_run(&self, run_id: RunId) -> Answers<Vec<pb::InjectionStatus>> {
        let agents = self.each(self.nodes(), |agent| async move { agent.revert_run(run_id).await });
        let api = async { Some(self.api.as_ref()?.revert_all(REVERT_AGAIN_MAX).await) };
        Self::with_api_answer(agents, api).await
    }

    /// Reverts injections; `limit` is how long each agent may take to answer, at most as long as any
    /// answer may take.
    pub async fn revert(
        &self,
        ids: &ByNode<String>,
        limit: Duration,
    ) -> Answers<Vec<pb::InjectionStatus>> {
        let agents = self.each(ids.keys().cloned().collect(), |agent| {
            let ids = of(ids, &agent);
            async move { agent.within(limit, agent.revert(ids)).await }
        });
        let api = async {
            let (api, ids) = self.api.as_ref().zip(ids.get(API_SERVER))?;
            Some(api.revert(ids, limit).await)
        };
        Self::with_api_answer(agents, api).await
    }

    /// Every injection on some nodes; `limit` is how long each agent may take to answer.
    pub async fn list_of(
        &self,
        nodes: BTreeSet<String>,
        limit: Duration,
    ) -> Answers<Vec<pb::InjectionStatus>> {
        let api = self.api.as_ref().filter(|_| nodes.contains(API_SERVER));
        let api = async { api.map(Injector::all_statuses) };
        let nodes = nodes.into_iter().collect();
        let agents =
            self.each(nodes, |agent| async move { agent.within(limit, agent.list()).await });
        Self::with_api_answer(agents, api).await
    }

    /// Every injection on every node; `limit` is how long each agent may take to answer, at most as
    /// long as any answer may take.
    pub async fn list(&self, limit: Duration) -> Answers<Vec<pb::InjectionStatus>> {
        let agents =
            self.each(self.nodes(), |agent| async move { agent.within(limit, agent.list()).await });
        let api = async { self.api.as_ref().map(Injector::all_statuses) };
        Self::with_api_answer(agents, api).await
    }

    /// The nodes that were halted since their agents were connected to, and the API server, if what goes through it is
    /// halted now; one that does not answer within `limit` is not among them.
    pub async fn halted_since(&self, limit: Duration) -> Vec<String> {
        let ask = |agent: Agent| async move { agent.within(limit, agent.is_halted_since()).await };
        let api = async {
            let halted = tokio::time::timeout(limit, self.api.as_ref()?.halted()).await;
            matches!(halted, Ok(Ok(Some(_)))).then(|| API_SERVER.to_owned())
        };
        let (answers, api) = tokio::join!(self.each(self.nodes(), ask), Box::pin(api));
        let nodes = answers.into_iter().filter_map(|(node, halted)| halted.ok()?.then_some(node));
        nodes.chain(api).collect()
    }

    /// Halts every node.
    pub async fn halt(&self, reason: &str) -> Answers<Vec<pb::InjectionStatus>> {
        self.halt_all(reason, false).await
    }

    /// Halts every node whose agent is about to be removed: when it ends and holds nothing, it takes away what it keeps
    /// on its node.
    pub async fn halt_for_good(&self, reason: &str) -> Answers<Vec<pb::InjectionStatus>> {
        self.halt_all(reason, true).await
    }

    async fn halt_all(&self, reason: &str, for_good: bool) -> Answers<Vec<pb::InjectionStatus>> {
        let halt = |agent: Agent| {
            let reason = reason.to_owned();
            async move { agent.halt(&reason, for_good).await }
        };
        self.each(self.nodes(), halt).await
    }

    /// Ends a halt on every node.
    pub async fn resume(&self) -> Answers<()> {
        self.resume_beside(&ByNode::new()).await
    }

    /// Ends a halt on every node, and has some take new faults beside these, which are stuck there.
    pub async fn resume_beside(&self, acknowledged: &ByNode<String>) -> Answers<()> {
        self.each(self.nodes(), |agent| {
            let acknowledged = of(acknowledged, &agent);
            async move { agent.resume(acknowledged).await }
        })
        .await
    }
}

impl Orders {
    fn node_ids(&self) -> ByNode<String> {
        ids_of(&self.nodes)
    }
}

fn ids_of(injections: &ByNode<pb::Injection>) -> ByNode<String> {
    let ids = |items: &Vec<pb::Injection>| items.iter().map(|i| i.fault_id.clone()).collect();
    injections.iter().map(|(node, items)| (node.clone(), ids(items))).collect()
}

/// What is meant for an agent.
fn of<T: Clone>(by_node: &ByNode<T>, agent: &Agent) -> Vec<T> {
    by_node.get(agent.node()).cloned().unwrap_or_default()
}
