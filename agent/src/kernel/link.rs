//! The addresses of the interfaces of a namespace, through rtnetlink.
//!
//! The library is asynchronous: it runs on a current-thread runtime, on the thread that entered the
//! namespace, over a socket that was opened there.

use std::{io, net::IpAddr, time::Duration};

use futures::TryStreamExt;
use rtnetlink::packet_route::address::{AddressAttribute, AddressMessage};
use tokio::{runtime::Builder, time::timeout};

use super::{KernelError, netns::NetNs};

/// How long the list of addresses may take.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(2);

/// An address of an interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Address {
    /// The interface's index.
    pub interface: u32,
    /// The address.
    pub address: IpAddr,
    /// How many of its leading bits name the network.
    pub prefix_len: u8,
}

/// The addresses of all interfaces of a namespace, of both families.
///
/// # Errors
/// When the namespace cannot be entered, or the kernel could not be asked.
pub fn addresses(net_ns: &NetNs) -> Result<Vec<Address>, KernelError> {
    net_ns.enter(|| {
        let failed = |e| KernelError::io("list", "the addresses of a network namespace", e);
        let runtime =
            Builder::new_current_thread().enable_io().enable_time().build().map_err(failed)?;
        runtime.block_on(async {
            let (connection, handle, _unasked) = rtnetlink::new_connection().map_err(failed)?;
            // It ends with the runtime.
            let _task = tokio::spawn(connection);
            let listed = handle.address().get().execute().try_collect::<Vec<_>>();
            let messages = timeout(ANSWER_TIME_MAX, listed)
                .await
                .map_err(|elapsed| failed(io::Error::new(io::ErrorKind::TimedOut, elapsed)))?
                .map_err(|error| failed(io::Error::other(error)))?;
            Ok(messages.iter().filter_map(address).collect())
        })
    })
}

fn address(message: &AddressMessage) -> Option<Address> {
    // IFA_LOCAL is the own address where IFA_ADDRESS is the other end's (`rtnetlink(7)`).
    let local = message.attributes.iter().find_map(|attribute| match attribute {
        AddressAttribute::Local(address) => Some(*address),
        _ => None,
    });
    let address = local.or_else(|| {
        message.attributes.iter().find_map(|attribute| match attribute {
            AddressAttribute::Address(address) => Some(*address),
            _ => None,
        })
    })?;
    let header = &message.header;
    Some(Address { interface: header.index, address, prefix_len: header.prefix_len })
}
