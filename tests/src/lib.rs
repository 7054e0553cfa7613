//! The harness of the test rings: what tests stand on, written so that it does not share the mistakes
//! of what it tests.

pub mod cluster;
pub mod fake_agent;
pub mod flood;
pub mod netns;
pub mod observer;
pub mod pki;
pub mod process;
pub mod program;
pub mod sandbox;
pub mod scale;
pub mod sim;
pub mod supervised;
pub mod torture;
pub mod truth;
