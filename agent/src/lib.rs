//! The agent of one node: it plans, injects, proves and reverts faults on that node's Linux.
//!
//! It knows nothing of the Kubernetes API. It obeys one controller, over mutual TLS, and runs
//! nothing that it is sent. The binary is a thin `main`; the controller's sandbox runs the same code
//! by re-executing itself.

pub mod cli;
pub mod node_info;
pub mod server;

pub mod supervisor;

pub mod metrics;
pub mod observe;

pub mod journal;
pub mod lifecycle;
pub mod resolve;

pub mod failpoint;
pub mod fault;
pub mod helper;

pub mod kernel;

pub mod errors;
