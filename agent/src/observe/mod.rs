//! Probes seen from a pod: attempts that are made from its network namespace, as often as was asked,
//! and told to the controller one by one.
//!
//! It changes nothing, and so needs no lease: it ends with the stream that it is told on, or with the
//! pod. What is meant by what was observed is the controller's to say.

mod dialer;
mod schedule;

use std::{
    fs::File,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use faultline_probe::{Attempt, Sample};
use faultline_proto::{limits::OBSERVED_PER_NODE_MAX, probe::Spec, target::Target};
use thiserror::Error;
use tokio::sync::mpsc;

use crate::{
    fault::Refusal,
    kernel::{KernelError, process::ProcessId, sockets::Sockets},
    resolve::Resolver,
};

/// What is to be observed.
#[derive(Debug, Clone)]
pub struct Request {
    /// From where: a container of a pod.
    pub target: Target,
    /// What is tried.
    pub probe: Spec,
    /// From the start of one attempt to the start of the next.
    pub every: Duration,
    /// How long one attempt may take.
    pub timeout: Duration,
}

/// An attempt that has ended, or the news that none has for a while.
#[derive(Debug, Clone)]
pub struct Observation {
    /// The attempt. Its times are those of `CLOCK_BOOTTIME`.
    pub sample: Option<Sample>,
    /// Every attempt that began before this has ended and was told, in `CLOCK_BOOTTIME`.
    pub settled_until: Duration,
}

/// Why nothing is observed.
#[derive(Debug, Error)]
pub enum ObserveError {
    /// Not from there.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The target names no container whose files say which names there are.
    #[error("the target names no container")]
    NoContainer,
    /// A secure connection cannot be made ready.
    #[error("{0}")]
    NotReady(String),
    /// Enough is observed already.
    #[error("{OBSERVED_PER_NODE_MAX} probes are made from pods of this node already")]
    TooMany,
    /// The pod's namespace cannot be entered.
    #[error("cannot observe from the pod")]
    Kernel(#[from] KernelError),
}

/// Whoever observes on this node.
#[derive(Debug, Clone, Default)]
pub struct Observers {
    count: Arc<AtomicUsize>,
}

/// One of those that observe; counted for as long as it lives.
#[derive(Debug)]
struct Seat(Arc<AtomicUsize>);

impl Observers {
    /// Begins to observe, until the receiver is dropped or the pod goes.
    ///
    /// # Errors
    /// When it cannot be observed from there.
    pub async fn start(
        &self,
        resolver: &Arc<Resolver>,
        request: Request,
    ) -> Result<mpsc::Receiver<Observation>, ObserveError> {
        let seat = self.seat()?;
        let attempt = Attempt::new(&request.probe).map_err(ObserveError::NotReady)?;
        let (resolver, target) = (Arc::clone(resolver), request.target.clone());
        let (main, sockets) = tokio::task::spawn_blocking(move || enter(&resolver, &target))
            .await
            .map_err(|_panicked| ObserveError::NotReady("the pod could not be found".into()))??;
        let (tell, told) = mpsc::channel(schedule::TOLD_LEN_MAX);
        let times = schedule::Times { every: request.every, timeout: request.timeout };
        let observing = schedule::run(attempt, sockets, times, tell, move || main.is_alive());
        tokio::spawn(async move {
            // Whichever ends first ends the other: attempts do not outlive either.
            tokio::select! {
                () = observing => {}
                () = schedule::gone(main) => {}
            }
            drop(seat);
        });
        Ok(told)
    }

    fn seat(&self) -> Result<Seat, ObserveError> {
        let taken = self.count.fetch_add(1, Ordering::Relaxed);
        let seat = Seat(Arc::clone(&self.count));
        if taken >= OBSERVED_PER_NODE_MAX { Err(ObserveError::TooMany) } else { Ok(seat) }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Finds the pod, by identity and within this agent's policy, and enters its namespace.
fn enter(resolver: &Resolver, target: &Target) -> Result<(ProcessId, Sockets), ObserveError> {
    let resolved = resolver.resolve(target)?;
    let main = resolved.container.ok_or(ObserveError::NoContainer)?.main;
    let path = format!("/proc/{}/root", main.pid);
    let root = File::open(&path).map_err(|e| KernelError::io("open", &path, e))?;
    // Its number may have become another's since it was looked at.
    if !main.is_alive() {
        return Err(Refusal::TargetGone { what: format!("pod {target}") }.into());
    }
    Ok((main, Sockets::inside(&resolved.net_ns, root)?))
}
