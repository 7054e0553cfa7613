//! The harness of the test rings. Observes from outside of the code under test.

pub mod sandbox;
