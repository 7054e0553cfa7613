//! Probes, apart from who makes them: what came of one attempt, in words that are the same wherever
//! it was made.
//!
//! Nothing here knows an experiment, a schedule or a place, and nothing is judged.

mod failure;
mod sample;

pub use failure::{Failure, FailureKind};
pub use sample::Sample;
