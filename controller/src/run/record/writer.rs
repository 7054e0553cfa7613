//! The thread that writes a journal, and the one that syncs it: a disk that takes its time to sync must
//! not hold up what a kill of the controller would lose.

use std::{
    fs::File,
    io,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
        mpsc::{self, Receiver, RecvTimeoutError, Sender, SyncSender},
    },
    thread,
    time::Instant,
};

use nix::errno::Errno;

use super::{Recorder, disk::Disk};
use crate::report::{
    clean_all,
    journal::{ALIVE_EVERY, Event, Line},
    may_be_unclean,
};

/// What is written at once.
const BATCH_BYTES_MAX: usize = 64 * 1024;
/// What waits for a disk that has no room at all; with more, the journal ends.
const WAITING_BYTES_MAX: usize = 16 * 1024 * 1024;

/// What the thread is told.
pub(super) enum Told {
    Line(Box<Line>),
    /// Everything before is to be on the disk when this is answered; nothing comes after it.
    Finish(Sender<()>),
}

/// What went wrong, and whether that has been told.
#[derive(Debug, Default)]
pub(super) struct Failure {
    pub(super) why: Option<String>,
    pub(super) told: bool,
}

/// Lines on their way to a file.
pub(super) struct Lines {
    disk: Disk,
    told: Receiver<Told>,
    /// How many wait in there.
    waiting: Arc<AtomicUsize>,
    failure: Arc<Mutex<Failure>>,
    clock: Recorder,
    buffer: Vec<u8>,
    /// A milestone is in the buffer.
    has_milestone: bool,
    /// Attempts of probes that were left out, and not yet said to be.
    lost: u64,
    /// It has been said that the disk has no room for everything.
    is_full: bool,
    /// So much waits for the disk that nothing more is taken in.
    has_ended: bool,
    /// When the last line was taken in.
    last: Instant,
    /// Asks for a sync of what has been written.
    sync: SyncSender<()>,
}

impl Lines {
    pub(super) fn new(
        file: File,
        told: Receiver<Told>,
        waiting: Arc<AtomicUsize>,
        failure: Arc<Mutex<Failure>>,
        clock: Recorder,
    ) -> io::Result<Self> {
        let disk = Disk::new(file)?;
        let sync = syncer(disk.handle()?, Arc::clone(&failure))?;
        Ok(Self {
            disk,
            told,
            waiting,
            failure,
            clock,
            buffer: Vec::new(),
            has_milestone: false,
            lost: 0,
            is_full: false,
            has_ended: false,
            last: Instant::now(),
            sync,
        })
    }

    /// Writes until it is told to finish, or nobody is left to tell it anything.
    pub(super) fn write(mut self) {
        loop {
            let mut next = match self.told.recv_timeout(ALIVE_EVERY) {
                Ok(told) => Some(told),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => return,
            };
            // As much at once as there is.
            while let Some(told) = next {
                match told {
                    Told::Line(line) => self.take(&line),
                    Told::Finish(done) => {
                        self.finish();
                        // Whoever asked may have given up.
                        done.send(()).ok();
                        return;
                    }
                }
                let is_full = self.buffer.len() >= BATCH_BYTES_MAX;
                next = if is_full { None } else { self.told.try_recv().ok() };
            }
            if self.last.elapsed() >= ALIVE_EVERY {
                let alive = self.clock.line(Event::Alive);
                self.add(&alive);
            }
            self.flush();
        }
    }

    fn finish(&mut self) {
        self.flush();
        if !self.buffer.is_empty() {
            note(&self.failure, Err(no_space()));
        }
        note(&self.failure, self.disk.finish());
    }

    fn take(&mut self, line: &Line) {
        self.waiting.fetch_sub(1, Ordering::Relaxed);
        self.add(line);
    }

    /// Takes in a line; where the disk has too little room, only one that cannot be left out.
    fn add(&mut self, line: &Line) {
        let before = self.buffer.len();
        let is_dispensable = line.event.is_dispensable();
        if self.lost > 0 && !is_dispensable {
            let samples = std::mem::take(&mut self.lost);
            self.put(&self.clock.line(Event::Lost { samples }));
        }
        self.put(line);
        if is_dispensable && !self.disk.has_room(self.buffer.len()) {
            self.buffer.truncate(before);
            self.lost += u64::from(matches!(line.event, Event::Sample(_)));
            self.tell_full();
        } else {
            self.has_milestone |= line.event.is_milestone();
            self.last = Instant::now();
        }
    }

    /// Says once that the disk has no room for everything: in the room that is kept for such.
    fn tell_full(&mut self) {
        if !std::mem::replace(&mut self.is_full, true) {
            let error = no_space();
            let why = error.to_string();
            self.put(&self.clock.line(Event::Full { why }));
            self.has_milestone = true;
            note(&self.failure, Err(error));
        }
    }

    fn put(&mut self, line: &Line) {
        let before = self.buffer.len();
        self.has_ended |= before > WAITING_BYTES_MAX;
        if self.has_ended {
            return;
        }
        let put = serde_json::to_writer(&mut self.buffer, line).and_then(|()| {
            let written = self.buffer.split_at(before).1;
            if !may_be_unclean(written) {
                return Ok(());
            }
            let mut value = serde_json::from_slice(written)?;
            clean_all(&mut value);
            self.buffer.truncate(before);
            serde_json::to_writer(&mut self.buffer, &value)
        });
        match put {
            Ok(()) => self.buffer.push(b'\n'),
            Err(error) => {
                self.buffer.truncate(before);
                note(&self.failure, Err(error.into()));
            }
        }
    }

    /// What could not be written waits, and is tried again with whatever comes next: a journal has no
    /// holes.
    fn flush(&mut self) {
        if self.buffer.is_empty() {
            return;
        }
        let written = self.disk.append(&mut self.buffer);
        if written.is_ok() && std::mem::take(&mut self.has_milestone) {
            // One that is asked for already does it, too.
            self.sync.try_send(()).ok();
        }
        note(&self.failure, written);
    }
}

fn no_space() -> io::Error {
    Errno::ENOSPC.into()
}

/// Starts the thread that syncs a file whenever it is asked to.
fn syncer(file: File, failure: Arc<Mutex<Failure>>) -> io::Result<SyncSender<()>> {
    let (sync, asked) = mpsc::sync_channel(1);
    thread::Builder::new().name("journal-sync".into()).spawn(move || {
        while asked.recv().is_ok() {
            note(&failure, file.sync_data());
        }
    })?;
    Ok(sync)
}

/// Notes why something could not be written, if it could not.
fn note(failure: &Mutex<Failure>, result: io::Result<()>) {
    if let Err(error) = result {
        let mut failure = failure.lock().unwrap_or_else(PoisonError::into_inner);
        failure.why.get_or_insert_with(|| error.to_string());
    }
}
