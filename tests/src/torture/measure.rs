//! When effects ended, seen from outside: traffic by datagrams of the harness's own, stopped processes
//! by `/proc`. Times are of `CLOCK_BOOTTIME`, as those of leases.

use std::{
    collections::BTreeMap,
    io,
    net::{SocketAddr, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use faultline_proto::boottime::BootTime;
use nix::time::{ClockId, clock_gettime};

use super::dump::state;
use crate::observer::{in_net_ns_of, processes_in_cgroup};

/// Between two datagrams, and two looks at processes: what a figure may be off by.
pub(super) const STEP: Duration = Duration::from_millis(2);

/// Without an answer for so long, a way is cut.
const SILENCE_MAX: Duration = Duration::from_millis(50);

/// Now, on the clock of leases.
pub(super) fn now() -> BootTime {
    let time = clock_gettime(ClockId::CLOCK_BOOTTIME).map_or(Duration::ZERO, Duration::from);
    BootTime::from_nanos(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX))
}

/// Something that is watched from outside until it is asked when its effect ended.
#[derive(Debug)]
pub(super) struct Watch {
    shared: Arc<Shared>,
    task: JoinHandle<Option<BootTime>>,
}

#[derive(Debug, Default)]
struct Shared {
    stop: AtomicBool,
    /// The effect is there now.
    acts: AtomicBool,
}

impl Shared {
    fn goes_on(&self) -> bool {
        !self.stop.load(Ordering::SeqCst)
    }

    fn note(&self, acts: bool) {
        self.acts.store(acts, Ordering::SeqCst);
    }
}

impl Watch {
    /// Watches the way of datagrams from the network of a process to an echo.
    pub(super) fn traffic(pid: i32, to: SocketAddr) -> io::Result<Self> {
        let socket = in_net_ns_of(pid, || {
            let any = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
            let socket = UdpSocket::bind(any)?;
            socket.connect(to)?;
            socket.set_nonblocking(true)?;
            Ok::<_, io::Error>(socket)
        })?;
        Ok(Self::start(move |shared| traffic(&socket, shared)))
    }

    /// Watches the processes of a container that are not stopped now.
    pub(super) fn processes(container: &str) -> Self {
        let pids: Vec<i32> = processes_in_cgroup(container)
            .into_iter()
            .filter(|pid| state(*pid) != Some('T'))
            .collect();
        Self::start(move |shared| {
            let mut last = None;
            while shared.goes_on() {
                let acts = pids.iter().any(|pid| state(*pid) == Some('T'));
                shared.note(acts);
                if acts {
                    last = Some(now());
                }
                thread::sleep(STEP);
            }
            last
        })
    }

    fn start(watch: impl FnOnce(&Shared) -> Option<BootTime> + Send + 'static) -> Self {
        let shared = Arc::new(Shared::default());
        let theirs = Arc::clone(&shared);
        Self { shared, task: thread::spawn(move || watch(&theirs)) }
    }

    /// Whether the effect is there now.
    pub(super) fn acts(&self) -> bool {
        self.shared.acts.load(Ordering::SeqCst)
    }

    /// Ends it. Returns when the effect was seen last; `None` if it never was.
    pub(super) fn last_seen(self) -> Option<BootTime> {
        self.shared.stop.store(true, Ordering::SeqCst);
        self.task.join().ok().flatten()
    }
}

/// When the last datagram was sent that was lost. As long as none comes back, that is the last one of
/// all; otherwise those of the last moment do not count: their answers may be on their way.
fn traffic(socket: &UdpSocket, shared: &Shared) -> Option<BootTime> {
    let mut open: BTreeMap<u32, BootTime> = BTreeMap::new();
    let (mut number, mut newest_back, mut heard) = (0_u32, 0, now());
    let mut buffer = [0; 64];
    while shared.goes_on() {
        open.insert(number, now());
        // A cut answers with an error here or there; what counts is what comes back.
        drop(socket.send(&number.to_be_bytes()));
        number = number.wrapping_add(1);
        thread::sleep(STEP);
        while let Ok(length) = socket.recv(&mut buffer) {
            let back = buffer.get(..length).and_then(|b| <[u8; 4]>::try_from(b).ok());
            if let Some(back) = back.map(u32::from_be_bytes) {
                open.remove(&back);
                newest_back = newest_back.max(back);
                heard = now();
            }
        }
        shared.note(now().since(heard) > SILENCE_MAX);
    }
    let end = if shared.acts.load(Ordering::SeqCst) { number } else { newest_back };
    open.range(..end).next_back().map(|(_, sent)| *sent)
}
