//! The claims of a run: taken before anything is injected, renewed while it goes on, given back at its end. Who is killed
//! gives nothing back: then they are taken over once they are old.

use std::{collections::BTreeSet, sync::Arc};

use futures::{StreamExt as _, stream};
use k8s_openapi::{
    api::coordination::v1::Lease, apimachinery::pkg::apis::meta::v1::MicroTime, jiff::Timestamp,
};
use kube::{
    Api,
    api::{DeleteParams, ListParams, PostParams, Preconditions},
};
use tokio::{sync::Mutex, task::JoinHandle, time};

use super::{
    Asked, Cluster, ClusterError, Connection,
    claim::{CLAIM_LABEL, RENEW_EVERY, held_by_another, is_of, lease, lease_name},
    install::labels_of,
};
use crate::run::one_line;

/// Requests at the same time.
const REQUESTS_MAX: usize = 16;
/// How often a claim is tried that somebody else changes at the same time.
const TRIES_MAX: usize = 5;

/// What a run has claimed. Renewed until it is released.
#[derive(Debug)]
pub struct Claims {
    api: Leases,
    held: Arc<Mutex<Vec<Lease>>>,
    run: String,
    renewer: JoinHandle<()>,
}

impl Drop for Claims {
    fn drop(&mut self) {
        self.renewer.abort();
    }
}

/// The Leases of an installation.
#[derive(Debug, Clone)]
struct Leases {
    connection: Connection,
    namespace: String,
}

/// What a claim came to.
enum Taken {
    Held(Box<Lease>),
    By(String),
}

impl Cluster {
    /// Where claims are; `None` where nothing is installed, and nobody would look for them.
    fn leases(&self) -> Result<Option<Leases>, ClusterError> {
        match self.installation() {
            Ok(namespace) => Ok(Some(Leases { connection: self.connection.clone(), namespace })),
            Err(ClusterError::NotInstalled { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Who has claimed one of these, each in a sentence.
    ///
    /// # Errors
    /// When it is not told.
    pub async fn claimed_by_others(
        &self,
        claims: &BTreeSet<String>,
        run: &str,
    ) -> Result<Vec<String>, ClusterError> {
        let names: BTreeSet<String> = claims.iter().map(|claim| lease_name(claim)).collect();
        let Some(leases) = self.leases()? else { return Ok(Vec::new()) };
        let ours = ListParams::default().labels(CLAIM_LABEL);
        let asked = leases.asked("list");
        let all = self.connection.answer(asked, leases.api().list(&ours)).await?;
        let meant =
            |lease: &&Lease| lease.metadata.name.as_ref().is_some_and(|n| names.contains(n));
        let now = Timestamp::now();
        Ok(all.items.iter().filter(meant).filter_map(|l| held_by_another(l, run, now)).collect())
    }

    /// Claims all of these for a run, or none. `lost` is told if one of them is taken by somebody else later.
    ///
    /// # Errors
    /// Who has claimed one of them, or why nobody can; each in a sentence.
    pub async fn claim(
        &self,
        claims: &BTreeSet<String>,
        run: &str,
        experiment: &str,
        lost: impl Fn(String) + Send + 'static,
    ) -> Result<Option<Claims>, Vec<String>> {
        let leases = self.leases().map_err(|error| vec![one_line(&error)])?;
        let Some(leases) = leases else { return Ok(None) };
        let taking = stream::iter(claims).map(|claim| leases.take(claim, run, experiment));
        let taken: Vec<_> = taking.buffer_unordered(REQUESTS_MAX).collect().await;
        let (mut held, mut why) = (Vec::new(), Vec::new());
        for taken in taken {
            match taken {
                Ok(Taken::Held(lease)) => held.push(*lease),
                Ok(Taken::By(another)) => why.push(another),
                Err(error) => why.push(one_line(&error)),
            }
        }
        if !why.is_empty() {
            leases.release(held, run).await;
            why.sort();
            why.dedup();
            return Err(why);
        }
        let held = Arc::new(Mutex::new(held));
        let renewer = tokio::spawn(renew(leases.clone(), Arc::clone(&held), run.to_owned(), lost));
        Ok(Some(Claims { api: leases, held, run: run.to_owned(), renewer }))
    }
}

impl Claims {
    /// Gives them back. What cannot be given back is taken over by the next run once it is old.
    pub async fn release(self) {
        self.renewer.abort();
        let held = std::mem::take(&mut *self.held.lock().await);
        self.api.release(held, &self.run).await;
    }
}

impl Leases {
    fn api(&self) -> Api<Lease> {
        Api::namespaced(self.connection.client(), &self.namespace)
    }

    fn asked(&self, verb: &'static str) -> Asked {
        Asked::new(verb, "leases.coordination.k8s.io").within(&self.namespace)
    }

    /// Takes one, unless somebody else has it. Whoever comes second at the same instant is told by the API server.
    async fn take(&self, claim: &str, run: &str, experiment: &str) -> Result<Taken, ClusterError> {
        let (api, name) = (self.api(), lease_name(claim));
        let labels = labels_of(&self.namespace);
        let mut wanted = lease(claim, run, experiment, labels, Timestamp::now());
        let with = PostParams::default();
        let mut last = None;
        for _ in 0..TRIES_MAX {
            let asked = self.asked("create").named(&name);
            match self.connection.answer(asked, api.create(&with, &wanted)).await {
                Ok(lease) => return Ok(Taken::Held(Box::new(lease))),
                Err(error) if error.is_conflict() => last = Some(error),
                Err(error) => return Err(error),
            }
            let asked = self.asked("get").named(&name);
            let there = match self.connection.answer(asked, api.get(&name)).await {
                Ok(there) => there,
                // It has been given back in between.
                Err(error) if error.is_not_found() => continue,
                Err(error) => return Err(error),
            };
            if let Some(another) = held_by_another(&there, run, Timestamp::now()) {
                return Ok(Taken::By(another));
            }
            wanted.metadata.resource_version = there.metadata.resource_version;
            let asked = self.asked("update").named(&name);
            let replace = api.replace(&name, &with, &wanted);
            match self.connection.answer(asked, replace).await {
                Ok(lease) => return Ok(Taken::Held(Box::new(lease))),
                Err(error) if error.is_conflict() || error.is_not_found() => last = Some(error),
                Err(error) => return Err(error),
            }
            wanted.metadata.resource_version = None;
        }
        last.map_or_else(|| Ok(Taken::By(format!("{claim} is claimed by others"))), Err)
    }

    /// Gives back those that are still of this run.
    async fn release(&self, held: Vec<Lease>, run: &str) {
        let release = |lease| self.give_back(lease, run);
        stream::iter(held).for_each_concurrent(REQUESTS_MAX, release).await;
    }

    /// Whoever took it over keeps it, and what cannot be deleted now grows old.
    async fn give_back(&self, mut lease: Lease, run: &str) {
        let api = self.api();
        for _ in 0..TRIES_MAX {
            let Some(name) = lease.metadata.name.clone() else { return };
            let preconditions = Preconditions {
                resource_version: lease.metadata.resource_version.take(),
                uid: lease.metadata.uid.take(),
            };
            let only_ours =
                DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() };
            let asked = self.asked("delete").named(&name);
            match self.connection.answer(asked, api.delete(&name, &only_ours)).await {
                Err(error) if error.is_conflict() => {}
                _ => return,
            }
            // It may be a renewal that was under way, the answer to which nobody has waited for.
            let asked = self.asked("get").named(&name);
            match self.connection.answer(asked, api.get(&name)).await {
                Ok(there) if is_of(&there, run) => lease = there,
                _ => return,
            }
        }
    }
}

/// Renews all claims, again and again. An API server that does not answer takes nothing from anybody; somebody else
/// who has taken one over does.
async fn renew(
    leases: Leases,
    held: Arc<Mutex<Vec<Lease>>>,
    run: String,
    lost: impl Fn(String) + Send + 'static,
) {
    let mut ticks = time::interval_at(time::Instant::now() + RENEW_EVERY, RENEW_EVERY);
    ticks.set_missed_tick_behavior(time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let mut held = held.lock().await;
        let renewing: Vec<_> = held.iter_mut().map(|lease| leases.renew(lease, &run)).collect();
        let renewing = stream::iter(renewing).buffer_unordered(REQUESTS_MAX);
        let taken_over: Vec<_> = renewing.collect().await;
        taken_over.into_iter().flatten().for_each(&lost);
    }
}

impl Leases {
    /// Renews one. Returns who has taken it over.
    async fn renew(&self, lease: &mut Lease, run: &str) -> Option<String> {
        let (api, name) = (self.api(), lease.metadata.name.clone()?);
        if let Some(spec) = &mut lease.spec {
            spec.renew_time = Some(MicroTime(Timestamp::now()));
        }
        let with = PostParams::default();
        let asked = self.asked("update").named(&name);
        let error = match self.connection.answer(asked, api.replace(&name, &with, lease)).await {
            Ok(renewed) => {
                *lease = renewed;
                return None;
            }
            Err(error) => error,
        };
        if !error.is_conflict() {
            return None;
        }
        let asked = self.asked("get").named(&name);
        let there = self.connection.answer(asked, api.get(&name)).await.ok()?;
        let another = held_by_another(&there, run, Timestamp::now());
        if another.is_none() {
            // An answer to us that was lost, or somebody's hand on its labels.
            lease.metadata.resource_version = there.metadata.resource_version;
        }
        another
    }
}
