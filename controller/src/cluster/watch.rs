//! Objects of a cluster as they are now: one list at the beginning, and then a watch. Nothing is asked anew for each
//! look at them.

use std::{
    fmt::Debug,
    hash::Hash,
    pin::pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use futures::StreamExt as _;
use kube::{
    Api, Resource,
    runtime::{
        WatchStreamExt as _,
        reflector::{self, Store},
        watcher::{self, watcher},
    },
};
use serde::de::DeserializeOwned;
use tokio::{sync::watch, task::JoinHandle, time};

use super::{
    connect::{API_ANSWER_MAX, Connection},
    error::{Asked, ClusterError},
};

/// How long the first list may take: also a large cluster is told in pages.
const LIST_MAX: Duration = API_ANSWER_MAX;

/// Objects of one kind, watched until this is dropped.
#[derive(Debug)]
pub struct Watched<K: Resource<DynamicType = ()> + Clone + 'static> {
    store: Store<K>,
    shared: Arc<Shared>,
    changed: watch::Receiver<u64>,
    task: JoinHandle<()>,
}

#[derive(Debug, Default)]
struct Shared {
    version: AtomicU64,
    /// Why the watch is broken off now.
    trouble: Mutex<Option<String>>,
}

impl<K: Resource<DynamicType = ()> + Clone + 'static> Drop for Watched<K> {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl<K> Watched<K>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
    K::DynamicType: Eq + Hash + Clone,
{
    /// Lists, and goes on watching. `asked` says what of, for messages.
    ///
    /// # Errors
    /// When there is no first list.
    pub async fn start(
        connection: &Connection,
        api: Api<K>,
        config: watcher::Config,
        asked: Asked,
    ) -> Result<Self, ClusterError> {
        let (store, writer) = reflector::store::<K>();
        let shared = Arc::new(Shared::default());
        let (told, changed) = watch::channel(0);
        let (first_error, mut first_errors) = tokio::sync::mpsc::channel(1);
        let task = tokio::spawn({
            let shared = Arc::clone(&shared);
            async move {
                let events = reflector::reflector(writer, watcher(api, config).default_backoff());
                let mut events = pin!(events);
                while let Some(event) = events.next().await {
                    match event {
                        Ok(event) => {
                            shared.set_trouble(None);
                            // What comes between Init and InitDone is not in the store yet.
                            if !matches!(event, watcher::Event::Init | watcher::Event::InitApply(_))
                            {
                                let version = shared.version.fetch_add(1, Ordering::AcqRel) + 1;
                                told.send_replace(version);
                            }
                        }
                        Err(error) => {
                            shared.set_trouble(Some(crate::run::one_line(&error)));
                            // After the first list nobody listens.
                            drop(first_error.try_send(error));
                        }
                    }
                }
            }
        });
        let watched = Self { store, shared, changed, task };
        let first = watched.store.clone();
        let mut ready = pin!(async move { first.wait_until_ready().await });
        let limit = time::sleep(LIST_MAX);
        let mut limit = pin!(limit);
        let mut last = None;
        loop {
            tokio::select! {
                _ = &mut ready => return Ok(watched),
                Some(error) = first_errors.recv() => {
                    let error = of_watch(connection, &asked, error);
                    // It may pass: the watch tries again by itself. But not for one who only mistyped.
                    if error.is_final() || matches!(error, ClusterError::Unreachable { .. }) {
                        return Err(error);
                    }
                    last = Some(error);
                }
                () = &mut limit => {
                    let server = connection.server().to_owned();
                    let late = || ClusterError::NoAnswer { server, asked: Box::new(asked.clone()), within: LIST_MAX };
                    return Err(last.take().unwrap_or_else(late));
                }
            }
        }
    }

    /// The objects as they are now.
    pub fn now(&self) -> Vec<Arc<K>> {
        self.store.state()
    }

    /// A look at them that others may keep.
    pub fn store(&self) -> Store<K> {
        self.store.clone()
    }

    /// A number that is another one after each change.
    pub fn version(&self) -> u64 {
        self.shared.version.load(Ordering::Acquire)
    }

    /// Told after each change.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changed.clone()
    }

    /// Why nobody knows how they are now, if that is so: the watch broke off and has not come back.
    pub fn trouble(&self) -> Option<String> {
        self.shared.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Shared {
    fn set_trouble(&self, trouble: Option<String>) {
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = trouble;
    }
}

fn of_watch(connection: &Connection, asked: &Asked, error: watcher::Error) -> ClusterError {
    use watcher::Error;
    let error = match error {
        Error::InitialListFailed(error)
        | Error::WatchStartFailed(error)
        | Error::WatchFailed(error) => error,
        Error::WatchError(status) => kube::Error::Api(status),
        Error::NoResourceVersion => {
            return ClusterError::Refused {
                asked: Box::new(asked.clone()),
                code: 500,
                why: "it gave no resource version".into(),
            };
        }
    };
    ClusterError::of(connection.server(), asked.clone(), error)
}
