//! Waiting for those in the kernel who may still look at what has been replaced.

use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

use super::KernelError;

/// Waits until every packet is through that was on its way when this was called, whichever rules it
/// had begun with. Milliseconds: a grace period of RCU, which packets are worked on under.
///
/// There is no call of that name. Closing a packet socket waits for one before it returns, whatever the
/// socket was for (`packet_release` in `net/packet/af_packet.c` calls `synchronize_net`);
/// `membarrier(2)` does not where there is one CPU, or tickless ones.
///
/// # Errors
/// When there are no packet sockets, or the capability `CAP_NET_RAW` is missing.
pub fn wait_for_packets() -> Result<(), KernelError> {
    // Of no protocol, so that it gets no packets.
    let opened = socket(AddressFamily::Packet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None);
    opened.map(drop).map_err(|e| KernelError::io("open", "a packet socket to wait with", e))
}
