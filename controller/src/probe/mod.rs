//! Probes: dense observation of the system under test on a monotonic clock.
//!
//! The schedule is open: an attempt begins when its time has come, whether or not the one before it
//! has been answered, so that a slow answer does not hide an outage. An attempt counts for the time
//! it began. The latest attempts are kept whole; older ones are taken into measures whose size does not
//! depend on how long a run lasts. Everything but the schedule is pure: what is recorded can be measured
//! again.

mod attempt;
mod fold;
mod latency;
mod object;
mod outage;
mod pods;
mod remote;
mod samples;
mod schedule;
mod series;
mod times;
mod value;

pub use attempt::{CurrentPod, Target};
pub use fold::{Downtime, Fold, InWindow, Share};
pub use latency::Latency;
pub use object::ObjectAttempt;
pub use outage::{Outage, union};
pub use pods::PodsAttempt;
pub use remote::{Move, Observer, Remote};
pub use samples::Samples;
pub use schedule::Running;
pub use series::{Bucket, Series};
pub use times::{Times, Window};
pub use value::{Values, check, number};

/// Attempts of one probe that may be under way at once.
pub(crate) const WAITING_MAX: u32 = 256;
/// The same, as a length.
const CONCURRENT_MAX: usize = WAITING_MAX as usize;
