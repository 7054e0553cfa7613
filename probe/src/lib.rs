//! Probes, apart from who makes them: one attempt of each kind that needs nothing but a network, and
//! what came of it, in words that are the same wherever it was made.
//!
//! Nothing here knows an experiment, a schedule or a place, and nothing is judged. An [`Attempt`] is a
//! future without tasks of its own: when it is dropped, because its time is over, its sockets are
//! closed. How sockets come about is a [`Dialer`]'s matter.

mod attempt;
mod dial;
pub mod dns;
mod failure;
mod grpc;
mod http;
mod late;
mod names;
mod prometheus;
mod sample;
mod socket;
mod tls;

pub use attempt::Attempt;
pub use dial::{Dialer, HostDialer};
pub use failure::{Failure, FailureKind};
pub use late::with_lateness;
pub use names::Names;
pub use sample::Sample;
