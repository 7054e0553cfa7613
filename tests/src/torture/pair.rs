//! Two nodes on which rounds are played, one after the other.

use std::{
    net::IpAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use faultline::{
    agents::Fleet,
    place::{AgentEndpoint, Credentials},
    sandbox::Sandbox,
};
use faultline_proto::{
    fault::Scope,
    id::{FaultId, RunId},
    target::Target,
};
use tokio::{task::spawn_blocking, time::sleep};

use super::{
    draw::{NODES, PODS, Plan, Spot},
    dump::Dump,
    measure::{Sight, Watch},
    node::Node,
    script::{Order, Run, Script},
    traffic,
};

/// How long an agent may take until it answers.
const ANSWER_MAX: Duration = Duration::from_secs(15);
/// How long new nodes may take until nothing changes by itself any more.
const CALM_MAX: Duration = Duration::from_secs(20);
/// The uid of a pod that there is not.
const NOBODYS: &str = "00000000-0000-0000-0000-000000000000";

/// Two nodes.
#[derive(Debug, Clone)]
pub(super) struct Pair {
    /// The nodes.
    pub(super) nodes: Vec<Node>,
    credentials: Credentials,
}

impl Pair {
    /// The pair of this number, from 0, of a sandbox that is up.
    pub(super) fn of(sandbox: &Arc<Sandbox>, number: usize) -> anyhow::Result<Self> {
        let names = (1..=NODES).map(|node| format!("node{}", number * NODES + node));
        let nodes = names.map(|name| Node::of(sandbox, &name)).collect::<anyhow::Result<_>>()?;
        Ok(Self { nodes, credentials: sandbox.credentials().clone() })
    }

    /// What it is called.
    pub(super) fn name(&self) -> String {
        self.nodes.iter().map(|node| node.name.as_str()).collect::<Vec<_>>().join(" and ")
    }

    /// The pods' addresses, by node and position.
    pub(super) fn addresses(&self) -> Vec<Vec<Vec<IpAddr>>> {
        self.nodes.iter().map(Node::addresses).collect()
    }

    /// Waits until both agents answer.
    pub(super) async fn connect(&self) -> anyhow::Result<Fleet> {
        let start = Instant::now();
        let endpoints = self.endpoints();
        loop {
            match Fleet::connect(&endpoints, &self.credentials).await {
                Ok(fleet) => return Ok(fleet),
                Err(errors) if start.elapsed() > ANSWER_MAX => {
                    bail!("agents of {} do not answer: {errors:?}", self.name())
                }
                Err(_) => sleep(Duration::from_millis(10)).await,
            }
        }
    }

    fn endpoints(&self) -> Vec<AgentEndpoint> {
        self.nodes.iter().map(|node| node.endpoint.clone()).collect()
    }

    /// All that is to be the same after a round, by node.
    pub(super) async fn dump(&self, last: &[Dump]) -> anyhow::Result<Vec<Dump>> {
        let (nodes, last) = (self.nodes.clone(), last.to_vec());
        let look = move || {
            let last = last.iter().cloned().chain(std::iter::repeat(Dump::default()));
            nodes.iter().zip(last).map(|(node, last)| node.dump(&last)).collect()
        };
        spawn_blocking(look).await?
    }

    /// What does not come through between the pods of each node.
    pub(super) async fn traffic(&self) -> anyhow::Result<Vec<String>> {
        let nodes = self.nodes.clone();
        Ok(spawn_blocking(move || nodes.iter().flat_map(traffic::between_pods).collect()).await?)
    }

    /// The nodes as they are when they have stopped changing by themselves.
    pub(super) async fn calm(&self) -> anyhow::Result<Vec<Dump>> {
        let start = Instant::now();
        let mut last = self.dump(&[]).await?;
        loop {
            sleep(Duration::from_millis(500)).await;
            let dump = self.dump(&[]).await?;
            let differences = differences(&dump, &last);
            if differences.is_empty() && self.traffic().await?.is_empty() {
                return Ok(dump);
            }
            if start.elapsed() > CALM_MAX {
                bail!("{} do not come to rest: {differences:?}", self.name());
            }
            last = dump;
        }
    }

    /// Begins to watch all that can be seen of the pods of a round.
    pub(super) async fn watch(&self, plan: &Plan) -> anyhow::Result<Watch> {
        let (nodes, spots) = (self.nodes.clone(), plan.spots());
        let start = move || {
            let mut sights = Vec::new();
            for spot in spots {
                sights.extend(sights_of(&nodes[spot.node], spot)?);
            }
            Ok(Watch::start(sights))
        };
        spawn_blocking(start).await?
    }

    /// What the controller of a round is told.
    pub(super) fn script(&self, plan: &Plan) -> anyhow::Result<Script> {
        let mut orders: Vec<Order> = Vec::new();
        for (index, drawn) in plan.faults.iter().enumerate() {
            let pod = self.nodes[drawn.spot.node].pod(drawn.spot.pod).context("a pod")?;
            orders.push(Order {
                index: Some(index),
                node: self.nodes[drawn.spot.node].name.clone(),
                id: drawn.id,
                target: match drawn.scope {
                    Scope::Pod => pod.target(),
                    Scope::Container => pod.container_target(),
                },
                fault: drawn.fault.clone(),
                lease: drawn.lease,
                lifetime: drawn.lifetime,
                amend: drawn.amend.clone(),
            });
        }
        if let Some(node) = plan.spoiled_on {
            let spoiled = self.spoiled(plan, node, &orders[0])?;
            orders.push(spoiled);
        }
        let runs = if plan.together {
            vec![Run { id: RunId::from_bits(plan.number), orders }]
        } else {
            // A run of its own each: where one is refused, the others go on.
            let run = |order: Order| Run { id: own_run(order.id), orders: vec![order] };
            orders.into_iter().map(run).collect()
        };
        Ok(Script {
            agents: self.endpoints(),
            credentials: self.credentials.clone(),
            runs,
            journals: self.nodes.iter().map(Node::journal_dir).collect(),
        })
    }

    /// A fault that is refused: on a pod that there is not.
    fn spoiled(&self, plan: &Plan, node: usize, like: &Order) -> anyhow::Result<Order> {
        let pod = self.nodes[node].pod(0).context("a pod")?;
        Ok(Order {
            index: None,
            node: self.nodes[node].name.clone(),
            id: FaultId::from_bits(!plan.number),
            target: Target { uid: NOBODYS.into(), ..pod.container_target() },
            fault: like.fault.clone(),
            lease: like.lease,
            lifetime: like.lifetime,
            amend: None,
        })
    }
}

fn own_run(id: FaultId) -> RunId {
    RunId::from_bits(u64::from_str_radix(&id.to_string(), 16).unwrap_or(1))
}

fn sights_of(node: &Node, spot: Spot) -> anyhow::Result<Vec<Sight>> {
    let holder = node.holder(spot.pod).context("a pod's process")?;
    let neighbour = node.echo((spot.pod + 1) % PODS).context("a neighbour")?;
    let container = node.running_container(spot.pod).context("a container that runs")?;
    let usage = node.memory_usage(spot.pod).context("the memory that a container uses")?;
    Ok(vec![
        Sight::traffic(spot, holder, neighbour)?,
        Sight::processes(spot, &container),
        Sight::memory(spot, usage)?,
    ])
}

/// What is different between two looks at the same nodes.
pub(super) fn differences(is: &[Dump], was: &[Dump]) -> Vec<String> {
    is.iter().zip(was).flat_map(|(is, was)| is.differs_from(was)).collect()
}
