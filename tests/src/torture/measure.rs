//! When effects began and ended, seen from outside: traffic by datagrams of the harness's own, stopped
//! processes by `/proc`, memory by the control group. Every observable of every target is watched, in
//! every round. Times are of `CLOCK_BOOTTIME`, as those of leases.

use std::{
    fs::File,
    io,
    net::{SocketAddr, UdpSocket},
    os::unix::fs::FileExt as _,
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use faultline_proto::{boottime::BootTime, fault::Observable};
use nix::time::{ClockId, clock_gettime};

use super::{draw::Spot, dump::state};
use crate::observer::{in_net_ns_of, processes_in_cgroup};

/// Between two looks: what a figure may be off by.
const STEP: Duration = Duration::from_millis(4);
/// Without an answer for so long, a way is cut.
const SILENCE_MAX: Duration = Duration::from_millis(50);
/// So much later an answer may still come when a watch ends: what was late was not lost.
const LATE_MAX: Duration = Duration::from_millis(250);
/// More memory than at the start by so much is somebody's doing: pressure is several times that, the
/// breathing of an echo a tenth.
const MEMORY_MORE_MIN: u64 = 6 << 20;

/// Now, on the clock of leases.
pub(super) fn now() -> BootTime {
    let time = clock_gettime(ClockId::CLOCK_BOOTTIME).map_or(Duration::ZERO, Duration::from);
    BootTime::from_nanos(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX))
}

/// An effect that was seen.
#[derive(Debug, Clone)]
pub(super) struct Seen {
    /// On which pod.
    pub(super) spot: Spot,
    /// By what.
    pub(super) by: Observable,
    /// When it was seen first.
    pub(super) first: BootTime,
    /// When it was seen last.
    pub(super) last: BootTime,
    /// When it was first seen to be over after that; `None`: it was not.
    pub(super) over: Option<BootTime>,
    /// What exactly was watched, for a person.
    pub(super) what: String,
}

/// What is watched of one pod.
#[derive(Debug)]
pub(super) struct Sight {
    spot: Spot,
    sense: Sense,
    history: History,
}

#[derive(Debug)]
enum Sense {
    /// Datagrams to an echo: for each when it was sent, and whether it came back.
    Way { socket: UdpSocket, to: SocketAddr, sent: Vec<(BootTime, bool)>, heard: BootTime },
    /// Processes that were not stopped at the start.
    Processes { pids: Vec<i32> },
    /// The usage of a control group, and what it was at the start.
    Memory { file: File, path: PathBuf, first_bytes: u64 },
}

/// When something was seen.
#[derive(Debug, Default, Clone, Copy)]
struct History {
    first: Option<BootTime>,
    last: Option<BootTime>,
    over: Option<BootTime>,
}

impl History {
    fn note(&mut self, at: BootTime, acts: bool) {
        if acts {
            self.first = self.first.or(Some(at));
            (self.last, self.over) = (Some(at), None);
        } else if self.last.is_some() {
            self.over = self.over.or(Some(at));
        }
    }
}

impl Sight {
    /// Watches the way of datagrams from the network of a process to an echo.
    ///
    /// # Errors
    /// When there is no socket for it.
    pub(super) fn traffic(spot: Spot, pid: i32, to: SocketAddr) -> io::Result<Self> {
        let socket = in_net_ns_of(pid, || {
            let any = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
            let socket = UdpSocket::bind(any)?;
            socket.connect(to)?;
            socket.set_nonblocking(true)?;
            Ok::<_, io::Error>(socket)
        })?;
        Ok(Self::of(spot, Sense::Way { socket, to, sent: Vec::new(), heard: now() }))
    }

    /// Watches the processes of a container that are not stopped now.
    pub(super) fn processes(spot: Spot, container: &str) -> Self {
        let mut pids = processes_in_cgroup(container);
        pids.retain(|pid| state(*pid) != Some('T'));
        Self::of(spot, Sense::Processes { pids })
    }

    /// Watches what is charged to a control group.
    ///
    /// # Errors
    /// When that cannot be read.
    pub(super) fn memory(spot: Spot, path: PathBuf) -> io::Result<Self> {
        let file = File::open(&path)?;
        let first_bytes = usage(&file).ok_or(io::ErrorKind::InvalidData)?;
        Ok(Self::of(spot, Sense::Memory { file, path, first_bytes }))
    }

    fn of(spot: Spot, sense: Sense) -> Self {
        Self { spot, sense, history: History::default() }
    }

    /// Looks once. Returns whether the effect is there now. Whoever answers may have been held up as
    /// long as this watch was.
    fn look(&mut self, held_up: Duration) -> bool {
        // Before it is looked at: a thread that is held up must not make an effect last longer.
        let at = now();
        match &mut self.sense {
            Sense::Way { socket, sent, heard, .. } => {
                if hear(socket, sent) {
                    *heard = at;
                }
                let number = u32::try_from(sent.len()).unwrap_or(u32::MAX);
                sent.push((now(), false));
                // A cut answers with an error here or there; what counts is what comes back.
                drop(socket.send(&number.to_be_bytes()));
                at.since(*heard) > SILENCE_MAX + held_up
            }
            Sense::Processes { pids } => {
                let acts = pids.iter().any(|pid| state(*pid) == Some('T'));
                self.history.note(at, acts);
                acts
            }
            Sense::Memory { file, first_bytes, .. } => {
                // One that has gone holds nothing.
                let acts = usage(file).is_some_and(|now| now > *first_bytes + MEMORY_MORE_MIN);
                self.history.note(at, acts);
                acts
            }
        }
    }

    /// Hears the answers that have come. Returns whether the newest datagrams wait for theirs.
    fn waits(&mut self) -> bool {
        let Sense::Way { socket, sent, .. } = &mut self.sense else { return false };
        hear(socket, sent);
        sent.last().is_some_and(|(_, back)| !back)
    }

    /// What has been seen of it.
    fn seen(self) -> Option<Seen> {
        let (by, what, history) = match self.sense {
            Sense::Way { to, sent, .. } => {
                (Observable::Traffic, format!("datagrams to {to}"), losses(&sent))
            }
            Sense::Processes { pids } => {
                (Observable::Processes, format!("processes {pids:?}"), self.history)
            }
            Sense::Memory { path, .. } => {
                (Observable::Memory, path.display().to_string(), self.history)
            }
        };
        let History { first, last, over } = history;
        Some(Seen { spot: self.spot, by, first: first?, last: last?, over, what })
    }
}

/// Marks what has come back. Returns whether anything has.
fn hear(socket: &UdpSocket, sent: &mut [(BootTime, bool)]) -> bool {
    let (mut buffer, mut heard) = ([0; 64], false);
    while let Ok(length) = socket.recv(&mut buffer) {
        let number = buffer.get(..length).and_then(|b| <[u8; 4]>::try_from(b).ok());
        let number = number.and_then(|b| usize::try_from(u32::from_be_bytes(b)).ok());
        if let Some(entry) = number.and_then(|number| sent.get_mut(number)) {
            entry.1 = true;
            heard = true;
        }
    }
    heard
}

/// When datagrams were sent that were lost: all had the time to come back.
fn losses(sent: &[(BootTime, bool)]) -> History {
    let mut history = History::default();
    for (at, back) in sent {
        history.note(*at, !back);
    }
    history
}

fn usage(file: &File) -> Option<u64> {
    let mut buffer = [0; 32];
    let length = file.read_at(&mut buffer, 0).ok()?;
    std::str::from_utf8(buffer.get(..length)?).ok()?.trim().parse().ok()
}

/// Something that watches until it is asked what it has seen.
#[derive(Debug)]
pub(super) struct Watch {
    shared: Arc<Shared>,
    task: JoinHandle<(Vec<Seen>, Duration)>,
}

#[derive(Debug, Default)]
struct Shared {
    stop: AtomicBool,
    /// Some effect is there now.
    acts: AtomicBool,
    /// Pods that are gone: nothing more is to be seen of them.
    gone: Mutex<Vec<Spot>>,
}

impl Watch {
    /// Begins.
    pub(super) fn start(sights: Vec<Sight>) -> Self {
        let shared = Arc::new(Shared::default());
        let theirs = Arc::clone(&shared);
        Self { shared, task: thread::spawn(move || watch(sights, &theirs)) }
    }

    /// Whether some effect is there now.
    pub(super) fn acts(&self) -> bool {
        self.shared.acts.load(Ordering::SeqCst)
    }

    /// Sees no more of a pod that is deleted, nor of the ways to it.
    pub(super) fn forget(&self, spot: Spot) {
        self.shared.gone.lock().unwrap_or_else(PoisonError::into_inner).push(spot);
    }

    /// Ends it. Returns what was seen, and how long the watch was held up at most: where that is long,
    /// this machine has no time for anybody.
    pub(super) fn seen(self) -> (Vec<Seen>, Duration) {
        self.shared.stop.store(true, Ordering::SeqCst);
        self.task.join().unwrap_or_default()
    }
}

fn watch(mut sights: Vec<Sight>, shared: &Shared) -> (Vec<Seen>, Duration) {
    let mut held_up = Duration::ZERO;
    while !shared.stop.load(Ordering::SeqCst) {
        let gone = shared.gone.lock().unwrap_or_else(PoisonError::into_inner).clone();
        sights.retain(|sight| {
            !gone.iter().any(|gone| match sight.sense {
                Sense::Way { .. } => gone.node == sight.spot.node,
                _ => *gone == sight.spot,
            })
        });
        let acting: Vec<bool> = sights.iter_mut().map(|sight| sight.look(held_up)).collect();
        shared.acts.store(acting.contains(&true), Ordering::SeqCst);
        let before = Instant::now();
        thread::sleep(STEP);
        held_up = held_up.max(before.elapsed().saturating_sub(STEP));
    }
    let end = Instant::now() + LATE_MAX + held_up;
    while any_waits(&mut sights) && Instant::now() < end {
        thread::sleep(STEP);
    }
    (sights.into_iter().filter_map(Sight::seen).collect(), held_up)
}

/// Whether any of them waits for answers. All are heard.
fn any_waits(sights: &mut [Sight]) -> bool {
    let mut any = false;
    for sight in sights {
        any |= sight.waits();
    }
    any
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> BootTime {
        BootTime::from_nanos(ms * 1_000_000)
    }

    fn history(came_back: &[bool]) -> [Option<BootTime>; 3] {
        let sent: Vec<_> = (0..).map(at).zip(came_back.iter().copied()).collect();
        let History { first, last, over } = losses(&sent);
        [first, last, over]
    }

    #[test]
    fn an_outage_is_from_the_first_to_the_last_that_was_lost() {
        let (back, lost) = (true, false);
        assert_eq!(history(&[back, back]), [None, None, None]);
        assert_eq!(history(&[back, lost, lost, back]), [Some(at(1)), Some(at(2)), Some(at(3))]);
        assert_eq!(history(&[back, lost, back, lost]), [Some(at(1)), Some(at(3)), None]);
    }

    #[test]
    fn what_is_late_is_not_lost() {
        let echo = UdpSocket::bind("127.0.0.1:0").expect("a socket");
        let to = echo.local_addr().expect("an address");
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
        socket.connect(to).expect("connected");
        socket.set_nonblocking(true).expect("set");
        let spot = Spot { node: 0, pod: 0 };
        let sense = Sense::Way { socket, to, sent: Vec::new(), heard: now() };
        let watch = Watch::start(vec![Sight::of(spot, sense)]);
        while !watch.acts() {
            thread::sleep(STEP);
        }
        // It answers only now, when the watch ends.
        let answer = thread::spawn(move || {
            thread::sleep(LATE_MAX / 5);
            let mut buffer = [0; 64];
            while let Ok((length, from)) = echo.recv_from(&mut buffer) {
                drop(echo.send_to(&buffer[..length], from));
                echo.set_read_timeout(Some(LATE_MAX)).expect("set");
            }
        });
        assert!(watch.seen().0.is_empty(), "all came back in the end");
        answer.join().expect("answered");
    }
}
