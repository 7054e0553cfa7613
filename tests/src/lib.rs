//! The harness of Faultline's test rings: places to test in, and observers that are not Faultline's.

pub mod netns;
