//! What of a step cannot be taken back: pods that were deleted or evicted before it turned out that not all of it could
//! be done. Such a run has not left everything as it was, and does not say so.

use faultline_proto::{fault::Hold, status::Proof};

use super::{
    Ended, Run,
    tracked::{Shared, Tracked, lock, proof},
};
use crate::{
    cluster::fault::API_SERVER,
    plan::{PlannedFault, PlannedInjection, What},
};

impl Run<'_> {
    /// Why a step ended: a refusal only if nothing of it is left.
    pub(super) fn unless_lasting(
        &mut self,
        ended: Ended,
        faults: &[PlannedFault],
        tracked: &Shared,
    ) -> Ended {
        let Ended::Refused(mut why) = ended else { return ended };
        let lasting = self.lasting(faults, tracked);
        if lasting.is_empty() {
            return Ended::Refused(why);
        }
        why.push(format!("what was done and cannot be taken back: {}", lasting.join(", ")));
        Ended::Stopped(why)
    }

    /// What was done of a step with faults through the API server that nobody takes back.
    fn lasting(&mut self, faults: &[PlannedFault], tracked: &Shared) -> Vec<String> {
        if !lock(tracked).values().any(|item| item.node == API_SERVER) {
            return Vec::new();
        }
        // Also where the API server's answer was lost: pods are told of by another way.
        self.look();
        let mut lasting: Vec<String> = lock(tracked)
            .values()
            .filter(|item| is_done(item))
            .map(|item| of(item.kind, &item.target))
            .collect();
        for injection in faults.iter().flat_map(|fault| &fault.injections) {
            let of = of(injection.fault.kind(), &injection.target.to_string());
            if lasting.contains(&of) {
                continue;
            }
            let gone = self.ended_pods(injection);
            if gone > 0 {
                lasting
                    .push(format!("{of}, by which {} ended", crate::report::counted(gone, "pod")));
            }
        }
        lasting
    }

    /// How many of the pods that a fault deletes or evicts have gone, or are told to.
    fn ended_pods(&self, injection: &PlannedInjection) -> usize {
        let ends_pods = matches!(&injection.fault, What::Api(spec) if spec.ends_pods());
        let Some(following) = self.following.as_ref().filter(|_| ends_pods) else { return 0 };
        let stays = |uid: &&String| following.follower.pod(uid).is_some_and(|pod| !pod.terminating);
        injection.hits.iter().filter(|uid| !stays(uid)).count()
    }
}

fn of(kind: &str, target: &str) -> String {
    format!("the {kind} of {target}")
}

/// Whether something was done at one instant. What an agent did has to be proven; the API server has said that it did.
fn is_done(item: &Tracked) -> bool {
    let is_committed = item.status.as_ref().is_some_and(|status| status.committed_boottime_ns > 0);
    let is_seen = item.node == API_SERVER || proof(item) == Some(Proof::Proven);
    item.hold == Hold::Instant && is_committed && is_seen
}

#[cfg(test)]
mod tests {
    use faultline_proto::pb;

    use super::{super::tests, *};

    #[test]
    fn what_was_done_at_one_instant_is_not_taken_back() {
        let planned = tests::planned("1");
        let inject = tests::tracked(&planned);
        let with = |hold, node: &str, committed, proof: pb::Proof| {
            let effect = pb::Effect { proof: proof.into(), ..pb::Effect::default() };
            let status = pb::InjectionStatus {
                committed_boottime_ns: committed,
                effect: Some(effect),
                ..pb::InjectionStatus::default()
            };
            Tracked { hold, node: node.into(), status: Some(status), ..inject.clone() }
        };
        let pending = pb::Proof::Pending;
        assert!(is_done(&with(Hold::Instant, API_SERVER, 1, pending)));
        assert!(!is_done(&with(Hold::Instant, API_SERVER, 0, pending)), "nothing was deleted");
        assert!(!is_done(&with(Hold::Lasts, API_SERVER, 1, pending)), "it is taken back");
        assert!(!is_done(&with(Hold::Instant, "node1", 1, pending)));
        assert!(is_done(&with(Hold::Instant, "node1", 1, pb::Proof::Proven)), "a kill");
    }
}
