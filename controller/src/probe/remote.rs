//! A probe that an agent makes from a pod, and tells of. What is not told is not observed: a stream that
//! breaks off or falls silent is a gap, which is filled with attempts that were not observed: they count
//! neither as good ones nor as failures of the system.

use std::{sync::Arc, time::Duration};

use faultline_probe::{Failure, FailureKind, Sample};
use faultline_proto::{boottime::BootTime, pb, probe::Spec, probe::value_of};
use futures::StreamExt as _;
use tokio::time;

use super::Samples;
use crate::{
    agents::{Agent, AgentClock, AgentError, Fleet},
    experiment::Probe,
    place::{Place, Pod},
};

/// How long an agent may be silent; it gives a sign of life four times a second.
const SILENCE_MAX: Duration = Duration::from_secs(2);
/// How long after a stream has ended the next is asked for.
const AGAIN_AFTER: Duration = Duration::from_millis(200);
/// Attempts that a gap is filled with at once, at most.
const GAP_LEN_MAX: usize = 4096;

/// From where something is tried.
#[derive(Debug)]
pub struct Remote {
    /// Where pods are.
    pub place: Arc<Place>,
    /// Who tries.
    pub fleet: Arc<Fleet>,
    /// From which pod; of what is called so now, where another one has taken its place.
    pub pod: Pod,
    /// What.
    pub spec: Spec,
}

/// How far it is known what came of the attempts.
#[derive(Debug)]
struct Told {
    samples: Samples,
    until: Duration,
}

impl Remote {
    /// Observes until it is dropped.
    pub(super) async fn observe(self, probe: Probe, samples: Samples) {
        let until = samples.now();
        samples.begin(until);
        let mut told = Told { samples, until };
        loop {
            let why = match self.open(&probe).await {
                Ok((stream, clock)) => told.listen(stream, clock).await,
                Err(why) => why,
            };
            told.gap(probe.every, &why);
            time::sleep(AGAIN_AFTER).await;
            told.gap(probe.every, &why);
        }
    }

    async fn open(
        &self,
        probe: &Probe,
    ) -> Result<(tonic::Streaming<pb::Observation>, AgentClock), String> {
        let pod = self.pod_now().ok_or("the pod is not there")?;
        let agent = self.fleet.get(&pod.node).ok_or("its node has no agent")?;
        let request = pb::ObserveRequest {
            target: Some(pod.container_target().into()),
            probe: Some(self.spec.clone().into()),
            every_ms: millis(probe.every),
            timeout_ms: millis(probe.timeout),
        };
        let opened = time::timeout(SILENCE_MAX, agent.observe(request)).await;
        let opened = opened.map_err(|_late| "its agent does not answer".to_owned())?;
        let stream = opened.map_err(|error| why(&error))?;
        Ok((stream, Agent::clock(agent)))
    }

    fn pod_now(&self) -> Option<Pod> {
        let (namespace, name) = (&self.pod.namespace, &self.pod.name);
        let pods = self.place.pods();
        pods.into_iter().find(|pod| pod.namespace == *namespace && pod.name == *name)
    }
}

fn why(error: &AgentError) -> String {
    match error {
        AgentError::Refused { status, .. } => status.message().to_owned(),
        AgentError::Missing { .. } => "its node has no agent".into(),
        AgentError::Unreachable { .. } => "its agent cannot be reached".into(),
        AgentError::Api(error) => error.to_string(),
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

impl Told {
    /// Takes in what an agent tells, until it no longer does; why that is so.
    async fn listen(
        &mut self,
        mut stream: tonic::Streaming<pb::Observation>,
        clock: AgentClock,
    ) -> String {
        loop {
            match time::timeout(SILENCE_MAX, stream.next()).await {
                Ok(Some(Ok(observation))) => self.take(observation, &clock),
                Ok(Some(Err(status))) => return value_of(status.message().as_bytes()),
                Ok(None) => return "the pod has gone, or its agent ended".into(),
                Err(_silent) => return "its agent is silent".into(),
            }
        }
    }

    fn take(&mut self, observation: pb::Observation, clock: &AgentClock) {
        let now = self.samples.now();
        // Nobody has observed what is yet to come, whatever is told.
        let here =
            |nanos| self.samples.run_time(clock.to_here(BootTime::from_nanos(nanos))).min(now);
        let settled = here(observation.settled_until_boottime_ns).max(self.until);
        let uncertainty = clock.uncertainty();
        let sample = observation.attempt.map(|attempt| Sample {
            uncertainty: uncertainty + Duration::from_nanos(attempt.late_ns),
            began: here(attempt.began_boottime_ns),
            took: Duration::from_nanos(attempt.took_ns),
            failure: attempt.failure.as_ref().map(failure),
            value: attempt.value.map(|value| value_of(value.as_bytes())),
        });
        // What was a gap stays one: it was counted already.
        let sample = sample.filter(|sample| sample.began >= self.until);
        self.until = self.samples.told(sample, self.until, settled);
    }

    /// Counts what was not told as not observed, one attempt for each that should have been made.
    fn gap(&mut self, every: Duration, why: &str) {
        let now = self.samples.now();
        let text = format!("could not be observed: {why}");
        for _ in 0..GAP_LEN_MAX {
            let next = self.until + every;
            if next > now {
                return;
            }
            let failure = Some(Failure::new(FailureKind::Unobserved, &text));
            let (began, took) = (self.until, Duration::ZERO);
            let sample = Sample { began, took, uncertainty: took, failure, value: None };
            self.until = self.samples.told(Some(sample), self.until, next);
        }
    }
}

fn failure(wire: &pb::Failure) -> Failure {
    let kind = FailureKind::from_name(&wire.kind).unwrap_or(FailureKind::Other);
    Failure::new(kind, value_of(wire.text.as_bytes()))
}
