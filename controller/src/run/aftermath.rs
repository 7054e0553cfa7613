//! What is noticed of a step once it has been taken back, and ended as it was planned: that its faults were in effect to
//! their end is not known by that alone.

use faultline_proto::fault::Hold;

use super::{
    Ended, Run,
    ended::{ended_by_halt, is_ended_by_others, is_halted, is_unseen},
    tracked::{Shared, Tracked, lock},
};
use crate::cluster::fault::ENDED_BY_OTHERS;

impl Run<'_> {
    /// Notices faults whose effect was not seen, and faults that somebody else ended: what was not seen is not called
    /// injected.
    pub(super) fn note_what_did_not_last(&mut self, tracked: &Shared) {
        let items = lock(tracked);
        let unseen: Vec<String> =
            items.values().filter(|item| is_unseen(item)).map(unseen).collect();
        let ended = items.values().filter(|item| is_ended_by_others(item));
        // When that was is not known.
        let ended: Vec<String> = ended
            .map(|item| format!("the {} of {}: {ENDED_BY_OTHERS}", item.kind, item.target))
            .collect();
        drop(items);
        for text in unseen {
            self.deviate("effect", text);
        }
        for text in ended {
            self.deviate("early", text);
        }
    }

    /// Notices a halt that came when the step was to end anyway: whoever halts wants nothing more to happen.
    pub(super) fn halted_at_its_end(&mut self, tracked: &Shared) -> Result<(), Ended> {
        let items = lock(tracked);
        let is_by_halt = |item: &&Tracked| {
            let status = item.status.as_ref();
            item.hold == Hold::Lasts && status.is_some_and(|status| is_halted(status.revert_reason))
        };
        let halted: Vec<String> = items.values().filter(is_by_halt).map(ended_by_halt).collect();
        drop(items);
        if halted.is_empty() {
            return Ok(());
        }
        let ended = Ended::Halted(halted);
        self.record_end(&ended);
        Err(ended)
    }
}

fn unseen(item: &Tracked) -> String {
    let effect = item.status.as_ref().and_then(|status| status.effect.as_ref());
    let seen = effect.map(|effect| effect.evidence.as_str()).unwrap_or_default();
    let seen = if seen.is_empty() { "nothing was seen of it" } else { seen };
    format!("the {} of {} was over before its effect was seen: {seen}", item.kind, item.target)
}
