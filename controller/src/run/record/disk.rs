//! The file of a journal, and room on the disk beyond its end: what the run has come to is to be written
//! also when the disk is full, and attempts of probes must not take the room for it. What could not be
//! written is tried again, for somebody may free some. It decides nothing of what is left out.

use std::{
    fs::File,
    io::{self, ErrorKind},
    os::unix::fs::FileExt,
};

use nix::{
    errno::Errno,
    fcntl::{FallocateFlags, fallocate},
};

/// What is kept free beyond the end, for what cannot be left out.
const RESERVE_BYTES: u64 = 128 * 1024;
/// With less than this a journal is not begun.
const ROOM_BYTES_MIN: u64 = RESERVE_BYTES / 8;

/// A file that only grows.
#[derive(Debug)]
pub(super) struct Disk {
    file: File,
    /// How long it is, in whole lines.
    end: u64,
    /// Until where the disk has room for it.
    allocated: u64,
    /// This file system gives room when it is asked for.
    can_reserve: bool,
    /// The last thing could not be written.
    is_failing: bool,
}

impl Disk {
    /// Takes a file that is empty, and marks it as one that is being written.
    ///
    /// # Errors
    /// When the disk has no room for a journal.
    pub(super) fn new(file: File) -> io::Result<Self> {
        // Where a file system knows no locks, nobody can be told that the run goes on.
        file.try_lock().ok();
        let mut disk = Self { file, end: 0, allocated: 0, can_reserve: true, is_failing: false };
        disk.reserve(0)?;
        if disk.can_reserve && disk.allocated < ROOM_BYTES_MIN {
            return Err(Errno::ENOSPC.into());
        }
        Ok(disk)
    }

    /// Whether so many bytes more leave the reserve as it is.
    pub(super) fn has_room(&mut self, len: usize) -> bool {
        let end = self.end + len as u64;
        // What does not work is told by writing.
        let reserved = self.reserve(end);
        !self.is_failing && reserved.is_ok() && self.is_reserved(end)
    }

    fn is_reserved(&self, end: u64) -> bool {
        !self.can_reserve || self.allocated >= end + RESERVE_BYTES
    }

    /// Takes as much room beyond `end` as there is, up to twice the reserve.
    fn reserve(&mut self, end: u64) -> io::Result<()> {
        if self.is_reserved(end) {
            return Ok(());
        }
        for part in
            [RESERVE_BYTES * 2, RESERVE_BYTES, RESERVE_BYTES / 2, RESERVE_BYTES / 4, ROOM_BYTES_MIN]
        {
            let until = end + part;
            if until <= self.allocated {
                break;
            }
            match self.allocate(until) {
                Ok(()) => {
                    self.allocated = until;
                    break;
                }
                Err(Errno::ENOSPC | Errno::EDQUOT | Errno::EFBIG) => {}
                Err(Errno::EOPNOTSUPP | Errno::ENOSYS | Errno::ENODEV | Errno::ESPIPE) => {
                    self.can_reserve = false;
                    break;
                }
                Err(errno) => return Err(errno.into()),
            }
        }
        Ok(())
    }

    /// Makes room up to there. Nothing that is read changes.
    fn allocate(&self, until: u64) -> Result<(), Errno> {
        let offset = |at: u64| i64::try_from(at).map_err(|_too_long| Errno::EFBIG);
        let (from, len) = (offset(self.allocated)?, offset(until - self.allocated)?);
        loop {
            match fallocate(&self.file, FallocateFlags::FALLOC_FL_KEEP_SIZE, from, len) {
                Err(Errno::EINTR) => {}
                result => return result,
            }
        }
    }

    /// Writes as many whole lines as there is room for, and takes them out of the buffer. What was half
    /// written is written over by whatever comes next.
    ///
    /// # Errors
    /// Why not all are written.
    pub(super) fn append(&mut self, lines: &mut Vec<u8>) -> io::Result<()> {
        let mut written = self.write(lines).map(|()| lines.len());
        if written.is_err() && lines.len() > 1 {
            let mut done = 0;
            let error = lines.split_inclusive(|byte| *byte == b'\n').find_map(|line| {
                let result = self.write(line);
                done += if result.is_ok() { line.len() } else { 0 };
                result.err()
            });
            drop(lines.drain(..done));
            written = error.map_or(Ok(0), Err);
        } else if written.is_ok() {
            lines.clear();
        }
        self.is_failing = written.is_err();
        written.map(drop)
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all_at(bytes, self.end)?;
        self.end += bytes.len() as u64;
        Ok(())
    }

    /// Gives back the room that was not needed, and that the file is no longer being written.
    ///
    /// # Errors
    /// When it is not all on the disk.
    pub(super) fn finish(&self) -> io::Result<()> {
        // A pipe or a device has no length.
        if self.file.metadata().is_ok_and(|metadata| metadata.is_file()) {
            self.file.set_len(self.end)?;
        }
        let synced = self.file.sync_data();
        match self.file.unlock() {
            Err(error) if error.kind() != ErrorKind::Unsupported => synced.and(Err(error)),
            _ => synced,
        }
    }

    /// Another handle, to sync with.
    ///
    /// # Errors
    /// When there is none to be had.
    pub(super) fn handle(&self) -> io::Result<File> {
        self.file.try_clone()
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[test]
    fn room_is_kept_beyond_the_end_and_given_back() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("j");
        let mut disk = Disk::new(File::create(&path).expect("a file")).expect("room");
        let on_disk = || std::fs::metadata(&path).expect("a file");
        assert!(!disk.can_reserve || on_disk().blocks() * 512 >= RESERVE_BYTES);
        assert_eq!(on_disk().len(), 0, "nobody who reads sees it");
        disk.append(&mut b"one\ntwo\n".to_vec()).expect("written");
        assert!(disk.has_room(1 << 20));
        disk.finish().expect("synced");
        assert_eq!(std::fs::read(&path).expect("readable"), b"one\ntwo\n");
        assert!(on_disk().blocks() * 512 < ROOM_BYTES_MIN, "{}", on_disk().blocks());
    }

    #[test]
    fn what_could_not_be_written_is_kept_in_order() {
        let full = File::options().write(true).open("/dev/full").expect("there is one");
        let mut disk = Disk::new(full).expect("what room it has is not known");
        let mut lines = b"one\ntwo\n".to_vec();
        assert!(disk.append(&mut lines).is_err() && !disk.has_room(1));
        assert_eq!(lines, b"one\ntwo\n");
    }
}
