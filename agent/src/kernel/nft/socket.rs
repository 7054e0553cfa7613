//! A netlink socket to nftables: sends requests, gathers answers. It knows no nftables object.
//!
//! The kernel works on a request while it is being sent (`netlink_sendmsg` calls the subsystem), so
//! that answers lie ready when the send returns. A receive that finds none for [`ANSWER_MS_MAX`] is
//! an error and not a hang.

use std::{io, time::Duration};

use libc::{
    EAGAIN, EINTR, ENOBUFS, MSG_DONTWAIT, NLM_F_ACK, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST,
    NLMSG_DONE, NLMSG_ERROR,
};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_NETFILTER};
use nix::sys::{
    socket::{setsockopt, sockopt},
    time::TimeVal,
};

use super::{
    batch::{SealedBatch, family, flag_bits, message_kind},
    wire::{Attributes, Message, Messages, Writer},
};
use crate::kernel::KernelError;

/// How long an answer may take. Batches of tens of thousands of elements take tens of milliseconds.
const ANSWER_MS_MAX: u64 = 5_000;
/// How often a request is made that the kernel asks to be made again.
const ATTEMPTS_MAX: usize = 8;
/// Bytes of the receive buffer: the kernel fills a datagram of a dump to at most 32 KiB.
const RECEIVE_LEN: usize = 64 << 10;
/// `ERESTART` of `include/linux/errno.h`: nftables says so when a generation went by.
const ERESTART: i32 = 85;
/// `NLM_F_ACK_TLVS`: the acknowledgement carries attributes.
const ACK_TLVS: u16 = 0x200;
/// `NLM_F_CAPPED`: the acknowledgement carries no more of the request than its header.
const CAPPED: u16 = 0x100;
/// `NLMSGERR_ATTR_MSG`: the text of an extended acknowledgement.
const ERROR_TEXT: u16 = 1;

/// Why a request failed.
#[derive(Debug)]
pub(super) struct Failure {
    /// The index of the message in its batch; 0 for a single one.
    pub(super) index: u32,
    /// The extended acknowledgement's text; empty where there was none.
    pub(super) text: String,
    pub(super) source: io::Error,
}

impl Failure {
    fn of_socket(source: io::Error) -> Self {
        Self { index: 0, text: String::new(), source }
    }

    fn is_passing(&self) -> bool {
        matches!(self.source.raw_os_error(), Some(EINTR | EAGAIN | ERESTART))
    }
}

/// The socket. It stays in the namespace it was opened in.
pub(super) struct NftSocket {
    socket: Socket,
    sequence: u32,
    send_len_max: usize,
    buffer: Vec<u8>,
}

impl std::fmt::Debug for NftSocket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NftSocket").field("sequence", &self.sequence).finish_non_exhaustive()
    }
}

impl NftSocket {
    /// Opens it in the calling thread's namespace.
    pub(super) fn open() -> Result<Self, KernelError> {
        let failed = |e| KernelError::io("open", "a netlink socket for nftables", e);
        let mut socket = Socket::new(NETLINK_NETFILTER).map_err(failed)?;
        socket.bind_auto().map_err(failed)?;
        socket.set_ext_ack(true).map_err(failed)?;
        socket.set_cap_ack(true).map_err(failed)?;
        let limit = TimeVal::new(i64::try_from(ANSWER_MS_MAX / 1000).unwrap_or(1), 0);
        setsockopt(&socket, sockopt::ReceiveTimeout, &limit).map_err(|e| failed(e.into()))?;
        // 0 until the first batch: how much can be sent is found out when it matters.
        Ok(Self { socket, sequence: 1, send_len_max: 0, buffer: Vec::new() })
    }

    /// Sends a batch, and waits until the kernel has done all of it or nothing.
    pub(super) fn transact(&mut self, batch: &mut SealedBatch) -> Result<(), Failure> {
        for attempt in 1.. {
            match self.transact_once(batch) {
                Err(failure) if failure.is_passing() && attempt < ATTEMPTS_MAX => {}
                result => return result,
            }
        }
        unreachable!("the loop ends at ATTEMPTS_MAX")
    }

    fn transact_once(&mut self, batch: &mut SealedBatch) -> Result<(), Failure> {
        let first = self.take_sequences(batch.len());
        self.send(batch.numbered(first))?;
        let last = first.wrapping_add(batch.acknowledged());
        let (mut done, mut failure) = (false, None);
        // The acknowledgement of the last message comes also when an earlier one was refused and so
        // nothing was done: all that lies ready is read before a conclusion is drawn.
        let mut flags = 0;
        loop {
            let received = match self.receive(flags) {
                Ok(received) => received,
                Err(e) if flags != 0 && e.kind() == io::ErrorKind::WouldBlock => break,
                Err(e) => return Err(Failure::of_socket(e)),
            };
            for message in Messages(&self.buffer[..received]) {
                let index = message.sequence.wrapping_sub(first);
                if index >= batch.len() {
                    continue; // of a request that was given up
                }
                match error_of(&message) {
                    Some(Ok(())) => done |= message.sequence == last,
                    Some(Err((source, text))) => {
                        failure.get_or_insert(Failure { index, text, source });
                    }
                    None => {}
                }
            }
            // Without an answer of ours yet, the next receive waits, for a limited time.
            flags = if done || failure.is_some() { MSG_DONTWAIT } else { 0 };
        }
        failure.map_or(Ok(()), Err)
    }

    /// Asks for one object. `read` gets the messages of the answer.
    pub(super) fn get(
        &mut self,
        kind: i32,
        attributes: impl Fn(&mut Writer),
        read: impl FnMut(&Message<'_>),
    ) -> Result<(), Failure> {
        self.request(kind, NLM_F_REQUEST | NLM_F_ACK, &attributes, read)
    }

    /// Asks for all objects of a kind. `read` gets each of them, of one consistent state.
    pub(super) fn dump<T>(
        &mut self,
        kind: i32,
        attributes: impl Fn(&mut Writer),
        read: impl Fn(&Message<'_>) -> Option<T>,
    ) -> Result<Vec<T>, Failure> {
        for attempt in 1.. {
            let mut found = Vec::new();
            let flags = NLM_F_REQUEST | NLM_F_DUMP;
            match self.request(kind, flags, &attributes, |message| found.extend(read(message))) {
                Ok(()) => return Ok(found),
                // An interrupted dump, or one that was too much for the buffer, is asked for again.
                Err(failure) if attempt < ATTEMPTS_MAX => {
                    let lost = failure.source.raw_os_error() == Some(ENOBUFS);
                    if !(lost || failure.is_passing()) {
                        return Err(failure);
                    }
                }
                Err(failure) => return Err(failure),
            }
        }
        unreachable!("the loop ends at ATTEMPTS_MAX")
    }

    fn request(
        &mut self,
        kind: i32,
        flags: i32,
        attributes: &impl Fn(&mut Writer),
        mut read: impl FnMut(&Message<'_>),
    ) -> Result<(), Failure> {
        let mut writer = Writer::default();
        let start = writer.begin_message(message_kind(kind), flag_bits(flags), family(), 0);
        attributes(&mut writer);
        writer.end_message(start);
        let sequence = self.take_sequences(1);
        writer.number(start, sequence);
        self.send(&writer.bytes)?;
        let mut interrupted = false;
        loop {
            let received = self.receive(0).map_err(Failure::of_socket)?;
            for message in Messages(&self.buffer[..received]) {
                if message.sequence != sequence {
                    continue;
                }
                interrupted |= message.flags & flag_bits(NLM_F_DUMP_INTR) != 0;
                if i32::from(message.kind) == NLMSG_DONE && interrupted {
                    return Err(Failure::of_socket(io::Error::from_raw_os_error(EINTR)));
                }
                match error_of(&message) {
                    Some(Ok(())) => return Ok(()),
                    Some(Err((source, text))) => return Err(Failure { index: 0, text, source }),
                    None => read(&message),
                }
            }
        }
    }

    fn take_sequences(&mut self, count: u32) -> u32 {
        let first = self.sequence;
        self.sequence = self.sequence.wrapping_add(count);
        first
    }

    fn send(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.make_room(bytes.len());
        let kernel = SocketAddr::new(0, 0);
        for attempt in 1.. {
            match self.socket.send_to(bytes, &kernel, 0) {
                Ok(_whole) => return Ok(()),
                // Nothing was looked at yet: it can be sent again.
                Err(e)
                    if attempt < ATTEMPTS_MAX
                        && matches!(e.raw_os_error(), Some(EINTR | ENOBUFS)) => {}
                Err(e) => {
                    let text = if e.raw_os_error() == Some(libc::EMSGSIZE) {
                        format!(
                            "{} bytes are more than net.core.wmem_max lets through",
                            bytes.len()
                        )
                    } else {
                        String::new()
                    };
                    return Err(Failure { index: 0, text, source: e });
                }
            }
        }
        unreachable!("the loop ends at ATTEMPTS_MAX")
    }

    /// Makes the send buffer large enough: a request is one datagram, and one that does not fit is
    /// refused (`netlink_sendmsg`).
    fn make_room(&mut self, len: usize) {
        /// What the system gives a socket at least: `SOCK_MIN_SNDBUF` is more than that.
        const FITS_ALWAYS: usize = 4 << 10;
        let wanted = len + 1024;
        if len <= FITS_ALWAYS || wanted <= self.send_len_max {
            return;
        }
        // Beyond the system's limit only with CAP_NET_ADMIN over the first user namespace. Where
        // both are refused, the send says what is wrong.
        let forced = setsockopt(&self.socket, sockopt::SndBufForce, &wanted);
        if forced.or_else(|_| setsockopt(&self.socket, sockopt::SndBuf, &wanted)).is_ok() {
            self.send_len_max = wanted;
        }
    }

    /// Receives one datagram of the kernel into the buffer; returns its length.
    fn receive(&mut self, flags: i32) -> io::Result<usize> {
        self.buffer.resize(RECEIVE_LEN, 0);
        for attempt in 1.. {
            let mut free: &mut [u8] = &mut self.buffer;
            match self.socket.recv_from(&mut free, flags) {
                // Anybody of this namespace may write to the socket.
                Ok((_, from)) if from.port_number() != 0 => {}
                Ok((len, _)) => return Ok(len.min(RECEIVE_LEN)),
                Err(e) if e.raw_os_error() == Some(EINTR) && attempt < ATTEMPTS_MAX => {}
                Err(e) if e.kind() == io::ErrorKind::WouldBlock && flags == 0 => {
                    let limit = Duration::from_millis(ANSWER_MS_MAX);
                    let text = format!("no answer of the kernel within {limit:?}");
                    return Err(io::Error::new(io::ErrorKind::TimedOut, text));
                }
                Err(e) => return Err(e),
            }
        }
        unreachable!("the loop ends with an answer or an error")
    }
}

/// What an acknowledgement or an end of a dump says; `None` for any other message.
fn error_of(message: &Message<'_>) -> Option<Result<(), (io::Error, String)>> {
    let kind = i32::from(message.kind);
    if kind != NLMSG_ERROR && kind != NLMSG_DONE {
        return None;
    }
    let code = message.body.first_chunk().map_or(0, |code| i32::from_ne_bytes(*code));
    if code == 0 {
        return Some(Ok(()));
    }
    let text = if kind == NLMSG_ERROR { error_text(message) } else { None };
    let source = io::Error::from_raw_os_error(code.saturating_neg());
    Some(Err((source, text.unwrap_or_default())))
}

/// The text of an extended acknowledgement: behind the error number and the refused request, of
/// which a capped one has the header only.
fn error_text(message: &Message<'_>) -> Option<String> {
    if message.flags & ACK_TLVS == 0 {
        return None;
    }
    let request = message.body.get(4..)?;
    let request_len = if message.flags & CAPPED != 0 {
        super::wire::HEADER_LEN
    } else {
        usize::try_from(u32::from_ne_bytes(*request.first_chunk()?)).ok()?.next_multiple_of(4)
    };
    Some(Attributes(request.get(request_len..)?).text(ERROR_TEXT)?.to_owned())
}
