//! Sets: what their keys are, how they find them, and their elements.

use std::net::IpAddr;

use libc::NFT_SET_ELEM_INTERVAL_END;

use super::wire::Writer;

/// The longest key: an IPv6 address.
pub(super) const KEY_LEN_MAX: usize = 16;

/// What the keys of a set are; the number is how `nft` shows them (`TYPE_…` in its `datatype.h`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyType {
    /// A family, as `meta nfproto` loads it.
    Family,
    /// An IPv4 address.
    AddressV4,
    /// An IPv6 address.
    AddressV6,
    /// A port.
    Port,
}

impl KeyType {
    pub(super) fn number(self) -> u32 {
        match self {
            Self::Family => 2,
            Self::AddressV4 => 7,
            Self::AddressV6 => 8,
            Self::Port => 13,
        }
    }

    /// Bytes of a key.
    pub const fn key_len(self) -> usize {
        match self {
            Self::Family => 1,
            Self::Port => 2,
            Self::AddressV4 => 4,
            Self::AddressV6 => 16,
        }
    }
}

/// How a set finds a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SetKind {
    /// Single keys, so many of them and no more: the kernel takes a hash table of fixed size.
    Keys(usize),
    /// Single keys that end by themselves.
    Timeouts,
    /// Ranges of keys.
    Intervals,
}

/// An element of a set: a key, or a boundary of an interval.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Element {
    key: [u8; KEY_LEN_MAX],
    len: usize,
    interval_end: bool,
    timeout_ms: Option<u64>,
}

impl Element {
    /// A key of at most 16 bytes, or the start of an interval.
    pub fn key(key: &[u8]) -> Self {
        let mut bytes = [0; KEY_LEN_MAX];
        bytes[..key.len()].copy_from_slice(key);
        Self { key: bytes, len: key.len(), interval_end: false, timeout_ms: None }
    }

    /// An address.
    pub fn address(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(v4) => Self::key(&v4.octets()),
            IpAddr::V6(v6) => Self::key(&v6.octets()),
        }
    }

    /// The first key behind an interval.
    pub fn interval_end(key: &[u8]) -> Self {
        Self { interval_end: true, ..Self::key(key) }
    }

    /// The same, to end by itself after so long.
    #[must_use]
    pub fn expiring_after(self, timeout_ms: u64) -> Self {
        Self { timeout_ms: Some(timeout_ms), ..self }
    }

    /// Writes it as an element of a list.
    pub(super) fn write(&self, w: &mut Writer) {
        // NFTA_LIST_ELEM, NFTA_SET_ELEM_KEY, NFTA_DATA_VALUE
        w.nested(1, |w| {
            w.nested(1, |w| w.bytes(1, &self.key[..self.len]));
            if self.interval_end {
                w.number32(3, NFT_SET_ELEM_INTERVAL_END.cast_unsigned()); // NFTA_SET_ELEM_FLAGS
            }
            if let Some(timeout_ms) = self.timeout_ms {
                w.number64(4, timeout_ms); // NFTA_SET_ELEM_TIMEOUT
            }
        });
    }
}
