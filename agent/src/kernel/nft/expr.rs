//! Expressions: what the rules of a chain are made of. They work on one register.
//!
//! Names and attributes: `include/uapi/linux/netfilter/nf_tables.h`. A rule is a list of them; the
//! first that does not match ends it.

use libc::{
    NF_ACCEPT, NF_DROP, NFPROTO_IPV4, NFPROTO_IPV6, NFT_CMP_EQ, NFT_CMP_GTE, NFT_CMP_LTE,
    NFT_CMP_NEQ, NFT_GOTO, NFT_LOOKUP_F_INV, NFT_META_IIF, NFT_META_L4PROTO, NFT_META_MARK,
    NFT_META_NFPROTO, NFT_META_OIF, NFT_PAYLOAD_NETWORK_HEADER, NFT_PAYLOAD_TRANSPORT_HEADER,
    NFT_REG_1, NFT_REG_VERDICT, NFT_REJECT_ICMPX_ADMIN_PROHIBITED, NFT_REJECT_ICMPX_UNREACH,
    NFT_REJECT_TCP_RST,
};

use super::wire::Writer;

/// `NFTA_LIST_ELEM`.
const LIST_ELEM: u16 = 1;
/// `NFTA_DATA_VALUE`.
const DATA_VALUE: u16 = 1;
/// The index of the loopback interface in every namespace: `LOOPBACK_IFINDEX` in `include/net/flow.h`.
const LOOPBACK_INDEX: u32 = 1;

/// The family of a packet's network header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

/// Which address of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AddressOf {
    /// The sender's.
    Source,
    /// The receiver's.
    Destination,
}

/// Which end of a port pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PortOf {
    /// The sender's.
    Source,
    /// The receiver's.
    Destination,
}

/// How a comparison is made; bytes are compared in network order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compare {
    /// Equal.
    Equal,
    /// Not equal.
    Unequal,
    /// Not below.
    AtLeast,
    /// Not above.
    AtMost,
}

/// One expression.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expr {
    /// Loads the family of the packet: one byte.
    LoadFamily,
    /// Loads the transport protocol's number: one byte.
    LoadProtocol,
    /// Loads the index of the interface it came in by.
    LoadInputInterface,
    /// Loads the index of the interface it leaves by.
    LoadOutputInterface,
    /// Loads the packet's mark.
    LoadMark,
    /// Loads bytes of the network header.
    LoadNetwork {
        /// Where they begin.
        offset: u32,
        /// How many.
        len: u32,
    },
    /// Loads bytes of the transport header.
    LoadTransport {
        /// Where they begin.
        offset: u32,
        /// How many.
        len: u32,
    },
    /// Keeps only these bits of the register.
    Mask(Vec<u8>),
    /// Matches when the register compares so with the value.
    Is(Compare, Vec<u8>),
    /// Matches when what the register holds is in a set of the table.
    In(String),
    /// Matches when it is not.
    NotIn(String),
    /// Counts packets and bytes that come here.
    Count,
    /// The packet passes this table.
    Accept,
    /// The packet vanishes.
    Drop,
    /// The rules of another chain decide; they do not come back.
    Goto(String),
    /// TCP is answered with a reset; nothing else may come here.
    RejectWithReset,
    /// The packet is answered with "administratively prohibited" of its family.
    RejectAsProhibited,
}

/// Matches packets of a family.
pub fn of_family(family: Family) -> [Expr; 2] {
    let number = match family {
        Family::V4 => NFPROTO_IPV4,
        Family::V6 => NFPROTO_IPV6,
    };
    [Expr::LoadFamily, Expr::Is(Compare::Equal, vec![byte(number)])]
}

/// Matches packets of a transport protocol, by its number (`IPPROTO_…`).
pub fn of_protocol(number: u8) -> [Expr; 2] {
    [Expr::LoadProtocol, Expr::Is(Compare::Equal, vec![number])]
}

/// Loads an address of a packet that is known to be of `family`.
pub fn load_address(family: Family, which: AddressOf) -> Expr {
    // Offsets in RFC 791, section 3.1, and RFC 8200, section 3.
    let (offset, len) = match (family, which) {
        (Family::V4, AddressOf::Source) => (12, 4),
        (Family::V4, AddressOf::Destination) => (16, 4),
        (Family::V6, AddressOf::Source) => (8, 16),
        (Family::V6, AddressOf::Destination) => (24, 16),
    };
    Expr::LoadNetwork { offset, len }
}

/// Loads a port: TCP and UDP both begin with the source's and then the destination's.
pub fn load_port(which: PortOf) -> Expr {
    let offset = match which {
        PortOf::Source => 0,
        PortOf::Destination => 2,
    };
    Expr::LoadTransport { offset, len: 2 }
}

/// Matches when an interface that was loaded is the loopback interface.
pub fn is_loopback() -> Expr {
    Expr::Is(Compare::Equal, LOOPBACK_INDEX.to_ne_bytes().to_vec())
}

impl Expr {
    /// Writes it as an element of a rule's list.
    pub(super) fn write(&self, w: &mut Writer) {
        w.nested(LIST_ELEM, |w| {
            w.text(1, self.name()); // NFTA_EXPR_NAME
            w.nested(2, |w| self.write_data(w)); // NFTA_EXPR_DATA
        });
    }

    fn name(&self) -> &'static str {
        match self {
            Self::LoadFamily
            | Self::LoadProtocol
            | Self::LoadInputInterface
            | Self::LoadOutputInterface
            | Self::LoadMark => "meta",
            Self::LoadNetwork { .. } | Self::LoadTransport { .. } => "payload",
            Self::Mask(_) => "bitwise",
            Self::Is(..) => "cmp",
            Self::In(_) | Self::NotIn(_) => "lookup",
            Self::Count => "counter",
            Self::Accept | Self::Drop | Self::Goto(_) => "immediate",
            Self::RejectWithReset | Self::RejectAsProhibited => "reject",
        }
    }

    fn write_data(&self, w: &mut Writer) {
        match self {
            Self::LoadFamily => meta(w, NFT_META_NFPROTO),
            Self::LoadProtocol => meta(w, NFT_META_L4PROTO),
            Self::LoadInputInterface => meta(w, NFT_META_IIF),
            Self::LoadOutputInterface => meta(w, NFT_META_OIF),
            Self::LoadMark => meta(w, NFT_META_MARK),
            Self::LoadNetwork { offset, len } => {
                payload(w, NFT_PAYLOAD_NETWORK_HEADER, *offset, *len);
            }
            Self::LoadTransport { offset, len } => {
                payload(w, NFT_PAYLOAD_TRANSPORT_HEADER, *offset, *len);
            }
            Self::Mask(mask) => bitwise(w, mask),
            Self::Is(compare, value) => {
                w.number32(1, number(NFT_REG_1)); // NFTA_CMP_SREG
                w.number32(2, number(compare.op())); // NFTA_CMP_OP
                w.nested(3, |w| w.bytes(DATA_VALUE, value)); // NFTA_CMP_DATA
            }
            Self::In(set) => lookup(w, set, 0),
            Self::NotIn(set) => lookup(w, set, number(NFT_LOOKUP_F_INV)),
            Self::Count => {
                w.number64(1, 0); // NFTA_COUNTER_BYTES
                w.number64(2, 0); // NFTA_COUNTER_PACKETS
            }
            Self::Accept => verdict(w, NF_ACCEPT, None),
            Self::Drop => verdict(w, NF_DROP, None),
            Self::Goto(chain) => verdict(w, NFT_GOTO, Some(chain)),
            Self::RejectWithReset => reject(w, NFT_REJECT_TCP_RST, 0),
            Self::RejectAsProhibited => {
                reject(w, NFT_REJECT_ICMPX_UNREACH, NFT_REJECT_ICMPX_ADMIN_PROHIBITED);
            }
        }
    }
}

impl Compare {
    fn op(self) -> i32 {
        match self {
            Self::Equal => NFT_CMP_EQ,
            Self::Unequal => NFT_CMP_NEQ,
            Self::AtLeast => NFT_CMP_GTE,
            Self::AtMost => NFT_CMP_LTE,
        }
    }
}

fn meta(w: &mut Writer, key: i32) {
    w.number32(2, number(key)); // NFTA_META_KEY
    w.number32(1, number(NFT_REG_1)); // NFTA_META_DREG
}

fn payload(w: &mut Writer, base: i32, offset: u32, len: u32) {
    w.number32(1, number(NFT_REG_1)); // NFTA_PAYLOAD_DREG
    w.number32(2, number(base)); // NFTA_PAYLOAD_BASE
    w.number32(3, offset); // NFTA_PAYLOAD_OFFSET
    w.number32(4, len); // NFTA_PAYLOAD_LEN
}

fn bitwise(w: &mut Writer, mask: &[u8]) {
    w.number32(1, number(NFT_REG_1)); // NFTA_BITWISE_SREG
    w.number32(2, number(NFT_REG_1)); // NFTA_BITWISE_DREG
    w.number32(3, u32::try_from(mask.len()).unwrap_or(0)); // NFTA_BITWISE_LEN
    w.nested(4, |w| w.bytes(DATA_VALUE, mask)); // NFTA_BITWISE_MASK
    w.nested(5, |w| w.bytes(DATA_VALUE, &vec![0; mask.len()])); // NFTA_BITWISE_XOR
}

fn lookup(w: &mut Writer, set: &str, flags: u32) {
    w.text(1, set); // NFTA_LOOKUP_SET
    w.number32(2, number(NFT_REG_1)); // NFTA_LOOKUP_SREG
    if flags != 0 {
        w.number32(5, flags); // NFTA_LOOKUP_FLAGS
    }
}

fn verdict(w: &mut Writer, code: i32, chain: Option<&str>) {
    w.number32(1, number(NFT_REG_VERDICT)); // NFTA_IMMEDIATE_DREG
    // NFTA_IMMEDIATE_DATA, NFTA_DATA_VERDICT
    w.nested(2, |w| {
        w.nested(2, |w| {
            w.number32(1, number(code)); // NFTA_VERDICT_CODE
            if let Some(chain) = chain {
                w.text(2, chain); // NFTA_VERDICT_CHAIN
            }
        });
    });
}

fn reject(w: &mut Writer, kind: i32, code: i32) {
    w.number32(1, number(kind)); // NFTA_REJECT_TYPE
    w.bytes(2, &[byte(code)]); // NFTA_REJECT_ICMP_CODE
}

/// A constant of the kernel's headers as it goes over the wire; verdicts of nftables are negative.
fn number(constant: i32) -> u32 {
    constant.cast_unsigned()
}

fn byte(constant: i32) -> u8 {
    u8::try_from(constant).expect("families and codes of the kernel's headers are below 256")
}
