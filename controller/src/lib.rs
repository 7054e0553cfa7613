//! Faultline's controller and command line.
//!
//! It reads an experiment, finds the targets, injects on many nodes at once, measures, takes the
//! fault back and proves recovery. It never matches on a fault's kind: what a kind means is in
//! `faultline-proto`, what it does is the agent's.

pub mod cli;
pub mod diagnostics;

pub mod cluster;
pub mod experiment;
pub mod pki;
pub mod place;

pub mod agents;
pub mod comeback;
pub mod ops;
pub mod plan;
pub mod probe;
pub mod run;
pub mod stop;

pub mod metrics;
pub mod report;
pub mod sandbox;
pub mod send;
#[cfg(any(test, feature = "otlp"))]
pub mod traces;
