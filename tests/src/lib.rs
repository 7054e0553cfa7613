//! The harness of the test rings.

pub mod process;
