//! The pods of a node, as its pid 1 keeps them. Killing the process that holds a pod deletes the pod:
//! all that it was made of goes, and a new one takes its place, as the controller of a `StatefulSet` or
//! a `ReplicaSet` makes one. New are its uid, its network namespace, its control groups and its folder,
//! and for one of several replicas the address as well.
//!
//! Containers that end are none of its business: their pod starts them again.

use std::{
    collections::HashSet,
    ffi::OsString,
    fs, io,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tokio::time::Instant;

use super::{
    address, cgroups, children,
    error::{Step as _, StepError, chain},
    event::Event,
    identity::write_private,
    layout::{NodePlan, PodPlan},
    network::Net,
    pod,
};

/// How long after its end a pod is made again: the first time, and at most.
const RECREATE_DELAY_MIN: Duration = Duration::from_millis(200);
const RECREATE_DELAY_MAX: Duration = Duration::from_secs(5);
/// After so long a life the delay is the first again.
const RECREATE_DELAY_RESET_AFTER: Duration = Duration::from_secs(10);
/// Between two looks at what of an ended pod is still there.
const CLEAR_EVERY: Duration = Duration::from_millis(5);

/// The pods of a node, by their places in its plan.
pub(super) struct Pods {
    places: Vec<PodPlace>,
    /// The last address given away.
    last_host: u8,
}

struct PodPlace {
    state: PlaceState,
    /// How long after its end the pod is made again.
    delay: Duration,
}

enum PlaceState {
    /// The process that holds the pod, and since when.
    Held { holder: i32, since: Instant },
    /// The pod has ended: what is left of it is looked at `next`.
    Ended { next: Instant, recreate: Instant },
    /// Nothing of it is left.
    Empty { recreate: Instant },
}

impl Pods {
    /// Starts all pods of a plan.
    pub(super) fn start(plan: &NodePlan) -> Result<Self, StepError> {
        let last_host = plan.pods.iter().map(|pod| pod.host).max().unwrap_or(1);
        let start = |index| {
            let holder = spawn(plan, index)?;
            let state = PlaceState::Held { holder, since: Instant::now() };
            Ok(PodPlace { state, delay: RECREATE_DELAY_MIN })
        };
        let places = (0..plan.pods.len()).map(start).collect::<Result<_, StepError>>()?;
        Ok(Self { places, last_host })
    }

    /// Takes note of a process that has ended, which may have held a pod.
    pub(super) fn ended(&mut self, plan: &NodePlan, pid: i32, status: String) {
        let Some(index) = self.places.iter().position(|place| place.holder() == Some(pid)) else {
            return;
        };
        let place = &mut self.places[index];
        let now = Instant::now();
        if let PlaceState::Held { since, .. } = place.state
            && now - since >= RECREATE_DELAY_RESET_AFTER
        {
            place.delay = RECREATE_DELAY_MIN;
        }
        place.state = PlaceState::Ended { next: now, recreate: now + place.delay };
        place.delay = RECREATE_DELAY_MAX.min(place.delay * 2);
        Event::PodEnded { uid: plan.pods[index].uid.clone(), status }.emit();
    }

    /// When there is something to do next.
    pub(super) fn next(&self) -> Option<Instant> {
        let due = |place: &PodPlace| match place.state {
            PlaceState::Held { .. } => None,
            PlaceState::Ended { next, .. } => Some(next),
            PlaceState::Empty { recreate } => Some(recreate),
        };
        self.places.iter().filter_map(due).min()
    }

    /// Does what is due: removes what is left of pods that have ended, and makes new ones.
    pub(super) async fn turn(&mut self, plan: &mut NodePlan) {
        let now = Instant::now();
        for index in 0..self.places.len() {
            match self.places[index].state {
                PlaceState::Ended { next, recreate } if next <= now => {
                    let gone = self.clear(plan, index).await;
                    let state = if gone {
                        PlaceState::Empty { recreate }
                    } else {
                        PlaceState::Ended { next: now + CLEAR_EVERY, recreate }
                    };
                    self.places[index].state = state;
                }
                PlaceState::Empty { recreate } if recreate <= now => self.recreate(plan, index),
                _ => {}
            }
        }
    }

    /// Kills and removes what a pod was made of. Returns whether all of it is gone: processes that
    /// were killed need a moment.
    async fn clear(&self, plan: &NodePlan, index: usize) -> bool {
        let pod = &plan.pods[index];
        let strays = self.kill_strays();
        let group = pod::cgroup(plan, pod);
        let groups: Vec<PathBuf> = plan.cgroups.iter().map(|root| root.path.join(&group)).collect();
        let groups_left = cgroups::clear_once(&groups);
        if strays || !groups_left.is_empty() {
            return false;
        }
        // Somebody may keep the network namespace open. Its cable goes all the same, as a network
        // plugin removes it.
        let cable = match Net::open(plan.ipv6) {
            Ok(net) => net.remove_pod(pod).await,
            Err(error) => Err(error),
        };
        let folders = folders(plan, pod).into_iter().map(|folder| remove(&folder));
        for error in std::iter::once(cable).chain(folders).filter_map(Result::err) {
            eprintln!("{}: {}", pod.name, chain(&error));
        }
        true
    }

    /// Kills what is in the network namespace of a pod that has no holder any more: without control
    /// groups nothing else tells what was in it. Returns whether there was something.
    fn kill_strays(&self) -> bool {
        let network = |pid: i32| fs::read_link(format!("/proc/{pid}/ns/net")).ok();
        let processes = procfs::process::all_processes().into_iter().flatten().flatten();
        let seen: Vec<(i32, PathBuf)> =
            processes.filter_map(|process| Some((process.pid, network(process.pid)?))).collect();
        // Only after the processes: a holder makes its namespace when it runs already.
        let holders = self.places.iter().filter_map(PodPlace::holder);
        let known: HashSet<PathBuf> =
            holders.chain([std::process::id().cast_signed()]).filter_map(network).collect();
        let strays = seen.into_iter().filter(|(_, network)| !known.contains(network));
        strays.fold(false, |_, (pid, _)| {
            kill(Pid::from_raw(pid), Signal::SIGKILL).ok();
            true
        })
    }

    fn recreate(&mut self, plan: &mut NodePlan, index: usize) {
        let now = Instant::now();
        self.places[index].state = match self.try_recreate(plan, index) {
            Ok(holder) => PlaceState::Held { holder, since: now },
            Err(error) => {
                eprintln!("{}: {}", plan.pods[index].name, chain(&error));
                PlaceState::Empty { recreate: now + RECREATE_DELAY_MAX }
            }
        };
    }

    fn try_recreate(&mut self, plan: &mut NodePlan, index: usize) -> Result<i32, StepError> {
        let old = &plan.pods[index];
        let free = plan.free_host(self.last_host).filter(|_| old.moves);
        let new = old.successor(free.unwrap_or(old.host))?;
        let event = Event::PodReplaced {
            old: old.uid.clone(),
            uid: new.uid.clone(),
            pause_id: new.pause_id.clone(),
            host: new.host,
        };
        self.last_host = free.unwrap_or(self.last_host);
        plan.pods[index] = new;
        let text = serde_json::to_string(plan).step(|| "write the plan of a node".into())?;
        write_private(&plan.file(), &text)?;
        // Known before it runs: what it reports is about this uid.
        event.emit();
        make_folders(plan, &plan.pods[index])?;
        spawn(plan, index)
    }
}

impl PodPlace {
    /// The process that holds its pod.
    fn holder(&self) -> Option<i32> {
        match self.state {
            PlaceState::Held { holder, .. } => Some(holder),
            PlaceState::Ended { .. } | PlaceState::Empty { .. } => None,
        }
    }
}

/// Starts the process that holds a pod.
fn spawn(plan: &NodePlan, index: usize) -> Result<i32, StepError> {
    let pod = &plan.pods[index];
    let address = address::pod(plan.index, pod.host).v4;
    let arguments: [OsString; 2] = [plan.file().into(), index.to_string().into()];
    let child = children::role(pod::ROLE, arguments)
        .env("POD_NAME", &pod.name)
        .env("POD_NAMESPACE", &pod.namespace)
        .env("POD_IP", address.to_string())
        .env("NODE_NAME", &plan.name)
        .stdin(Stdio::null())
        .spawn()
        .step(|| format!("start pod {}", pod.name))?;
    Ok(i32::try_from(child.id()).unwrap_or(0))
}

/// The folders of a pod: among the node's logs, and for the pids of its containers.
fn folders(plan: &NodePlan, pod: &PodPlan) -> Vec<PathBuf> {
    let pids = plan.pids_dir().map(|pids| pids.join(&pod.uid));
    std::iter::once(plan.pods_dir().join(pod.folder())).chain(pids).collect()
}

/// Makes the folders of a pod.
pub(super) fn make_folders(plan: &NodePlan, pod: &PodPlan) -> Result<(), StepError> {
    folders(plan, pod).iter().try_for_each(|folder| super::runtime_dir::make(folder))
}

fn remove(folder: &Path) -> Result<(), StepError> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).step(|| format!("remove {}", folder.display()))
        }
        _ => Ok(()),
    }
}
