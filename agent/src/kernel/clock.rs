//! `CLOCK_BOOTTIME`: the one clock that leases and deadlines are kept on.

use std::{thread, time::Duration};

use faultline_proto::boottime::BootTime;
use nix::time::{ClockId, clock_gettime};

/// Now. The clock exists since Linux 2.6.39, so that reading it cannot fail (`clock_gettime(2)`).
pub fn now() -> BootTime {
    let time = clock_gettime(ClockId::CLOCK_BOOTTIME)
        .expect("CLOCK_BOOTTIME is readable since Linux 2.6.39");
    BootTime::from_nanos(u64::try_from(Duration::from(time).as_nanos()).unwrap_or(u64::MAX))
}

/// Sleeps until `time`, or not at all if it is past.
pub fn sleep_until(time: BootTime) {
    thread::sleep(time.since(now()));
}
