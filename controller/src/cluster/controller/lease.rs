//! Who leads: the one that holds a Lease and renews it. A Lease is somebody's until it has not been seen to be renewed
//! for its duration, by the clock of whoever looks: no two clocks are compared. Every write is of the version that
//! was read, so that of two who want it one gets it.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::MicroTime,
    jiff::Timestamp,
};
use kube::{Api, api::ObjectMeta, api::PostParams};
use tokio::{sync::watch, time};

use super::{Metrics, say};
use crate::{
    cluster::{ClusterError, Connection, error::Asked, install::labels_of, names::CONTROLLER},
    run::one_line,
};

/// How long a Lease is somebody's that nobody renews.
const DURATION: Duration = Duration::from_secs(15);
/// For how long whoever leads may be unable to renew, before it stops: sooner than another one begins.
const RENEW_WITHIN: Duration = Duration::from_secs(10);
/// Between two renewals, or two looks.
const EVERY: Duration = Duration::from_secs(2);

/// One that could lead.
pub(super) struct Candidate {
    connection: Connection,
    namespace: String,
    identity: String,
    /// The Lease as it was seen last, and when it was first seen to be so.
    seen: Option<(LeaseSpec, Instant)>,
}

/// What came of an attempt to lead.
enum Outcome {
    Leads,
    /// Somebody else does.
    Other(String),
}

impl Candidate {
    pub(super) fn new(connection: Connection, namespace: &str, identity: &str) -> Self {
        Self { connection, namespace: namespace.into(), identity: identity.into(), seen: None }
    }

    /// Tries to lead until it is told to end, and tells whether it does.
    pub(super) async fn run(
        mut self,
        leads: watch::Sender<bool>,
        metrics: Arc<Metrics>,
        mut ending: watch::Receiver<bool>,
    ) {
        let mut renewed = Instant::now();
        let mut told = String::new();
        loop {
            let tried = Instant::now();
            let text = match time::timeout(RENEW_WITHIN, self.attempt()).await {
                Ok(Ok(Outcome::Leads)) => {
                    renewed = tried;
                    leads.send_if_modified(|leads| !std::mem::replace(leads, true));
                    format!("{} leads", self.identity)
                }
                Ok(Ok(Outcome::Other(other))) => {
                    leads.send_if_modified(|leads| std::mem::replace(leads, false));
                    format!("{other} leads")
                }
                Ok(Err(error)) => one_line(&error),
                Err(_late) => "the API server does not answer".into(),
            };
            if *leads.borrow() && renewed.elapsed() >= RENEW_WITHIN {
                leads.send_replace(false);
            }
            metrics.leads(*leads.borrow());
            metrics.turned();
            if text != told {
                say(&text);
                told = text;
            }
            let ended = ending.wait_for(|end| *end);
            if time::timeout(EVERY, ended).await.is_ok() {
                break;
            }
        }
        if *leads.borrow() {
            leads.send_replace(false);
            match self.give_up().await {
                Ok(()) => say("the lease is given up"),
                Err(error) => say(&format!("the lease is not given up: {}", one_line(&error))),
            }
        }
    }

    fn api(&self) -> Api<Lease> {
        Api::namespaced(self.connection.client(), &self.namespace)
    }

    fn asked(&self, verb: &'static str) -> Asked {
        let asked = Asked::new(verb, "leases.coordination.k8s.io");
        asked.within(&self.namespace).named(CONTROLLER)
    }

    /// Takes the Lease, or renews it, if it is free or its own.
    async fn attempt(&mut self) -> Result<Outcome, ClusterError> {
        let api = self.api();
        let lease = match self.connection.answer(self.asked("get"), api.get(CONTROLLER)).await {
            Err(error) if error.is_not_found() => None,
            answer => Some(answer?),
        };
        let Some(mut lease) = lease else {
            let lease = self.written(None);
            let params = PostParams::default();
            let creating = api.create(&params, &lease);
            return match self.connection.answer(self.asked("create"), creating).await {
                Err(error) if error.is_conflict() => Ok(Outcome::Other("somebody else".into())),
                answer => answer.map(|_| Outcome::Leads),
            };
        };
        let spec = lease.spec.clone().unwrap_or_default();
        if self.seen.as_ref().is_none_or(|(seen, _)| *seen != spec) {
            self.seen = Some((spec.clone(), Instant::now()));
        }
        let since = self.seen.as_ref().map_or(Duration::ZERO, |(_, at)| at.elapsed());
        if !is_free(&spec, &self.identity, since) {
            return Ok(Outcome::Other(spec.holder_identity.unwrap_or_default()));
        }
        let written = self.written(Some(&spec));
        // One of before has no labels by which `uninstall` finds it.
        lease.metadata.labels.get_or_insert_default().extend(labels_of(&self.namespace));
        lease.spec = written.spec;
        let params = PostParams::default();
        let replacing = api.replace(CONTROLLER, &params, &lease);
        match self.connection.answer(self.asked("update"), replacing).await {
            Err(error) if error.is_conflict() => Ok(Outcome::Other("somebody else".into())),
            answer => answer.map(|_| Outcome::Leads),
        }
    }

    /// The Lease as its own from now on.
    fn written(&self, before: Option<&LeaseSpec>) -> Lease {
        let now = MicroTime(Timestamp::now());
        let was_ours = |spec: &&LeaseSpec| spec.holder_identity.as_deref() == Some(&self.identity);
        let kept = before.filter(was_ours);
        let transitions = before.and_then(|spec| spec.lease_transitions).unwrap_or(0);
        Lease {
            metadata: ObjectMeta {
                name: Some(CONTROLLER.into()),
                namespace: Some(self.namespace.clone()),
                labels: Some(labels_of(&self.namespace)),
                ..ObjectMeta::default()
            },
            spec: Some(LeaseSpec {
                holder_identity: Some(self.identity.clone()),
                lease_duration_seconds: i32::try_from(DURATION.as_secs()).ok(),
                acquire_time: kept.and_then(|spec| spec.acquire_time.clone()).or(Some(now.clone())),
                renew_time: Some(now),
                lease_transitions: Some(
                    transitions + i32::from(before.is_some() && kept.is_none()),
                ),
                ..LeaseSpec::default()
            }),
        }
    }

    /// Lets whoever wants it have the Lease at once.
    async fn give_up(&self) -> Result<(), ClusterError> {
        let api = self.api();
        let mut lease = self.connection.answer(self.asked("get"), api.get(CONTROLLER)).await?;
        let Some(spec) = &mut lease.spec else { return Ok(()) };
        if spec.holder_identity.as_deref() != Some(&self.identity) {
            return Ok(());
        }
        spec.holder_identity = Some(String::new());
        spec.lease_duration_seconds = Some(1);
        let params = PostParams::default();
        let replacing = api.replace(CONTROLLER, &params, &lease);
        match self.connection.answer(self.asked("update"), replacing).await {
            // Somebody else has it.
            Err(error) if error.is_conflict() => Ok(()),
            answer => answer.map(drop),
        }
    }
}

/// Whether a Lease that was seen to be so for some time may be taken.
fn is_free(spec: &LeaseSpec, identity: &str, seen_for: Duration) -> bool {
    let duration = spec.lease_duration_seconds.and_then(|seconds| u64::try_from(seconds).ok());
    let duration = duration.map_or(DURATION, Duration::from_secs);
    match spec.holder_identity.as_deref() {
        None | Some("") => true,
        Some(holder) => holder == identity || seen_for >= duration,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_is_somebodys_until_it_was_not_renewed_for_its_duration() {
        let of = |holder: &str| LeaseSpec {
            holder_identity: Some(holder.into()),
            lease_duration_seconds: Some(15),
            ..LeaseSpec::default()
        };
        let seconds = Duration::from_secs;
        assert!(is_free(&LeaseSpec::default(), "a", seconds(0)), "nobody's");
        assert!(is_free(&of(""), "a", seconds(0)), "given up");
        assert!(is_free(&of("a"), "a", seconds(0)), "its own");
        assert!(!is_free(&of("b"), "a", seconds(14)));
        assert!(is_free(&of("b"), "a", seconds(15)));
    }
}
