//! The clock of an agent's machine, as it can be known from here.
//!
//! The one question and answer with the shortest round trip decides: the agent read its clock
//! somewhere within it, so that the error is at most half of it (RFC 5905, section 8). Two clocks drift
//! apart, so that what was learnt long ago is known less well: a new answer takes its place in time.

use std::time::{Duration, Instant};

use faultline_proto::boottime::BootTime;

/// By how much two clocks may drift apart, at most: a millionth of the time that passes, so many times.
const DRIFT_MILLIONTHS: u32 = 100;

/// How the time of an agent relates to the time here.
#[derive(Debug, Clone, Copy)]
pub struct AgentClock {
    here: Instant,
    there: BootTime,
    rtt: Duration,
}

impl AgentClock {
    /// From a question that was `asked` and `answered` here, and the time that the answer told.
    pub fn new(asked: Instant, answered: Instant, there: BootTime) -> Self {
        let rtt = answered - asked;
        Self { here: asked + rtt / 2, there, rtt }
    }

    /// The one of two that is better known at a time.
    #[must_use]
    pub fn better(self, other: Self, at: Instant) -> Self {
        if other.uncertainty_at(at) < self.uncertainty_at(at) { other } else { self }
    }

    /// The shortest round trip to the agent that was seen.
    pub fn rtt(&self) -> Duration {
        self.rtt
    }

    /// How far a converted time of about now may be off.
    pub fn uncertainty(&self) -> Duration {
        self.uncertainty_at(Instant::now())
    }

    /// How far a converted time of about then may be off.
    pub fn uncertainty_at(&self, at: Instant) -> Duration {
        let apart =
            at.saturating_duration_since(self.here) + self.here.saturating_duration_since(at);
        self.rtt / 2 + apart / 1_000_000 * DRIFT_MILLIONTHS
    }

    /// A time there, here.
    pub fn to_here(&self, there: BootTime) -> Instant {
        if there >= self.there {
            self.here + there.since(self.there)
        } else {
            self.here.checked_sub(self.there.since(there)).unwrap_or(self.here)
        }
    }

    /// A time here, there.
    pub fn to_agent(&self, here: Instant) -> BootTime {
        if here >= self.here {
            self.there.after(here - self.here)
        } else {
            let before = u64::try_from((self.here - here).as_nanos()).unwrap_or(u64::MAX);
            BootTime::from_nanos(self.there.as_nanos().saturating_sub(before))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_converted_both_ways_and_the_shorter_round_trip_wins() {
        let base = Instant::now() + Duration::from_secs(100);
        let ms = Duration::from_millis;
        let clock = AgentClock::new(base, base + ms(10), BootTime::from_nanos(7_000_000_000));
        let there = clock.to_agent(base + ms(105));
        assert_eq!(there.as_nanos(), 7_100_000_000);
        assert_eq!(clock.to_here(there), base + ms(105));
        let earlier = clock.to_agent(base);
        assert_eq!(clock.to_here(earlier), base);
        let short = AgentClock::new(base, base + ms(2), BootTime::from_nanos(1));
        assert_eq!(clock.better(short, base).uncertainty_at(base + ms(1)), ms(1));
    }

    #[test]
    fn what_was_learnt_long_ago_gives_way_to_what_is_known_better_now() {
        let base = Instant::now();
        let (ms, hour) = (Duration::from_millis, Duration::from_hours(1));
        let old = AgentClock::new(base, base + ms(2), BootTime::from_nanos(1));
        let asked = base + hour;
        let new = AgentClock::new(asked, asked + ms(20), BootTime::from_nanos(2));
        assert_eq!(old.better(new, base + ms(10)).rtt(), ms(2), "not yet");
        assert_eq!(old.better(new, asked).rtt(), ms(20));
        assert!(old.uncertainty_at(asked) >= ms(300), "{:?}", old.uncertainty_at(asked));
    }
}
