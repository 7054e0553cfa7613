//! The thread that writes a journal, and the one that syncs it: a disk that takes its time to sync must
//! not hold up what a kill of the controller would lose.

use std::{
    fs::File,
    io::{self, Write},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
        mpsc::{self, Receiver, RecvTimeoutError, Sender, SyncSender},
    },
    thread,
};

use super::Recorder;
use crate::report::journal::{ALIVE_EVERY, Event, Line};

/// What is written at once.
const BATCH_BYTES_MAX: usize = 64 * 1024;

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
    file: File,
    told: Receiver<Told>,
    /// How many wait in there.
    waiting: Arc<AtomicUsize>,
    failure: Arc<Mutex<Failure>>,
    clock: Recorder,
    buffer: Vec<u8>,
    /// A milestone is in the buffer.
    has_milestone: bool,
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
        let sync = syncer(file.try_clone()?, Arc::clone(&failure))?;
        let (buffer, has_milestone) = (Vec::new(), false);
        Ok(Self { file, told, waiting, failure, clock, buffer, has_milestone, sync })
    }

    /// Writes until it is told to finish, or nobody is left to tell it anything.
    pub(super) fn write(mut self) {
        loop {
            let mut next = match self.told.recv_timeout(ALIVE_EVERY) {
                Ok(told) => Some(told),
                Err(RecvTimeoutError::Timeout) => {
                    self.add(&self.clock.line(Event::Alive));
                    None
                }
                Err(RecvTimeoutError::Disconnected) => return,
            };
            // As much at once as there is.
            while let Some(told) = next {
                match told {
                    Told::Line(line) => self.take(&line),
                    Told::Finish(done) => {
                        self.flush();
                        note(&self.failure, self.file.sync_data());
                        // Whoever asked may have given up.
                        done.send(()).ok();
                        return;
                    }
                }
                let is_full = self.buffer.len() >= BATCH_BYTES_MAX;
                next = if is_full { None } else { self.told.try_recv().ok() };
            }
            self.flush();
        }
    }

    fn take(&mut self, line: &Line) {
        self.waiting.fetch_sub(1, Ordering::Relaxed);
        self.has_milestone |= line.event.is_milestone();
        self.add(line);
    }

    fn add(&mut self, line: &Line) {
        match serde_json::to_writer(&mut self.buffer, line) {
            Ok(()) => self.buffer.push(b'\n'),
            Err(error) => note(&self.failure, Err(error.into())),
        }
    }

    /// Once something could not be written, nothing more is: a journal has no holes.
    fn flush(&mut self) {
        let has_failed = self.failure.lock().unwrap_or_else(PoisonError::into_inner).why.is_some();
        if !has_failed {
            note(&self.failure, self.file.write_all(&self.buffer));
            if self.has_milestone {
                // One that is asked for already does it, too.
                self.sync.try_send(()).ok();
            }
        }
        self.buffer.clear();
        self.has_milestone = false;
    }
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
