//! One attempt of each kind of probe: those that need a network only are the crate `probe`'s; a command, and
//! how pods are, is a matter of the place.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use faultline_probe::{Attempt, Failure, FailureKind, HostDialer};
use faultline_proto::{
    probe::{Exec, value_of},
    yaml::quote,
};

use super::{ObjectAttempt, PodsAttempt};
use crate::{
    cluster::ObjectWatch,
    experiment::{ProbeKind, Selector},
    place::{ExecError, Place, Pod},
};

/// The pod that a command runs in: another one, once another one has taken its place.
#[derive(Debug, Clone)]
pub struct CurrentPod(Arc<Mutex<Pod>>);

impl CurrentPod {
    /// At first.
    pub fn new(pod: Pod) -> Self {
        Self(Arc::new(Mutex::new(pod)))
    }

    /// From now on.
    pub fn set(&self, pod: Pod) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = pod;
    }

    fn get(&self) -> Pod {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// What is tried, with all that it takes to try it.
#[derive(Debug)]
pub enum Target {
    /// Something in the network, from where this process is.
    Network {
        /// What.
        attempt: Attempt,
        /// Its way there.
        dialer: HostDialer,
    },
    /// A command in a pod.
    Exec {
        /// Where pods are.
        place: Arc<Place>,
        /// In which.
        pod: CurrentPod,
        /// What is run.
        exec: Exec,
    },
    /// Pods, as the place tells them.
    Pods(Box<PodsAttempt>),
    /// An object of a cluster.
    Object(Box<ObjectAttempt>),
}

impl Target {
    /// Makes ready what a probe tries. `exec_pod` is the pod that an exec probe's command runs in, `object` what a
    /// kubernetes probe looks at, and `targets` are those of the experiment.
    pub fn new(
        kind: &ProbeKind,
        place: &Arc<Place>,
        exec_pod: Option<CurrentPod>,
        object: Option<ObjectWatch>,
        dialer: &HostDialer,
        targets: &BTreeMap<String, Selector>,
    ) -> Result<Self, String> {
        Ok(match kind {
            ProbeKind::Network(spec) => {
                Self::Network { attempt: Attempt::new(spec)?, dialer: dialer.clone() }
            }
            ProbeKind::Exec(exec) => {
                let target = &exec.target.value;
                let pod = exec_pod.ok_or_else(|| format!("target `{target}` is nobody"))?;
                Self::Exec { place: Arc::clone(place), pod, exec: exec.clone() }
            }
            ProbeKind::Pods(pods) => Self::Pods(Box::new(PodsAttempt::new(pods, place, targets)?)),
            ProbeKind::Kubernetes(asked) => {
                let watch = object.ok_or_else(|| format!("{} is not watched", asked.object))?;
                Self::Object(Box::new(ObjectAttempt::new(asked, watch)))
            }
        })
    }

    /// Tries once: the value that was observed, if this kind has one, or why it failed.
    pub(super) async fn attempt(&self, timeout: Duration) -> Result<Option<String>, Failure> {
        match self {
            Self::Network { attempt, dialer } => attempt.run(dialer).await,
            Self::Exec { place, pod, exec } => run(place, &pod.get(), exec, timeout).await,
            Self::Pods(pods) => pods.look(),
            Self::Object(object) => object.look(),
        }
    }
}

/// Runs a command; what it prints is the value that it observes.
async fn run(
    place: &Place,
    pod: &Pod,
    exec: &Exec,
    timeout: Duration,
) -> Result<Option<String>, Failure> {
    let outcome = place.exec(pod, &exec.command, timeout).await.map_err(|error| {
        let kind = match error {
            ExecError::TimedOut { .. } => FailureKind::Timeout,
            _ => FailureKind::Exec,
        };
        Failure::new(kind, error.to_string())
    })?;
    if outcome.code != 0 {
        return Err(Failure::new(FailureKind::Exec, format!("exit code {}", outcome.code)));
    }
    let printed = value_of(&outcome.stdout);
    let Some(expect) = &exec.expect else { return Ok(Some(printed)) };
    match expect.find(&outcome.stdout) {
        Some(found) => Ok(Some(found.value.unwrap_or(printed))),
        None => Err(Failure::new(FailureKind::Mismatch, format!("it printed {}", quote(&printed)))),
    }
}
