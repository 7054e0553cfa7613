//! Timers on `CLOCK_BOOTTIME` that the kernel keeps: the end of a lease in a helper process.

use std::os::fd::{AsFd, BorrowedFd};

use faultline_proto::boottime::BootTime;
use nix::{
    sys::{
        signal::{SigEvent, SigevNotify, Signal},
        time::TimeSpec,
        timer::{self, Timer, TimerSetTimeFlags},
        timerfd::{ClockId as FdClockId, Expiration, TimerFd, TimerFlags},
    },
    time::ClockId,
};

use super::KernelError;

/// Kills this process at a time, whatever it is doing: stopped, or stuck in the kernel in a wait
/// that a fatal signal ends (`timer_create(2)` with `SIGKILL`). Dropping it disarms it.
#[derive(Debug)]
pub struct KillTimer {
    timer: Timer,
}

impl KillTimer {
    /// Arms it. A time that is past means now.
    ///
    /// # Errors
    /// When the kernel gives no timer.
    pub fn arm(at: BootTime) -> Result<Self, KernelError> {
        let event =
            SigEvent::new(SigevNotify::SigevSignal { signal: Signal::SIGKILL, si_value: 0 });
        let timer = Timer::new(ClockId::CLOCK_BOOTTIME, event)
            .map_err(|e| KernelError::io("make", "a timer", e))?;
        let mut this = Self { timer };
        this.set(at)?;
        Ok(this)
    }

    /// Moves it.
    ///
    /// # Errors
    /// When the kernel refuses the time; it then acts when it would have.
    pub fn set(&mut self, at: BootTime) -> Result<(), KernelError> {
        let at = timer::Expiration::OneShot(time_spec(at));
        self.timer
            .set(at, TimerSetTimeFlags::TFD_TIMER_ABSTIME)
            .map_err(|e| KernelError::io("set", "a timer", e))
    }
}

/// A descriptor that becomes readable at a time (`timerfd_create(2)`).
#[derive(Debug)]
pub struct TimerDescriptor {
    timer: TimerFd,
}

impl TimerDescriptor {
    /// Arms it. A time that is past means now.
    ///
    /// # Errors
    /// When the kernel gives no timer.
    pub fn arm(at: BootTime) -> Result<Self, KernelError> {
        let flags = TimerFlags::TFD_CLOEXEC | TimerFlags::TFD_NONBLOCK;
        let timer = TimerFd::new(FdClockId::CLOCK_BOOTTIME, flags)
            .map_err(|e| KernelError::io("make", "a timer", e))?;
        let this = Self { timer };
        this.set(at)?;
        Ok(this)
    }

    /// Moves it.
    ///
    /// # Errors
    /// When the kernel refuses the time; it then acts when it would have.
    pub fn set(&self, at: BootTime) -> Result<(), KernelError> {
        self.timer
            .set(Expiration::OneShot(time_spec(at)), TimerSetTimeFlags::TFD_TIMER_ABSTIME)
            .map_err(|e| KernelError::io("set", "a timer", e))
    }
}

impl AsFd for TimerDescriptor {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.timer.as_fd()
    }
}

/// Zero would disarm a timer, so that it is taken for the next nanosecond.
fn time_spec(at: BootTime) -> TimeSpec {
    TimeSpec::from_duration(std::time::Duration::from_nanos(at.as_nanos().max(1)))
}
