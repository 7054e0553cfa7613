//! A probe that an agent makes from a pod, and tells of. What is not told is not observed: a stream that
//! breaks off or falls silent is a gap, which is filled with attempts that were not observed: they count
//! neither as good ones nor as failures of the system. Once its pod has gone, it goes on from the one that was made
//! in its place.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use faultline_probe::{Failure, FailureKind, Sample};
use faultline_proto::{boottime::BootTime, pb, probe::Spec, probe::value_of};
use futures::StreamExt as _;
use tokio::{sync::mpsc::UnboundedSender, time};

use super::Samples;
use crate::{
    agents::{Agent, AgentClock, AgentError, Fleet},
    experiment::Probe,
    place::{Place, Pod},
    plan::Observers,
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
    /// From which pod.
    pub observer: Observer,
    /// What.
    pub spec: Spec,
    /// Who is told that it goes on from another pod.
    pub moves: UnboundedSender<Move>,
}

/// The pod that something is tried from: another one, once that was made in its place.
#[derive(Debug, Clone)]
pub struct Observer {
    all: Arc<Mutex<Observers>>,
    seat: usize,
}

impl Observer {
    /// The one that has this seat among all of a run.
    pub fn new(all: &Arc<Mutex<Observers>>, seat: usize) -> Self {
        Self { all: Arc::clone(all), seat }
    }

    fn pod_now(&self, place: &Place) -> Option<Pod> {
        // Looked at under the lock: what is decided later is not decided by what was seen earlier.
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        all.pod_now(self.seat, &place.pods())
    }
}

/// A probe goes on from another pod than before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Move {
    /// The probe, as it is called in reports.
    pub probe: String,
    /// The pod that it is made from now, as `namespace/name`.
    pub to: String,
    /// The one that it was made from.
    pub from: String,
    /// When the first attempt could be made there, since the run began.
    pub at: Duration,
}

/// How far it is known what came of the attempts.
#[derive(Debug)]
struct Told {
    samples: Samples,
    until: Duration,
}

impl Remote {
    /// Observes until it is dropped. `from` is the pod that it is made from at first.
    pub(super) async fn observe(self, probe: Probe, samples: Samples, mut from: String) {
        let until = samples.now();
        samples.begin(until);
        let mut told = Told { samples, until };
        let mut gap: Option<String> = None;
        loop {
            let why = match self.open(&probe).await {
                Ok((stream, clock, pod)) => {
                    // Asking may have taken its time.
                    if let Some(why) = &gap {
                        told.gap(probe.every, why);
                    }
                    self.tell_move(&probe, &mut from, pod, told.samples.now());
                    told.listen(stream, clock).await
                }
                Err(why) => why,
            };
            told.gap(probe.every, &why);
            time::sleep(AGAIN_AFTER).await;
            told.gap(probe.every, &why);
            gap = Some(why);
        }
    }

    /// Tells of a pod that it is made from now, where that is another one than before.
    fn tell_move(&self, probe: &Probe, from: &mut String, pod: String, at: Duration) {
        if pod == *from {
            return;
        }
        let from = std::mem::replace(from, pod.clone());
        // Nobody listens any more where the run is over.
        drop(self.moves.send(Move { probe: probe.name.clone(), to: pod, from, at }));
    }

    async fn open(
        &self,
        probe: &Probe,
    ) -> Result<(tonic::Streaming<pb::Observation>, AgentClock, String), String> {
        let pod = self.observer.pod_now(&self.place).ok_or("the pod is not there")?;
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
        Ok((stream, Agent::clock(agent), pod.target().to_string()))
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
