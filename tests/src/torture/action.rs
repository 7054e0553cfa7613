//! What goes wrong in the middle of a round.

use std::fmt;

use faultline_proto::fault::EndedBy;

/// One of the things that a fault must survive, or end with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Action {
    /// The agent is killed, and started again by its node.
    KillAgent,
    /// The agent is killed, and killed again while it starts: in the middle of its sweep.
    KillAgentTwice,
    /// The agent is killed, and stays dead until all leases are over.
    AgentStaysDead,
    /// The agent is stopped until all leases are over, then continued.
    StopAgent,
    /// The agent is told to end, as in a rolling update.
    TerminateAgent,
    /// The processes that the agent started for its faults are killed.
    KillHelpers,
    /// The agent and all its processes are killed at once.
    KillAgentAndHelpers,
    /// The controller is killed: nobody renews any more.
    KillController,
    /// The controller and the agent are killed at once.
    KillBoth,
    /// The controller is stopped until all leases are over, then continued.
    StopController,
    /// The controller asks for a revert.
    Revert,
    /// The controller renews until the deadline.
    RenewOn,
    /// The node is halted and resumed.
    Halt,
    /// The main process of a target's container is killed.
    KillContainer,
    /// A target is deleted: the process that holds its namespaces is killed, and all in it.
    DeletePod,
    /// The agent is killed, and a record of its journal is torn before it starts again.
    TearJournal,
    /// The network between controller and agent is cut.
    CutLink,
    /// The disk of the journal is full: no new fault, and every revert.
    FillDisk,
    /// The disk of the journal cannot be written to: no new fault, and the kernel is changed back.
    ReadOnlyDisk,
    /// The agent dies at a named step of what it does.
    Failpoint,
}

impl Action {
    /// All of them.
    pub(super) const ALL: &[Self] = &[
        Self::KillAgent,
        Self::KillAgentTwice,
        Self::AgentStaysDead,
        Self::StopAgent,
        Self::TerminateAgent,
        Self::KillHelpers,
        Self::KillAgentAndHelpers,
        Self::KillController,
        Self::KillBoth,
        Self::StopController,
        Self::Revert,
        Self::RenewOn,
        Self::Halt,
        Self::KillContainer,
        Self::DeletePod,
        Self::TearJournal,
        Self::CutLink,
        Self::FillDisk,
        Self::ReadOnlyDisk,
        // As many as all the others: there are many steps.
        Self::Failpoint,
        Self::Failpoint,
        Self::Failpoint,
        Self::Failpoint,
        Self::Failpoint,
        Self::Failpoint,
        Self::Failpoint,
        Self::Failpoint,
    ];

    /// Whether nothing but a lease, or the deadline, ends an effect of this holder.
    pub(super) fn leaves_it_to_the_lease(self, holder: EndedBy) -> bool {
        match self {
            Self::StopAgent
            | Self::KillController
            | Self::StopController
            | Self::RenewOn
            | Self::CutLink => true,
            // A holder lets go when its agent has ended.
            Self::AgentStaysDead => holder == EndedBy::Kernel,
            _ => false,
        }
    }

    /// Whether processes that hold effects are killed by it.
    pub(super) fn kills_holders(self) -> bool {
        matches!(self, Self::KillHelpers | Self::KillAgentAndHelpers)
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::KillAgent => "kill -9 agent",
            Self::KillAgentTwice => "kill -9 agent twice",
            Self::AgentStaysDead => "agent stays dead",
            Self::StopAgent => "SIGSTOP agent",
            Self::TerminateAgent => "SIGTERM agent",
            Self::KillHelpers => "kill -9 helpers",
            Self::KillAgentAndHelpers => "kill -9 agent, helpers",
            Self::KillController => "kill -9 controller",
            Self::KillBoth => "kill -9 both",
            Self::StopController => "SIGSTOP controller",
            Self::Revert => "revert",
            Self::RenewOn => "renew to deadline",
            Self::Halt => "halt and resume",
            Self::KillContainer => "kill container",
            Self::DeletePod => "delete pod",
            Self::TearJournal => "torn journal",
            Self::CutLink => "link cut",
            Self::FillDisk => "disk full",
            Self::ReadOnlyDisk => "disk read-only",
            Self::Failpoint => "failpoint",
        })
    }
}
