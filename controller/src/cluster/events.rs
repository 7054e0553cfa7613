//! Tells Kubernetes what a run does: Events on pods and nodes as it happens. That it cannot be told disturbs nobody.

use std::{sync::Arc, time::Duration};

use k8s_openapi::{
    api::core::v1::{self, Event},
    jiff::Timestamp,
};
use kube::{Api, api::PostParams, runtime::reflector::Store};
use tokio::{task::JoinHandle, time};

use super::{
    Asked, Cluster, Connection,
    event::{Narrator, Said, event},
};
use crate::run::{Heard, Listener, one_line};

/// For how long events are gathered that are told together.
const GATHER: Duration = Duration::from_millis(200);
/// Events of one run at most.
const EVENTS_MAX: usize = 1_000;
/// From one Event to the next: no API server minds so many.
const SPACING: Duration = Duration::from_millis(20);
/// How long the end of a run waits for the last of them.
const FINISH_MAX: Duration = Duration::from_secs(10);

/// The Events of one run.
#[derive(Debug)]
pub struct Events {
    telling: JoinHandle<Vec<String>>,
}

impl Cluster {
    /// Tells what a run does from now on, as the listener hears it.
    pub fn tell_events(&self, run_id: &str, experiment: &str) -> (Listener, Events) {
        let (listener, heard) = Listener::new();
        let telling = Telling {
            connection: self.connection.clone(),
            pods: self.pods.store(),
            run_id: run_id.into(),
            told: 0,
            complaints: Vec::new(),
        };
        let narrator = Narrator::new(run_id, experiment);
        (listener, Events { telling: tokio::spawn(telling.run(narrator, heard)) })
    }
}

impl Events {
    /// Waits for the last of them, once everybody who could tell more has gone. Returns what could not be told, and why.
    pub async fn finish(self) -> Vec<String> {
        let mut telling = self.telling;
        match time::timeout(FINISH_MAX, &mut telling).await {
            Ok(Ok(complaints)) => complaints,
            Ok(Err(_ended)) => vec!["the task that tells Events has ended early".into()],
            Err(_late) => {
                telling.abort();
                vec![format!("not all Events were told within {FINISH_MAX:?}")]
            }
        }
    }
}

struct Telling {
    connection: Connection,
    pods: Store<v1::Pod>,
    run_id: String,
    told: usize,
    complaints: Vec<String>,
}

impl Telling {
    async fn run(mut self, mut narrator: Narrator, mut heard: Heard) -> Vec<String> {
        while let Some(first) = heard.events.recv().await {
            let mut events = vec![first];
            time::sleep(GATHER).await;
            while let Ok(next) = heard.events.try_recv() {
                events.push(next);
            }
            let pods = self.pods.clone();
            let said = narrator.tell(&events, |namespace, name| uid(&pods, namespace, name));
            for said in said {
                self.tell(&said).await;
            }
        }
        if self.told > EVENTS_MAX {
            let left_out = self.told - EVENTS_MAX;
            self.complaints.push(format!("{left_out} Events more than {EVENTS_MAX} were left out"));
        }
        if heard.missed() > 0 {
            self.complaints.push(format!("{} events came too fast to be told", heard.missed()));
        }
        self.complaints
    }

    /// Tells one, unless that has failed before: it would fail again.
    async fn tell(&mut self, said: &Said) {
        if !self.complaints.is_empty() {
            return;
        }
        self.told += 1;
        if self.told > EVENTS_MAX {
            return;
        }
        let event = event(said, &self.run_id, self.told, Timestamp::now());
        let namespace = event.metadata.namespace.clone().unwrap_or_default();
        let api: Api<Event> = Api::namespaced(self.connection.client(), &namespace);
        let asked = Asked::new("create", "events").within(&namespace);
        let with = PostParams::default();
        match self.connection.answer(asked, api.create(&with, &event)).await {
            // The namespace of a target can go, and what happened in it with it.
            Err(error) if !error.is_not_found() && !error.is_conflict() => {
                self.complaints.push(format!("Events are not told: {}", one_line(&error)));
            }
            _ => time::sleep(SPACING).await,
        }
    }
}

/// The uid by which the API server knows a pod.
fn uid(pods: &Store<v1::Pod>, namespace: &str, name: &str) -> Option<String> {
    let is_it = |pod: &v1::Pod| {
        pod.metadata.name.as_deref() == Some(name)
            && pod.metadata.namespace.as_deref() == Some(namespace)
    };
    let pod: Arc<v1::Pod> = pods.find(is_it)?;
    pod.metadata.uid.clone()
}
