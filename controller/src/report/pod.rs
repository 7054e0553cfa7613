//! What became of pods that were lost, as it is written into reports.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{millis, time};
use crate::comeback::{Comeback, Loss};

/// One time that a pod of a target was lost, and its coming back.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PodReport {
    /// The targets of the experiment that it belongs to.
    pub targets: Vec<String>,
    /// The pod's namespace.
    pub namespace: String,
    /// Who is there now; who was, where nobody is.
    pub pod: String,
    /// Its uid.
    pub uid: String,
    /// The node it is on; `null` while it has none.
    pub node: Option<String>,
    /// Whose place it took; `null`: it is the same pod still.
    pub instead_of: Option<String>,
    /// How it was lost.
    pub loss: Loss,
    /// When that was seen, since the run began.
    pub lost_at_ms: f64,
    /// From then until another pod was there in its place.
    pub time_to_recreated_ms: Option<f64>,
    /// From then until that had a node.
    pub time_to_scheduled_ms: Option<f64>,
    /// From then until it was ready.
    pub time_to_ready_ms: Option<f64>,
    /// The truth is within this of each of these times: the distance of the looks that they lie between.
    pub uncertainty_ms: f64,
    /// How often its containers were started again since the first injection.
    pub restarts: u32,
}

impl From<&Comeback> for PodReport {
    fn from(comeback: &Comeback) -> Self {
        let Comeback { recreated, scheduled, ready, lost, .. } = comeback;
        let after = |moment| comeback.after(moment).map(|(after, _)| millis(after));
        let moments = [recreated, scheduled, ready].into_iter().flatten();
        let off = moments.map(|moment| moment.uncertainty).max().unwrap_or_default();
        Self {
            targets: comeback.targets.clone(),
            namespace: comeback.pod.namespace.clone(),
            pod: comeback.pod.name.clone(),
            uid: comeback.pod.uid.clone(),
            node: Some(comeback.pod.node.clone()).filter(|node| !node.is_empty()),
            instead_of: comeback.instead_of.as_ref().map(|pod| pod.name.clone()),
            loss: comeback.loss,
            lost_at_ms: millis(lost.at),
            time_to_recreated_ms: after(*recreated),
            time_to_scheduled_ms: after(*scheduled),
            time_to_ready_ms: after(*ready),
            uncertainty_ms: millis(off.max(lost.uncertainty)),
            restarts: comeback.restarts,
        }
    }
}

/// `pod shop/api-b in the place of api-a was gone at 2.1 s: recreated after 310 ms, ready after 1.4 s (± 20 ms)`.
pub(super) fn sentence(pod: &PodReport) -> String {
    let ms = |ms: f64| time(Duration::try_from_secs_f64(ms / 1e3).unwrap_or_default());
    let needs_another = matches!(pod.loss, Loss::Deleted | Loss::Gone);
    let mut parts = Vec::new();
    for (what, after, is_meant) in [
        ("recreated", pod.time_to_recreated_ms, needs_another),
        ("scheduled", pod.time_to_scheduled_ms, needs_another),
        ("ready", pod.time_to_ready_ms, true),
    ] {
        match after {
            Some(after) => parts.push(format!("{what} after {}", ms(after))),
            None if is_meant => {
                // What comes after it did not come either.
                parts.push(format!("not {what} when the run ended"));
                break;
            }
            None => {}
        }
    }
    if pod.restarts > 0 {
        parts.push(format!("containers started again: {}", pod.restarts));
    }
    let (who, how, lost) = (pod.who(), pod.how(), ms(pod.lost_at_ms));
    let off = ms(pod.uncertainty_ms);
    format!("pod {who} {how} at {lost}: {} (± {off})", parts.join(", "))
}

impl PodReport {
    /// `shop/api-b in the place of api-a`.
    pub fn who(&self) -> String {
        let instead = self.instead_of.as_ref().filter(|old| **old != self.pod);
        let instead = match (instead, &self.instead_of) {
            (Some(old), _) => format!(" in the place of {old}"),
            (None, Some(_)) => " anew".into(),
            (None, None) => String::new(),
        };
        format!("{}/{}{instead}", self.namespace, self.pod)
    }

    /// `was deleted`.
    pub fn how(&self) -> &'static str {
        match self.loss {
            Loss::NotReady => "was not ready",
            Loss::Restarted => "was started again",
            Loss::Deleted => "was deleted",
            Loss::Gone => "was gone",
        }
    }
}
