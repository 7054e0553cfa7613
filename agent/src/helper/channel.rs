//! JSON lines over pipes, without ever waiting longer than asked.

use std::{
    io::{self, Read, Write},
    os::fd::{AsFd, BorrowedFd},
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    fcntl::{FcntlArg, OFlag, fcntl},
    poll::{PollFd, PollFlags, PollTimeout, poll},
};
use serde::de::DeserializeOwned;

use super::Report;

/// No line is longer than this: a list of processes of a container is the longest there is.
const LINE_BYTES_MAX: usize = 1 << 20;

/// Lines that arrive on a descriptor.
#[derive(Debug)]
pub(super) struct Lines<F> {
    from: F,
    buffer: Vec<u8>,
    ended: bool,
}

impl<F: Read + AsFd> Lines<F> {
    /// Reads from a descriptor, which is made non-blocking.
    pub(super) fn new(from: F) -> io::Result<Self> {
        make_non_blocking(from.as_fd())?;
        Ok(Self { from, buffer: Vec::new(), ended: false })
    }

    /// Whether the other side has closed it, and nothing more is to come.
    pub(super) fn has_ended(&self) -> bool {
        self.ended
    }

    /// What to poll.
    pub(super) fn as_fd(&self) -> BorrowedFd<'_> {
        self.from.as_fd()
    }

    /// Takes in what is there. Does not wait.
    pub(super) fn fill(&mut self) -> io::Result<()> {
        let mut chunk = [0_u8; 4096];
        while !self.ended && self.buffer.len() < LINE_BYTES_MAX {
            match self.from.read(&mut chunk) {
                Ok(0) => self.ended = true,
                Ok(count) => self.buffer.extend(chunk.iter().take(count)),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }

    /// The next whole line that is there, understood. `None`: there is none yet.
    pub(super) fn next<T: DeserializeOwned>(&mut self) -> io::Result<Option<T>> {
        let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') else {
            let too_long = self.buffer.len() >= LINE_BYTES_MAX;
            return if too_long { Err(io::ErrorKind::InvalidData.into()) } else { Ok(None) };
        };
        let line: Vec<u8> = self.buffer.drain(..=end).collect();
        serde_json::from_slice(&line).map(Some).map_err(io::Error::from)
    }

    /// Waits for a line, at most `timeout`.
    pub(super) fn wait<T: DeserializeOwned>(&mut self, timeout: Duration) -> io::Result<T> {
        let end = Instant::now() + timeout;
        loop {
            self.fill()?;
            if let Some(value) = self.next()? {
                return Ok(value);
            }
            let left = end.saturating_duration_since(Instant::now());
            if self.ended {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            if left.is_zero() {
                return Err(io::ErrorKind::TimedOut.into());
            }
            let mut fds = [PollFd::new(self.from.as_fd(), PollFlags::POLLIN)];
            // A millisecond more, so that rounding down does not make this spin at the end.
            let left = left.saturating_add(Duration::from_millis(1));
            match poll(&mut fds, PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX)) {
                Ok(_) | Err(Errno::EINTR) => {}
                Err(e) => return Err(e.into()),
            }
        }
    }
}

/// Makes reads and writes return instead of waiting.
pub(super) fn make_non_blocking(fd: BorrowedFd<'_>) -> io::Result<()> {
    let flags = OFlag::from_bits_retain(fcntl(fd, FcntlArg::F_GETFL)?);
    fcntl(fd, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
    Ok(())
}

/// Writes one line, whole or not at all: it is shorter than what a pipe takes at once, or the other
/// side has not read for long, which is an error.
pub(super) fn send(to: &mut impl Write, message: &impl serde::Serialize) -> io::Result<()> {
    let mut line = serde_json::to_vec(message)?;
    line.push(b'\n');
    to.write_all(&line)
}

/// From a helper to the agent. Nobody may be there to read it, and it is not worth waiting for.
pub(super) fn report(report: &Report) {
    let mut out = io::stdout().lock();
    if let Err(error) = send(&mut out, report).and_then(|()| out.flush()) {
        tracing::debug!(?error, "the agent does not read");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_put_together_and_the_end_is_seen() {
        let (read, mut write) = io::pipe().unwrap();
        let mut lines = Lines::new(read).unwrap();
        write.write_all(b"1\n2").unwrap();
        lines.fill().unwrap();
        assert_eq!(lines.next::<u32>().unwrap(), Some(1));
        assert_eq!(lines.next::<u32>().unwrap(), None);
        let late = lines.wait::<u32>(Duration::from_millis(5)).unwrap_err();
        assert_eq!(late.kind(), io::ErrorKind::TimedOut);
        write.write_all(b"3\nx\n").unwrap();
        drop(write);
        assert_eq!(lines.wait::<u32>(Duration::from_secs(1)).unwrap(), 23);
        assert!(lines.next::<u32>().is_err(), "not a number");
        let end = lines.wait::<u32>(Duration::from_secs(1)).unwrap_err();
        assert_eq!(end.kind(), io::ErrorKind::UnexpectedEof);
        assert!(lines.has_ended());
    }
}
