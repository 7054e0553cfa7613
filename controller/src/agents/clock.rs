//! The clock of an agent's machine, as it can be known from here.
//!
//! The one question and answer with the shortest round trip decides: the agent read its clock
//! somewhere within it, so that the error is at most half of it (RFC 5905, section 8).

use std::time::{Duration, Instant};

use faultline_proto::boottime::BootTime;

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

    /// The better known of two.
    #[must_use]
    pub fn better(self, other: Self) -> Self {
        if other.rtt < self.rtt { other } else { self }
    }

    /// The shortest round trip to the agent that was seen.
    pub fn rtt(&self) -> Duration {
        self.rtt
    }

    /// How far a converted time may be off.
    pub fn uncertainty(&self) -> Duration {
        self.rtt / 2
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
        let better = clock.better(AgentClock::new(base, base + ms(2), BootTime::from_nanos(1)));
        assert_eq!(better.uncertainty(), ms(1));
    }
}
