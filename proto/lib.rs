//! The contract between Faultline's controller and its agents: the gRPC API and the validated types
//! behind it.
//!
//! Nothing here does I/O or knows Linux or Kubernetes. A value of a type of this crate is in bounds:
//! the wire form ([`pb`]) and the YAML form ([`yaml`]) are both checked on the way in.

pub mod boottime;
pub mod fault;
pub mod id;
pub mod limits;
pub mod probe;
pub mod status;
pub mod target;
pub mod units;
pub mod yaml;

/// The generated wire form. Use the validated types instead wherever one exists.
#[allow(
    missing_docs,
    unreachable_pub,
    missing_debug_implementations,
    clippy::pedantic,
    clippy::allow_attributes_without_reason,
    reason = "generated from proto/faultline/v1alpha1/agent.proto, which carries the documentation"
)]
pub mod pb {
    tonic::include_proto!("faultline.v1alpha1");
}

use thiserror::Error;

/// A wire value that is out of bounds: which field, and what was expected.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{field}: {problem}")]
pub struct InvalidWire {
    /// The field, as a path: `fault.partition.ports[2]`.
    pub field: String,
    /// What is wrong with it, and what was expected.
    pub problem: String,
}

impl InvalidWire {
    /// A problem with `field`.
    pub fn new(field: impl Into<String>, problem: impl Into<String>) -> Self {
        Self { field: field.into(), problem: problem.into() }
    }

    /// The same problem, seen from the message that holds the field.
    #[must_use]
    pub fn within(mut self, outer: &str) -> Self {
        self.field = format!("{outer}.{}", self.field);
        self
    }
}
