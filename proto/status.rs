//! Where an injection is in its life, and whether its effect is proven: the words both sides use.

use serde::{Deserialize, Serialize};

use crate::pb;

/// Where an injection is in its life. The agent's `lifecycle` draws the transitions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum State {
    /// Planned and in the journal; the kernel is untouched.
    Prepared,
    /// The kernel is being changed.
    Injecting,
    /// In the kernel, held while the lease is renewed.
    Active,
    /// Being taken back.
    Reverting,
    /// Taken back; the kernel was read and holds nothing of it.
    Reverted,
    /// Could not be taken back; its residue is named.
    Stuck,
}

/// Why an injection is taken back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum RevertReason {
    /// The controller said so.
    Asked,
    /// Its latest end came.
    Deadline,
    /// Nobody renewed its lease.
    LeaseLost,
    /// It could not be injected completely.
    InjectFailed,
    /// The agent was told to end.
    Shutdown,
    /// The agent found it in the journal when it started.
    Restarted,
    /// The node was halted.
    Halted,
    /// What it was on has gone.
    TargetGone,
    /// Prepared, and then never committed.
    NeverCommitted,
}

/// Whether the effect of an injection is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Proof {
    /// Not seen yet, and there is time left to see it.
    Pending,
    /// Seen.
    Proven,
    /// Not seen in the time it should have been.
    Failed,
}

macro_rules! wire_enum {
    ($domain:ident { $($variant:ident),+ $(,)? }) => {
        impl From<$domain> for pb::$domain {
            fn from(value: $domain) -> Self {
                match value { $($domain::$variant => Self::$variant),+ }
            }
        }

        impl $domain {
            /// From the wire's number; `None` for an unspecified or unknown one.
            pub fn from_wire(number: i32) -> Option<Self> {
                match pb::$domain::try_from(number).ok()? {
                    pb::$domain::Unspecified => None,
                    $(pb::$domain::$variant => Some(Self::$variant)),+
                }
            }
        }
    };
}
pub(crate) use wire_enum;

wire_enum!(State { Prepared, Injecting, Active, Reverting, Reverted, Stuck });
wire_enum!(RevertReason {
    Asked,
    Deadline,
    LeaseLost,
    InjectFailed,
    Shutdown,
    Restarted,
    Halted,
    TargetGone,
    NeverCommitted
});
wire_enum!(Proof { Pending, Proven, Failed });
