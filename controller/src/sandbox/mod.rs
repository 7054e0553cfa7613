//! The sandbox: a small cluster on this machine, without Kubernetes and without a trace.
//!
//! Nodes are network and pid namespaces, pods are network namespaces with control groups as kubelets
//! make them, and on each node runs a real agent. Nothing has a name outside of this process and its
//! children, so that the kernel takes everything back when they end, however they end; control
//! groups and the runtime directory alone outlive a `kill -9`, and are swept at the next start.
//!
//! ```text
//! faultline            lives in the hub: own network and mount namespace, bridge fl0
//! └ __faultline-node        made the node's namespaces, waits for:
//!   └ __faultline-node-init      pid 1 of the node: agent, pods, orphans
//!     ├ __faultline-agent             the agent, the same code as faultline-agent
//!     └ __faultline-pod               holds the pod's namespaces, restarts:
//!       └ __faultline-container            the workload, or the built-in echo
//! ```
//!
//! Whoever is killed of these comes back: a container in its pod, a pod as a new one in its place, and the
//! agent where that is asked for.
//!
//! It is not an isolation boundary: what a pod runs has the rights of whoever started the sandbox.

mod address;
mod cgroups;
mod children;
mod container;
mod down;
mod echo;
mod enter;
mod error;
mod event;
mod exec;
mod hosts;
mod identity;
mod init;
mod layout;
mod network;
mod node;
mod pod;
mod pods;
mod ready;
mod runtime_dir;
mod state;
mod sweep;
mod up;

use std::{ffi::OsString, process::ExitCode};

pub use address::AGENT_PORT;
pub(crate) use enter::join;
pub use enter::{Entered, enter};
pub use error::{SandboxError, StepError};
pub(crate) use exec::exec_in;
pub use runtime_dir::running;
pub use up::Sandbox;

/// Handles the re-executions that a sandbox consists of. To be called first in `main`, before any
/// thread exists, with all arguments. `None`: this is an ordinary start.
pub fn reexec(args: impl IntoIterator<Item = OsString>) -> Option<ExitCode> {
    // What an agent of ours starts is this program again, too.
    if let Some(code) = faultline_agent::helper::run_if_asked() {
        return Some(code);
    }
    let mut args = args.into_iter().skip(1);
    let role = args.next()?;
    let rest: Vec<OsString> = args.collect();
    let result = match role.to_str()? {
        node::ROLE => node::main(&rest),
        init::ROLE => init::main(&rest),
        init::AGENT_ROLE => return Some(init::agent_main(&rest)),
        pod::ROLE => pod::main(&rest),
        container::ROLE => return Some(container::main(&rest)),
        exec::ROLE => return Some(exec::main(&rest)),
        _ => return None,
    };
    Some(match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            event::Event::Failed { message: error::chain(&error) }.emit();
            eprintln!("{}: {}", role.display(), error::chain(&error));
            ExitCode::FAILURE
        }
    })
}
