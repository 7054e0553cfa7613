//! Handles on processes that cannot come to mean another process: `pidfd_open(2)`.
//!
//! The standard library and nix do not open pidfds of processes that they did not start, so the two
//! system calls are made here.

use std::{
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
};

use super::{KernelError, process::ProcessId};

/// An open process. It stays that process after its end, whoever gets its pid.
#[derive(Debug)]
pub struct PidFd {
    id: ProcessId,
    fd: OwnedFd,
}

impl PidFd {
    /// Opens a process, and then makes sure that it is still the one meant.
    ///
    /// # Errors
    /// [`KernelError::Gone`] when it has ended, even if another one has its pid now.
    pub fn open(id: ProcessId) -> Result<Self, KernelError> {
        let fd = pidfd_open(id.pid).map_err(|e| failed("open", id, e))?;
        // In this order: had the pid changed hands before the open, the start time would differ.
        if id.is_alive() { Ok(Self { id, fd }) } else { Err(gone(id)) }
    }

    /// Which process it is.
    pub fn id(&self) -> ProcessId {
        self.id
    }

    /// Sends a signal, 1 to 64.
    ///
    /// # Errors
    /// [`KernelError::Gone`] when it has ended and was reaped; when this process may not signal it.
    pub fn send(&self, signal: u8) -> Result<(), KernelError> {
        pidfd_send_signal(self.fd.as_fd(), signal).map_err(|e| failed("signal", self.id, e))
    }

    /// Whether it has ended: a zombie has (`pidfd_open(2)`: the descriptor becomes readable).
    ///
    /// # Errors
    /// When the descriptor cannot be polled.
    pub fn has_ended(&self) -> Result<bool, KernelError> {
        self.wait(Duration::ZERO)
    }

    /// Waits for its end, at most `timeout` (to the millisecond). Whether it has ended.
    ///
    /// # Errors
    /// When the descriptor cannot be polled.
    pub fn wait(&self, timeout: Duration) -> Result<bool, KernelError> {
        let end = Instant::now() + timeout;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let left = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
            let mut fds = [PollFd::new(self.fd.as_fd(), PollFlags::POLLIN)];
            match poll(&mut fds, left) {
                Ok(ready) => return Ok(ready > 0),
                Err(Errno::EINTR) => {}
                Err(e) => return Err(failed("poll", self.id, e.into())),
            }
        }
    }
}

impl AsFd for PidFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

fn gone(id: ProcessId) -> KernelError {
    KernelError::Gone { what: format!("process {}", id.pid) }
}

fn failed(verb: &'static str, id: ProcessId, source: io::Error) -> KernelError {
    match source.raw_os_error() {
        Some(libc::ESRCH) => gone(id),
        _ => KernelError::io(verb, &format!("process {}", id.pid), source),
    }
}

#[allow(unsafe_code, reason = "pidfd_open(2) has no safe wrapper in nix")]
fn pidfd_open(pid: i32) -> io::Result<OwnedFd> {
    // SAFETY: the call takes two integers and touches no memory of ours; flags 0 is valid, and the
    // descriptor is close-on-exec always.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    let fd = i32::try_from(fd).map_err(io::Error::other)?;
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just made this descriptor for us, and nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

#[allow(unsafe_code, reason = "pidfd_send_signal(2) has no safe wrapper in nix")]
fn pidfd_send_signal(fd: BorrowedFd<'_>, signal: u8) -> io::Result<()> {
    let info: *const libc::siginfo_t = std::ptr::null();
    // SAFETY: the descriptor is open while it is borrowed; a null `info` means "as kill(2) would",
    // so no memory is read; flags must be 0 and are.
    let result = unsafe {
        libc::syscall(libc::SYS_pidfd_send_signal, fd.as_raw_fd(), i32::from(signal), info, 0)
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handle_is_on_the_process_meant_or_on_none() {
        let own = ProcessId::of(i32::try_from(std::process::id()).unwrap()).unwrap();
        let handle = PidFd::open(own).unwrap();
        assert!(!handle.has_ended().unwrap());
        let earlier = ProcessId { start_ticks: own.start_ticks - 1, ..own };
        assert!(PidFd::open(earlier).unwrap_err().is_gone(), "another one has its pid");
    }
}
