//! Restores, at its deadline, whatever bears a record: all objects with our label are watched, and whoever leads
//! restores those whose time has come, again and again until it is done.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use futures::{StreamExt as _, stream::select_all};
use kube::{
    Api,
    api::DynamicObject,
    runtime::{
        WatchStreamExt as _,
        watcher::{self, Event, watcher},
    },
};
use tokio::{sync::watch, task::JoinSet, time};

use super::{Metrics, say};
use crate::{
    cluster::{
        Connection,
        fault::{
            Bearer, CHANGED, FaultError, LABEL, Object, ObjectKind, TakenBack, look_again,
            take_back,
        },
    },
    run::one_line,
};

/// Between two looks at whose time has come.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// How long one attempt to restore goes on.
const ATTEMPT_MAX: Duration = Duration::from_mins(1);
/// How often one looks again at an object that is not found by its label any more.
const LOOKS_MAX: u32 = 3;
/// After one that failed.
const AGAIN_AFTER: Duration = Duration::from_secs(5);

/// Who restores.
pub(super) struct Restorer {
    connection: Connection,
    metrics: Arc<Metrics>,
    bearers: BTreeMap<Object, Bearer>,
    /// Objects that were there before a new list, until it says otherwise.
    unseen: BTreeMap<ObjectKind, BTreeSet<Object>>,
    under_way: BTreeSet<Object>,
    /// When the next attempt is, where one failed.
    again: BTreeMap<Object, Instant>,
    told: BTreeSet<String>,
    /// Who looks again at objects that are not found by their label any more.
    missed: JoinSet<Missed>,
}

/// What came of restoring what an object bore.
struct Done {
    bearer: Bearer,
    result: Result<TakenBack, FaultError>,
}

/// What came of looking again at an object that is not found by its label any more.
struct Missed {
    known: Bearer,
    found: Result<Option<Bearer>, FaultError>,
}

impl Restorer {
    pub(super) fn new(connection: Connection, metrics: Arc<Metrics>) -> Self {
        Self {
            connection,
            metrics,
            bearers: BTreeMap::new(),
            unseen: BTreeMap::new(),
            under_way: BTreeSet::new(),
            again: BTreeMap::new(),
            told: BTreeSet::new(),
            missed: JoinSet::new(),
        }
    }

    /// Watches and restores until it is dropped.
    pub(super) async fn run(mut self, leading: watch::Receiver<bool>) {
        let watches = CHANGED.map(|kind| {
            let api: Api<DynamicObject> =
                Api::all_with(self.connection.client(), &kind.api_resource());
            let config = watcher::Config::default().labels(LABEL);
            watcher(api, config).default_backoff().map(move |event| (kind, event)).boxed()
        });
        let mut events = select_all(watches);
        let mut tasks: JoinSet<Done> = JoinSet::new();
        let mut ticks = time::interval(LOOK_EVERY);
        ticks.set_missed_tick_behavior(time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                Some((kind, event)) = events.next() => match event {
                    Ok(event) => self.take(kind, event),
                    Err(error) => {
                        let text = format!("{} are not watched: {}", kind.full_resource(), one_line(&error));
                        self.tell_once(&text);
                    }
                },
                Some(Ok(done)) = tasks.join_next() => self.done(done),
                Some(Ok(missed)) = self.missed.join_next() => self.looked_again(missed),
                _ = ticks.tick() => {
                    if *leading.borrow() {
                        self.begin_due(&mut tasks);
                    }
                    self.measure();
                }
            }
        }
    }

    fn tell_once(&mut self, text: &str) {
        if self.told.insert(text.to_owned()) {
            say(text);
        }
    }

    fn take(&mut self, kind: ObjectKind, event: Event<DynamicObject>) {
        match event {
            Event::Init => {
                let known = self.bearers.keys().filter(|object| object.kind == kind).cloned();
                self.unseen.insert(kind, known.collect());
            }
            Event::InitApply(found) | Event::Apply(found) => {
                let Some(bearer) = Bearer::of(kind, &found) else { return };
                let bearer = bearer.remembering(&self.bearers, &found);
                if let Some(unseen) = self.unseen.get_mut(&kind) {
                    unseen.remove(&bearer.object);
                }
                self.bearers.insert(bearer.object.clone(), bearer);
            }
            Event::InitDone => {
                for missing in self.unseen.remove(&kind).unwrap_or_default() {
                    self.miss(&missing);
                }
            }
            Event::Delete(found) => {
                let name = found.metadata.name.unwrap_or_default();
                let namespace = found.metadata.namespace;
                self.miss(&Object { kind, namespace, name, uid: None });
            }
        }
    }

    /// That an object is not found by its label any more: it is restored, or has gone, or somebody removed the label
    /// alone, which must not make its deadline forgotten.
    fn miss(&mut self, object: &Object) {
        let Some(known) = self.bearers.get(object).cloned() else { return };
        let connection = self.connection.clone();
        self.missed.spawn(async move {
            let mut found = look_again(&connection, &known).await;
            for _ in 1..LOOKS_MAX {
                if found.is_ok() {
                    break;
                }
                time::sleep(AGAIN_AFTER).await;
                found = look_again(&connection, &known).await;
            }
            Missed { known, found }
        });
    }

    fn looked_again(&mut self, Missed { known, found }: Missed) {
        // What the watch has told of it meanwhile is newer.
        if self.bearers.get(&known.object) != Some(&known) {
            return;
        }
        match found {
            Ok(None) => drop(self.bearers.remove(&known.object)),
            Ok(Some(bearer)) => {
                let text = "its label was removed by somebody else, and is put there again";
                say(&format!("{}: {text}", known.object));
                self.bearers.insert(known.object, bearer);
            }
            // It is kept, and looked at when its time has come.
            Err(error) => {
                say(&format!(
                    "{}: whether it is restored is not known: {}",
                    known.object,
                    one_line(&error)
                ));
            }
        }
    }

    /// Begins to restore whatever is due.
    fn begin_due(&mut self, tasks: &mut JoinSet<Done>) {
        let (now, unix_ms) = (Instant::now(), unix_ms());
        let due = self.bearers.values().filter(|bearer| {
            is_due(bearer, unix_ms)
                && !self.under_way.contains(&bearer.object)
                && self.again.get(&bearer.object).is_none_or(|again| *again <= now)
        });
        for bearer in due.cloned().collect::<Vec<_>>() {
            self.under_way.insert(bearer.object.clone());
            let connection = self.connection.clone();
            tasks.spawn(async move {
                let (object, until) = (&bearer.object, Instant::now() + ATTEMPT_MAX);
                let known = bearer.undo.as_ref().ok();
                let result = take_back(&connection, object, known, until).await;
                Done { bearer, result }
            });
        }
    }

    fn done(&mut self, Done { bearer, result }: Done) {
        self.under_way.remove(&bearer.object);
        let is_done = result.as_ref().is_ok_and(|taken| taken.left.is_empty());
        // The watch tells of it as well, but not of one without its label.
        if is_done && self.bearers.get(&bearer.object) == Some(&bearer) {
            self.bearers.remove(&bearer.object);
        }
        let Bearer { object, undo, .. } = bearer;
        let (kind, run) = undo.map_or(("record".into(), String::new()), |undo| {
            (undo.kind, format!(" of run {}", undo.run))
        });
        match result {
            Ok(taken) if taken.left.is_empty() => {
                if taken.by_caller {
                    say(&format!("{object}: the {kind}{run} is taken back, at its deadline"));
                    self.metrics.restored(&kind);
                }
                for other in taken.changed_by_others {
                    say(&format!("{object}: {other}"));
                }
                self.again.remove(&object);
            }
            Ok(taken) => self.failed(&object, &kind, &taken.left.join("; ")),
            Err(error) => self.failed(&object, &kind, &one_line(&error)),
        }
    }

    fn failed(&mut self, object: &Object, kind: &str, why: &str) {
        self.tell_once(&format!("{object}: the {kind} is not taken back yet: {why}"));
        self.metrics.failed(kind);
        self.again.insert(object.clone(), Instant::now() + AGAIN_AFTER);
    }

    fn measure(&self) {
        let unix_ms = unix_ms();
        let overdue = self.bearers.values().filter(|bearer| is_due(bearer, unix_ms)).count();
        self.metrics.records(self.bearers.len(), overdue);
    }
}

/// Whether an object's time has come. One without a record that can be read is looked at at once.
fn is_due(bearer: &Bearer, unix_ms: u64) -> bool {
    bearer.undo.as_ref().map_or(true, |undo| undo.deadline_unix_ms <= unix_ms)
}

fn unix_ms() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_millis()).unwrap_or(u64::MAX)
}
