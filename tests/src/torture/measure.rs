//! When effects ended, seen from outside: traffic by datagrams of the harness's own, stopped processes
//! by `/proc`. Times are of CLOCK_BOOTTIME, as those of leases.

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

/// Now, on the clock of leases.
pub(super) fn now() -> BootTime {
    let time = clock_gettime(ClockId::CLOCK_BOOTTIME).map_or(Duration::ZERO, Duration::from);
    BootTime::from_nanos(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX))
}

/// Something that is watched from outside until it is asked when its effect ended.
#[derive(Debug)]
pub(super) struct Watch {
    stop: Arc<AtomicBool>,
    task: JoinHandle<Option<BootTime>>,
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
        Ok(Self::start(move |stop| traffic(&socket, stop)))
    }

    /// Watches the processes of a container that are not stopped now.
    pub(super) fn processes(container: &str) -> Self {
        let pids: Vec<i32> = processes_in_cgroup(container)
            .into_iter()
            .filter(|pid| state(*pid) != Some('T'))
            .collect();
        Self::start(move |stop| {
            let mut last = None;
            while !stop.load(Ordering::SeqCst) {
                if pids.iter().any(|pid| state(*pid) == Some('T')) {
                    last = Some(now());
                }
                thread::sleep(STEP);
            }
            last
        })
    }

    fn start(watch: impl FnOnce(&AtomicBool) -> Option<BootTime> + Send + 'static) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        Self { stop, task: thread::spawn(move || watch(&stopped)) }
    }

    /// Ends it. Returns when the effect was seen last; `None` if it never was.
    pub(super) fn last_seen(self) -> Option<BootTime> {
        self.stop.store(true, Ordering::SeqCst);
        self.task.join().ok().flatten()
    }
}

/// When the last datagram was sent that was lost, those of the last moment excepted: their answers
/// may be on their way.
fn traffic(socket: &UdpSocket, stop: &AtomicBool) -> Option<BootTime> {
    let mut open: BTreeMap<u32, BootTime> = BTreeMap::new();
    let mut number = 0_u32;
    let mut newest_back = 0;
    let mut buffer = [0; 64];
    while !stop.load(Ordering::SeqCst) {
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
            }
        }
    }
    open.range(..newest_back).next_back().map(|(_, sent)| *sent)
}
