//! What the kernel says of a network namespace, asked by a netlink socket of the harness's own:
//! interfaces, addresses, routes, rules, queueing disciplines and filters, without what changes by
//! itself; and how often its nftables have changed.
//!
//! The same as `ip` and `tc` show, for a hundredth of what starting them costs.

use std::{
    io,
    os::fd::{AsRawFd as _, OwnedFd},
};

use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, recv, sendto, socket,
};

// `linux/netlink.h`: a header of length, type, flags, sequence number and port.
const HEADER_LEN: usize = 16;
const REQUEST: u16 = 1;
const DUMP: u16 = 0x300;
const ERROR: u16 = 2;
const DONE: u16 = 3;
// `linux/nfnetlink.h`, `linux/nf_tables.h`.
const GET_GENERATION: u16 = (10 << 8) | 16;
const GENERATION_ID: u16 = 1;
// `linux/rtnetlink.h`.
const GET_LINK: u16 = 18;
const GET_FILTER: u16 = 46;
/// Room for one read of a dump: the kernel sends at most so much at once.
const BUFFER_LEN: usize = 64 << 10;

/// A thing that is dumped.
struct Table {
    /// What it is called.
    name: &'static str,
    /// The request's type; answers have another.
    request: u16,
    /// Bytes of the fixed part of a message, before its attributes.
    fixed: usize,
    /// Attributes that change by themselves.
    changing: &'static [u16],
}

/// `linux/if_link.h`, `if_addr.h`, `rtnetlink.h`, `fib_rules.h`, `pkt_sched.h`: statistics, ages, and of a
/// bridge's timers.
const TABLES: &[Table] = &[
    // IFLA_STATS, IFLA_STATS64, IFLA_AF_SPEC (counters of IPv6), IFLA_LINKINFO (timers of a bridge).
    Table { name: "link", request: GET_LINK, fixed: 16, changing: &[7, 23, 26, 18] },
    // IFA_CACHEINFO.
    Table { name: "address", request: 22, fixed: 8, changing: &[6] },
    // RTA_CACHEINFO.
    Table { name: "route", request: 26, fixed: 12, changing: &[12] },
    Table { name: "rule", request: 34, fixed: 12, changing: &[] },
    // TCA_STATS, TCA_XSTATS, TCA_STATS2.
    Table { name: "qdisc", request: 38, fixed: 20, changing: &[3, 4, 7] },
];
const FILTER: Table =
    Table { name: "filter", request: GET_FILTER, fixed: 20, changing: &[3, 4, 7] };

/// What [`tables`] are called.
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    TABLES.iter().chain([&FILTER]).map(|table| table.name)
}

/// All of the network namespace of this thread: what it is of, and a line for each.
///
/// # Errors
/// When the kernel cannot be asked.
pub(super) fn tables() -> io::Result<Vec<(&'static str, Vec<String>)>> {
    let socket = open(SockProtocol::NetlinkRoute)?;
    let mut found = Vec::new();
    let mut links = Vec::new();
    for table in TABLES {
        let messages = ask(&socket, table.request, DUMP, &vec![0; table.fixed])?;
        if table.request == GET_LINK {
            links =
                messages.iter().filter_map(|message| message.get(4..8)).map(Vec::from).collect();
        }
        found.push((table.name, messages.iter().map(|m| line(m, table)).collect()));
    }
    let mut filters = Vec::new();
    for index in links {
        // Family and padding, then the interface.
        let mut body = vec![0; FILTER.fixed];
        body[4..8].copy_from_slice(&index);
        let messages = ask(&socket, FILTER.request, DUMP, &body)?;
        filters.extend(messages.iter().map(|message| line(message, &FILTER)));
    }
    found.push((FILTER.name, filters));
    Ok(found)
}

/// A number that changes with every change of the nftables of this thread's network namespace.
///
/// # Errors
/// When the kernel cannot be asked.
pub(super) fn nft_generation() -> io::Result<u32> {
    let socket = open(SockProtocol::NetlinkNetFilter)?;
    let messages = ask(&socket, GET_GENERATION, 0, &[0; 4])?;
    let id = messages.iter().flat_map(|m| attributes(m.get(4..).unwrap_or_default()));
    let id = id
        .filter(|(kind, _)| *kind == GENERATION_ID)
        .find_map(|(_, value)| <[u8; 4]>::try_from(value).ok().map(u32::from_be_bytes));
    id.ok_or_else(|| io::ErrorKind::InvalidData.into())
}

fn open(protocol: SockProtocol) -> io::Result<OwnedFd> {
    Ok(socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, protocol)?)
}

/// Asks, and returns the messages that answer, without their headers. That something does not exist is
/// an answer without any.
fn ask(socket: &OwnedFd, kind: u16, flags: u16, body: &[u8]) -> io::Result<Vec<Vec<u8>>> {
    let mut request = Vec::with_capacity(HEADER_LEN + body.len());
    let length = u32::try_from(HEADER_LEN + body.len()).unwrap_or(u32::MAX);
    request.extend(length.to_ne_bytes());
    request.extend(kind.to_ne_bytes());
    request.extend((REQUEST | flags).to_ne_bytes());
    request.extend([0; 8]);
    request.extend(body);
    sendto(socket.as_raw_fd(), &request, &NetlinkAddr::new(0, 0), MsgFlags::empty())?;
    let mut buffer = vec![0; BUFFER_LEN];
    let mut answers = Vec::new();
    loop {
        let length = recv(socket.as_raw_fd(), &mut buffer, MsgFlags::empty())?;
        let mut rest = &buffer[..length];
        while let Some((kind, message, next)) = split(rest) {
            match kind {
                DONE | ERROR => return Ok(answers),
                _ => answers.push(message.to_vec()),
            }
            rest = next;
        }
        if flags == 0 {
            return Ok(answers);
        }
    }
}

/// The first of several messages: its type, its content, and the others.
fn split(bytes: &[u8]) -> Option<(u16, &[u8], &[u8])> {
    let length = u32::from_ne_bytes(bytes.get(..4)?.try_into().ok()?);
    let length = usize::try_from(length).ok()?;
    let kind = u16::from_ne_bytes(bytes.get(4..6)?.try_into().ok()?);
    let message = bytes.get(HEADER_LEN..length)?;
    Some((kind, message, bytes.get(length.next_multiple_of(4)..).unwrap_or_default()))
}

/// The attributes of a message, without the two bits that say how they are written.
fn attributes(mut bytes: &[u8]) -> Vec<(u16, &[u8])> {
    let mut found = Vec::new();
    while let Some(&[a, b, c, d]) = bytes.get(..4) {
        let length = usize::from(u16::from_ne_bytes([a, b])).max(4);
        let Some(value) = bytes.get(4..length) else { break };
        found.push((u16::from_ne_bytes([c, d]) & 0x3fff, value));
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    found
}

/// A message as text: the fixed part, then its attributes by number; names as they are.
fn line(message: &[u8], table: &Table) -> String {
    let (fixed, rest) = message.split_at(table.fixed.min(message.len()));
    let mut text = hex(fixed);
    for (kind, value) in attributes(rest) {
        if table.changing.contains(&kind) {
            continue;
        }
        let bare = value.strip_suffix(&[0]).unwrap_or(value);
        let is_name = bare.len() > 1 && bare.iter().all(u8::is_ascii_graphic);
        let shown = if is_name { String::from_utf8_lossy(bare).into() } else { hex(value) };
        text += &[" ", &kind.to_string(), "=", &shown].concat();
    }
    text
}

fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        for digit in [byte >> 4, byte & 15] {
            text.push(char::from_digit(digit.into(), 16).unwrap_or('?'));
        }
    }
    text
}
