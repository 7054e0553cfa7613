//! Many agents that are no trouble, with pods on each: for what depends on how many there are.

use std::time::{Duration, Instant};

use faultline::place::{AgentEndpoint, Pod};
use faultline_proto::target::Container;

use crate::{
    fake_agent::{FakeAgent, Flaw},
    pki::Authority,
    sim,
};

/// Agents, and the pods of their nodes.
#[derive(Debug)]
pub struct Crowd {
    /// One for each node.
    pub agents: Vec<FakeAgent>,
    /// The same number on each node, all of app `api`.
    pub pods: Vec<Pod>,
}

impl Crowd {
    /// Starts agents, each with so many pods, that take `delay` for every answer.
    ///
    /// # Errors
    /// When one cannot be started.
    pub async fn start(
        authority: &Authority,
        nodes: usize,
        pods_per_node: usize,
        delay: Option<Duration>,
    ) -> anyhow::Result<Self> {
        let flaw = delay.map_or(Flaw::None, Flaw::Slow);
        let (mut agents, mut pods) = (Vec::new(), Vec::new());
        for node in 0..nodes {
            let name = format!("node-{node}");
            agents.push(FakeAgent::start(authority, &name, flaw).await?);
            pods.extend((0..pods_per_node).map(|i| pod(&name, node * pods_per_node + i)));
        }
        Ok(Self { agents, pods })
    }

    /// How they are reached.
    pub fn endpoints(&self) -> Vec<AgentEndpoint> {
        self.agents.iter().map(|agent| agent.endpoint.clone()).collect()
    }

    /// Between the first and the last commit, as the agents' own machine saw it; `None` where one did not
    /// commit.
    pub fn skew(&self) -> Option<Duration> {
        let committed = |agent: &FakeAgent| *agent.calls.committed.lock().ok()?;
        let times: Option<Vec<Instant>> = self.agents.iter().map(committed).collect();
        let times = times?;
        Some(times.iter().max()?.duration_since(*times.iter().min()?))
    }
}

fn pod(node: &str, number: usize) -> Pod {
    let bytes = u32::try_from(number).unwrap_or(u32::MAX).to_be_bytes();
    let named = sim::pod(&format!("api-{number}"), node, 0);
    Pod {
        uid: format!("11111111-2222-3333-4444-{number:012}"),
        addresses: vec![[10, bytes[1], bytes[2], bytes[3]].into()],
        containers: vec![Container { name: "main".into(), id: format!("{number:064x}") }],
        ..named
    }
}
