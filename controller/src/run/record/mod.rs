//! The recorder: writes the journal of a run as it happens.
//!
//! Telling it something never waits: a thread of its own writes. Every line is handed to the kernel at
//! once, so that it is there when the controller is killed; what the run has come to at milestones is
//! also synced to the disk. A disk that is full or slow is told once, and changes nothing of the run:
//! attempts of probes are left out first, and room is kept for the rest.

mod disk;
mod listener;
mod tell;
mod writer;

use std::{
    fs::File,
    io,
    path::Path,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
        mpsc::{self, Sender},
    },
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use faultline_probe::Sample;
use faultline_proto::{id::RunId, yaml::Source};

pub use self::listener::{Heard, Listener};
pub(super) use self::tell::Taps;
use self::writer::{Failure, Lines, Told};
use crate::{
    experiment::Experiment,
    report::{
        Environment,
        journal::{Begun, Event, JOURNAL_VERSION, Line, SampleLine},
        millis,
    },
};

/// Events that may wait for the disk before attempts of probes are left out.
const WAITING_MAX: usize = 16_384;
/// How long the end of a run waits for the disk.
const FINISH_MAX: Duration = Duration::from_secs(10);

/// The record of one run, or of none. It knows the run's id and its beginning. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Recorder {
    run_id: RunId,
    origin: Instant,
    started: Duration,
    writer: Option<Arc<Writer>>,
    listener: Option<Listener>,
    /// A trace is made of the run.
    is_traced: bool,
}

#[derive(Debug)]
struct Writer {
    source: Arc<Source>,
    queue: Sender<Told>,
    waiting: Arc<AtomicUsize>,
    lost: AtomicUsize,
    failure: Arc<Mutex<Failure>>,
}

impl Recorder {
    /// For a run that begins now and of which nothing is kept.
    pub fn nowhere() -> Self {
        let started = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let run_id = RunId::random().unwrap_or(RunId::from_bits(started.as_secs()));
        let origin = Instant::now();
        Self { run_id, origin, started, writer: None, listener: None, is_traced: false }
    }

    /// For a run that begins now, into a new file. `source` is what the experiment was read from.
    ///
    /// # Errors
    /// When the file cannot be made, is there already, or has no room on its disk.
    pub fn create(self, file: &Path, source: &Arc<Source>) -> io::Result<Self> {
        self.record(File::create_new(file)?, source)
    }

    /// As [`Recorder::create`], into an open file.
    ///
    /// # Errors
    /// When no thread can be started, or the disk has no room.
    pub fn record(self, file: File, source: &Arc<Source>) -> io::Result<Self> {
        let (queue, told) = mpsc::channel();
        let waiting = Arc::new(AtomicUsize::new(0));
        let failure = Arc::new(Mutex::new(Failure::default()));
        let listener = self.listener.clone();
        let clock = Self { writer: None, listener: None, ..self };
        let lines = Lines::new(file, told, Arc::clone(&waiting), Arc::clone(&failure), clock)?;
        thread::Builder::new().name("journal".into()).spawn(move || lines.write())?;
        let source = Arc::clone(source);
        let lost = AtomicUsize::new(0);
        let writer = Some(Arc::new(Writer { source, queue, waiting, lost, failure }));
        Ok(Self { writer, listener, ..self })
    }

    /// The same, and somebody hears what happens.
    #[must_use]
    pub fn heard_by(self, listener: Listener) -> Self {
        Self { listener: Some(listener), ..self }
    }

    /// The same, of a run that a trace is made of.
    #[must_use]
    pub fn traced(self, is_traced: bool) -> Self {
        Self { is_traced, ..self }
    }

    /// The id of the trace that is made of the run.
    pub(super) fn trace_id(&self) -> Option<String> {
        #[cfg(feature = "otlp")]
        let id = || crate::traces::trace_id(&self.run_id.to_string());
        #[cfg(not(feature = "otlp"))]
        let id = String::new;
        self.is_traced.then(id)
    }

    /// The run's id.
    pub fn run_id(&self) -> RunId {
        self.run_id
    }

    /// When the run began.
    pub fn origin(&self) -> Instant {
        self.origin
    }

    /// When the run began by the wall clock, since 1970.
    pub fn started(&self) -> Duration {
        self.started
    }

    /// Whether anything is kept.
    pub fn is_on(&self) -> bool {
        self.writer.is_some()
    }

    /// The first line.
    pub(super) fn begin(&self, experiment: &Experiment, place: &str) {
        let Some(writer) = &self.writer else { return };
        self.tell(Event::Begun(Box::new(Begun {
            journal_version: JOURNAL_VERSION,
            run_id: self.run_id.to_string(),
            experiment: experiment.name.clone(),
            hypothesis: experiment.hypothesis.clone(),
            file: writer.source.name.clone(),
            source: writer.source.text.clone(),
            seed: experiment.seed,
            lease_ms: millis(experiment.lease),
            place: place.into(),
            started_unix_seconds: self.started.as_secs(),
            environment: Environment::here(),
        })));
    }

    /// Writes down what has happened just now.
    pub fn tell(&self, event: Event) {
        if let Some(listener) = &self.listener {
            listener.tell(&event);
        }
        let Some(writer) = &self.writer else { return };
        let lost = writer.lost.swap(0, Ordering::Relaxed);
        if lost > 0 {
            let samples = u64::try_from(lost).unwrap_or(u64::MAX);
            writer.send(self.line(Event::Lost { samples }));
        }
        writer.send(self.line(event));
    }

    /// Writes down an attempt of a probe, unless too much waits for the disk already.
    pub(super) fn sample(&self, probe: &str, sample: Sample) {
        let Some(writer) = &self.writer else { return };
        if writer.waiting.load(Ordering::Relaxed) < WAITING_MAX {
            writer.send(self.line(Event::Sample(SampleLine::new(probe, sample))));
        } else {
            writer.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Why nothing more is written, if that is so: once.
    pub fn complaint(&self) -> Option<String> {
        let mut failure = self.writer.as_ref()?.failure();
        let why = failure.why.clone().filter(|_| !failure.told)?;
        failure.told = true;
        Some(why)
    }

    /// Writes the last line, with what is left of the place, and waits until all lines are on the disk.
    ///
    /// # Errors
    /// Why they are not.
    pub fn finish(&self, residue: &[String]) -> Result<(), String> {
        let Some(writer) = &self.writer else { return Ok(()) };
        self.tell(Event::Ended { residue: residue.to_vec() });
        let (done, written) = mpsc::channel();
        if writer.queue.send(Told::Finish(done)).is_err()
            || written.recv_timeout(FINISH_MAX).is_err()
        {
            return Err(format!("the disk has not taken it within {FINISH_MAX:?}"));
        }
        writer.failure().why.clone().map_or(Ok(()), Err)
    }

    pub(in crate::run) fn line(&self, event: Event) -> Line {
        let at = self.origin.elapsed();
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let wall_unix_ms = u64::try_from(wall.as_millis()).unwrap_or(u64::MAX);
        Line { at_ms: millis(at), wall_unix_ms, event }
    }
}

impl Writer {
    fn send(&self, line: Line) {
        self.waiting.fetch_add(1, Ordering::Relaxed);
        // It is gone only once nothing more can be written.
        drop(self.queue.send(Told::Line(Box::new(line))));
    }

    fn failure(&self) -> std::sync::MutexGuard<'_, Failure> {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source() -> Arc<Source> {
        Arc::new(Source { name: "a.yaml".into(), text: "a: b\n".into() })
    }

    #[test]
    fn a_full_disk_is_told_once_and_holds_nothing_up() {
        let full = File::options().write(true).open("/dev/full").expect("there is one");
        let recorder = Recorder::nowhere().record(full, &source()).expect("a thread");
        for _ in 0..3 * WAITING_MAX {
            recorder.tell(Event::Alive);
        }
        let end = Instant::now() + Duration::from_secs(10);
        let why = loop {
            match recorder.complaint() {
                Some(why) => break why,
                None if Instant::now() < end => thread::sleep(Duration::from_millis(1)),
                None => panic!("it is told"),
            }
        };
        assert!(why.contains("No space left"), "{why}");
        assert_eq!(recorder.complaint(), None, "once");
    }

    #[test]
    fn what_was_told_is_in_the_file_though_nobody_has_finished_it() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("journal.jsonl");
        let recorder = Recorder::nowhere().create(&file, &source()).expect("a file");
        recorder.tell(Event::Amended { fault: "1".into() });
        let end = Instant::now() + Duration::from_secs(10);
        while !std::fs::read_to_string(&file).expect("a file").ends_with("}\n") {
            assert!(Instant::now() < end, "a line is written at once");
            thread::sleep(Duration::from_millis(1));
        }
        assert!(Recorder::nowhere().create(&file, &source()).is_err(), "nothing is written over");
    }
}
