//! The capabilities that the work needs, and the loss of all others.

use caps::{CapSet, Capability, CapsHashSet, errors::CapsError};

/// What an agent needs, and for what, `capabilities(7)`.
pub const NEEDED: [Capability; 8] = [
    // Control groups and the journal belong to root; /proc/PID of other users is read.
    Capability::CAP_DAC_OVERRIDE,
    Capability::CAP_DAC_READ_SEARCH,
    // Signals to processes of any user.
    Capability::CAP_KILL,
    // nftables and links, in any network namespace.
    Capability::CAP_NET_ADMIN,
    // Packets with a peer's address as their source prove that those are dropped.
    Capability::CAP_NET_RAW,
    // setns(2).
    Capability::CAP_SYS_ADMIN,
    // /proc/PID/ns and /proc/PID/exe of processes of other users.
    Capability::CAP_SYS_PTRACE,
    // A helper's oom_score_adj can be put below what it inherited.
    Capability::CAP_SYS_RESOURCE,
];

/// Drops everything else, from every set of this thread and so of all that it starts. Returns what
/// was dropped. Must be called before there is another thread.
///
/// # Errors
/// When the kernel refuses.
pub fn drop_unneeded() -> Result<Vec<Capability>, CapsError> {
    let needed: CapsHashSet = NEEDED.into_iter().collect();
    let permitted = caps::read(None, CapSet::Permitted)?;
    let mut dropped: Vec<Capability> = permitted.difference(&needed).copied().collect();
    dropped.sort_by_key(Capability::index);
    // The bounding set cannot be set, only dropped from one by one, and that needs CAP_SETPCAP.
    if permitted.contains(&Capability::CAP_SETPCAP) {
        for capability in caps::read(None, CapSet::Bounding)?.difference(&needed) {
            caps::drop(None, CapSet::Bounding, *capability)?;
        }
    }
    let kept: CapsHashSet = permitted.intersection(&needed).copied().collect();
    caps::clear(None, CapSet::Ambient)?;
    caps::set(None, CapSet::Inheritable, &CapsHashSet::new())?;
    caps::set(None, CapSet::Effective, &kept)?;
    caps::set(None, CapSet::Permitted, &kept)?;
    Ok(dropped)
}
