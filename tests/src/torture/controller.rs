//! The controller of a round, as a process of its own, so that it can be killed and stopped: prepares,
//! commits, amends and renews by the code of the real one, and says what it knows.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    io::{self, Read as _, Write as _},
    path::PathBuf,
    process::{self, ExitCode},
    thread,
};

use anyhow::Context as _;
use faultline::agents::{ANSWER_MAX, AgentError, ByNode, Fleet, Orders};
use faultline_proto::{boottime::BootTime, limits::RENEWALS_PER_LEASE, pb, status::State};
use tokio::time::sleep;
use tonic::Code;

use super::{
    measure::now,
    order::reason,
    script::{Known, Order, Run, Script, Told},
};

/// The argument by which this program is started as a controller.
pub(super) const ROLE: &str = "__torture-controller";

/// Is a controller if this process was started as one; otherwise returns `None` at once.
pub fn run_if_asked() -> Option<ExitCode> {
    (std::env::args().nth(1)? == ROLE).then(|| match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&Told::Problem(format!("the controller ended: {error:#}")));
            ExitCode::FAILURE
        }
    })
}

fn run() -> anyhow::Result<()> {
    let mut line = String::new();
    io::stdin().read_line(&mut line)?;
    let script: Script = serde_json::from_str(&line).context("the orders")?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let (fleet, errors) = Fleet::connect_some(&script.agents, &script.credentials).await;
        if let Some(error) = errors.into_iter().next() {
            return Err(error.into());
        }
        say(&Told::Ready);
        let mut word = [0; 3];
        io::stdin().read_exact(&mut word).context("the word to begin")?;
        // Nobody reads what is said any more: this controller has nobody to work for.
        thread::spawn(|| {
            drop(io::stdin().read(&mut [0]));
            process::abort();
        });
        carry_out(&fleet, &script).await;
        // It lives until it is killed.
        std::future::pending().await
    })
}

async fn carry_out(fleet: &Fleet, script: &Script) {
    let runs = script.runs.iter().map(|run| {
        let order = |order: &Order| (order.id.to_string(), order.index, Known::default());
        let known = run.orders.iter().map(order).map(|(id, index, known)| (id, (index, known)));
        let known = RefCell::new(known.collect());
        Carrier { fleet, journals: &script.journals, run, known }
    });
    let runs: Vec<Carrier<'_>> = runs.collect();
    futures::future::join_all(runs.iter().map(Carrier::carry_out)).await;
}

/// What carries out one run.
struct Carrier<'a> {
    fleet: &'a Fleet,
    journals: &'a [PathBuf],
    run: &'a Run,
    /// By the faults' ids: their positions, and what is known of them.
    known: RefCell<BTreeMap<String, (Option<usize>, Known)>>,
}

impl Carrier<'_> {
    async fn carry_out(&self) {
        let mut by_node: ByNode<pb::Injection> = BTreeMap::new();
        for order in &self.run.orders {
            let deadline = now().after(order.lifetime);
            self.note(&order.id.to_string(), |known| known.deadline = Some(deadline));
            by_node.entry(order.node.clone()).or_default().push(injection(order, deadline));
        }
        let orders = Orders::from(by_node.clone());
        if let Err(errors) = self.fleet.prepare(self.run.id, &orders, false).await {
            let why = errors.iter().map(reason).next().unwrap_or_default();
            for order in &self.run.orders {
                let why = Some(why.clone());
                self.note(&order.id.to_string(), |known| known.refused = why);
            }
            // Where one agent could not be reached, what it holds is not known.
            if errors.iter().all(is_refusal) {
                self.check_that_nothing_happened().await;
            }
            return;
        }
        let ids: ByNode<String> = by_node
            .iter()
            .map(|(node, items)| (node.clone(), items.iter().map(|i| i.fault_id.clone()).collect()))
            .collect();
        for id in ids.values().flatten() {
            self.note(id, |known| (known.committing, known.open) = (true, known.open + 1));
        }
        let renewals =
            futures::future::join_all(ids.iter().map(|(node, ids)| self.renew(node, ids)));
        let amendments = futures::future::join_all(self.run.orders.iter().map(|o| self.amend(o)));
        tokio::join!(self.commit(&ids), renewals, amendments);
    }

    async fn commit(&self, ids: &ByNode<String>) {
        for (node, answer) in self.fleet.commit(ids).await {
            match answer {
                Ok(statuses) => self.answered(&ids[&node], &statuses),
                Err(error) if is_refusal(&error) => {
                    let why = format!("commit: {}", reason(&error));
                    for id in &ids[&node] {
                        let why = Some(why.clone());
                        self.note(id, |known| (known.refused, known.open) = (why, known.open - 1));
                    }
                }
                // Not known to have happened or not: it stays open.
                Err(_) => {}
            }
        }
    }

    async fn renew(&self, node: &str, ids: &[String]) {
        let leases = self.run.orders.iter().filter(|order| order.node == node).map(|o| o.lease);
        let every = leases.min().unwrap_or_default() / RENEWALS_PER_LEASE;
        loop {
            sleep(every).await;
            for id in ids {
                self.note(id, |known| known.open += 1);
            }
            match self.fleet.renew(node, ids.to_vec(), ANSWER_MAX).await {
                Ok(statuses) => self.answered(ids, &statuses),
                Err(_) => return,
            }
        }
    }

    /// Changes what a fault does. Leases stay as they are, and an effect that may have changed is not
    /// measured but for its latest end.
    async fn amend(&self, order: &Order) {
        let Some((after, fault)) = &order.amend else { return };
        sleep(*after).await;
        let fault_id = order.id.to_string();
        self.note(&fault_id, |known| known.amended = true);
        let amendment =
            pb::Amendment { fault_id: fault_id.clone(), fault: Some(fault.clone().into()) };
        let answers = self.fleet.amend(&[(order.node.clone(), vec![amendment])].into()).await;
        for error in answers.into_values().filter_map(Result::err) {
            let why = format!("amend: {}", why_not_amended(&error));
            self.note(&fault_id, |known| known.not_amended = Some(why));
        }
    }

    fn answered(&self, ids: &[String], statuses: &[pb::InjectionStatus]) {
        for id in ids {
            let own = || statuses.iter().filter(|status| status.fault_id == *id);
            self.note(id, |known| {
                known.open -= 1;
                let ends = own().map(|s| BootTime::from_nanos(s.lease_end_boottime_ns));
                known.lease_end = ends.chain(known.lease_end).max();
                let committed = own().map(|s| s.committed_boottime_ns).find(|at| *at > 0);
                known.committed = committed.map(BootTime::from_nanos).or(known.committed);
            });
        }
    }

    /// All or nothing: of a run that was refused, no agent holds or keeps anything.
    async fn check_that_nothing_happened(&self) {
        let nodes: BTreeSet<&String> = self.run.orders.iter().map(|order| &order.node).collect();
        let ids: Vec<String> = self.run.orders.iter().map(|order| order.id.to_string()).collect();
        let mut answers = self.fleet.list(ANSWER_MAX).await;
        answers.retain(|node, _| nodes.contains(node));
        if answers.values().any(Result::is_err) {
            return;
        }
        for status in answers.into_values().flatten().flatten() {
            let is_over = State::from_wire(status.state) == Some(State::Reverted);
            if ids.contains(&status.fault_id) && (!is_over || status.committed_boottime_ns > 0) {
                say(&Told::Problem(format!("the run was refused, and an agent has {status:?}")));
            }
        }
        let records = self.journals.iter().flat_map(|dir| ids.iter().map(|id| dir.join(id)));
        for record in records.map(|path| path.with_extension("json")).filter(|path| path.exists()) {
            say(&Told::Problem(format!("the run was refused, and there is {}", record.display())));
        }
    }

    fn note(&self, id: &str, change: impl FnOnce(&mut Known)) {
        if let Some((index, known)) = self.known.borrow_mut().get_mut(id) {
            change(known);
            if let Some(index) = *index {
                say(&Told::Known { index, known: known.clone() });
            }
        }
    }
}

fn injection(order: &Order, deadline: BootTime) -> pb::Injection {
    pb::Injection {
        fault_id: order.id.to_string(),
        target: Some(order.target.clone().into()),
        fault: Some(order.fault.clone().into()),
        lease_ms: u64::try_from(order.lease.as_millis()).unwrap_or(u64::MAX),
        deadline_boottime_ns: deadline.as_nanos(),
    }
}

fn is_refusal(error: &AgentError) -> bool {
    matches!(error, AgentError::Refused { .. })
}

/// As [`reason`]; an agent that cannot amend at all gives none.
fn why_not_amended(error: &AgentError) -> String {
    match error {
        AgentError::Refused { status, .. } if status.code() == Code::Unimplemented => {
            "unimplemented".into()
        }
        other => reason(other),
    }
}

/// One line, at once: it is known even if this process is killed right after.
fn say(told: &Told) {
    let line = serde_json::to_string(told).unwrap_or_default();
    if writeln!(io::stdout().lock(), "{line}").is_err() {
        process::abort();
    }
}
