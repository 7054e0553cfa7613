//! What the processes of a node tell the process that built the sandbox: one JSON object per line,
//! on the pipe that is their standard output.
//!
//! Lines are shorter than `PIPE_BUF`, so that several writers do not mix them (pipe(7)).

use std::io::Write as _;

use serde::{Deserialize, Serialize};

/// The longest message that is passed on: also where JSON writes six bytes for one, its line stays
/// below `PIPE_BUF`, 4096 bytes.
const MESSAGE_BYTES_MAX: usize = 512;

/// Something that happened on a node. Pids are those of the node's pid namespace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub(super) enum Event {
    /// The agent runs.
    AgentStarted { pid: i32 },
    /// The agent has ended.
    AgentEnded { status: String },
    /// The namespaces and the network of a pod are there, held by this process.
    PodHeld { uid: String, pid: i32 },
    /// The process that held a pod has ended, and the pod with it.
    PodEnded { uid: String, status: String },
    /// In the place of the pod `old` there will be another.
    PodReplaced { old: String, uid: String, pause_id: String, host: u8 },
    /// A container runs its workload.
    ContainerStarted { uid: String, id: String },
    /// A container could not run its workload, or ended.
    ContainerEnded { uid: String, id: String, status: String },
    /// What could not be done; the node does not become ready.
    Failed { message: String },
}

impl Event {
    /// Writes it to standard output. Nobody listening is no error: then everything ends anyway.
    pub(super) fn emit(mut self) {
        if let Self::Failed { message: text }
        | Self::AgentEnded { status: text }
        | Self::PodEnded { status: text, .. }
        | Self::ContainerEnded { status: text, .. } = &mut self
        {
            let end = (0..=MESSAGE_BYTES_MAX.min(text.len())).rev();
            text.truncate(end.into_iter().find(|end| text.is_char_boundary(*end)).unwrap_or(0));
        }
        let Ok(mut line) = serde_json::to_vec(&self) else { return };
        line.push(b'\n');
        // One write, so that the line stays whole; a reader that has gone is gone.
        drop(std::io::stdout().lock().write_all(&line));
    }
}
