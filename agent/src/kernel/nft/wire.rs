//! The bytes of netlink: messages and attributes, written and read. It knows no nftables object.
//!
//! Formats: `netlink(7)`, `include/uapi/linux/netlink.h`, `include/uapi/linux/netfilter/nfnetlink.h`.
//! Headers are in host order, the values of nftables attributes in network order.

/// Bytes of `struct nlmsghdr`.
pub(super) const HEADER_LEN: usize = 16;
/// Bytes of `struct nfgenmsg`.
pub(super) const GENERIC_LEN: usize = 4;
/// An attribute's length field has 16 bits.
pub(super) const ATTRIBUTE_LEN_MAX: usize = u16::MAX as usize;

/// `NLA_F_NESTED`.
const NESTED: u16 = 1 << 15;
/// `NLA_TYPE_MASK`: without the flags for nesting and byte order.
const TYPE_MASK: u16 = (1 << 14) - 1;

/// Writes messages one after the other.
#[derive(Debug, Default, Clone)]
pub(super) struct Writer {
    pub(super) bytes: Vec<u8>,
}

impl Writer {
    /// Begins a message with its two headers; returns where, for [`Writer::end_message`].
    pub(super) fn begin_message(
        &mut self,
        kind: u16,
        flags: u16,
        family: u8,
        resource: u16,
    ) -> usize {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[0; 4]);
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(&flags.to_ne_bytes());
        self.bytes.extend_from_slice(&[0; 8]);
        self.bytes.extend_from_slice(&[family, 0]);
        self.bytes.extend_from_slice(&resource.to_be_bytes());
        start
    }

    /// Fills in the length of the message that began at `start`.
    pub(super) fn end_message(&mut self, start: usize) {
        let len = u32::try_from(self.bytes.len() - start)
            .expect("a message of attributes of 64 KiB is shorter than 4 GiB");
        self.bytes[start..start + 4].copy_from_slice(&len.to_ne_bytes());
    }

    /// Numbers the message that begins at `start`, by which its answer is told from others.
    pub(super) fn number(&mut self, start: usize, sequence: u32) {
        self.bytes[start + 8..start + 12].copy_from_slice(&sequence.to_ne_bytes());
    }

    /// Adds to the flags of the message that begins at `start`.
    pub(super) fn add_flags(&mut self, start: usize, flags: u16) {
        let old = u16::from_ne_bytes([self.bytes[start + 6], self.bytes[start + 7]]);
        self.bytes[start + 6..start + 8].copy_from_slice(&(old | flags).to_ne_bytes());
    }

    /// An attribute of plain bytes, padded to four.
    pub(super) fn bytes(&mut self, kind: u16, value: &[u8]) {
        let len = attribute_len(4 + value.len());
        self.bytes.extend_from_slice(&len.to_ne_bytes());
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(value);
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }

    /// A number of 32 bits.
    pub(super) fn number32(&mut self, kind: u16, value: u32) {
        self.bytes(kind, &value.to_be_bytes());
    }

    /// A number of 64 bits.
    pub(super) fn number64(&mut self, kind: u16, value: u64) {
        self.bytes(kind, &value.to_be_bytes());
    }

    /// A text, with the NUL that nftables wants behind it.
    pub(super) fn text(&mut self, kind: u16, value: &str) {
        let len = attribute_len(4 + value.len() + 1);
        self.bytes.extend_from_slice(&len.to_ne_bytes());
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(value.as_bytes());
        self.bytes.push(0);
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }

    /// An attribute of attributes. What `inside` writes must stay below [`ATTRIBUTE_LEN_MAX`].
    pub(super) fn nested(&mut self, kind: u16, inside: impl FnOnce(&mut Self)) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[0; 2]);
        self.bytes.extend_from_slice(&(kind | NESTED).to_ne_bytes());
        inside(self);
        let len = attribute_len(self.bytes.len() - start);
        self.bytes[start..start + 2].copy_from_slice(&len.to_ne_bytes());
    }
}

fn attribute_len(len: usize) -> u16 {
    u16::try_from(len).expect("element lists are split, and nothing else is longer than 64 KiB")
}

/// One message of an answer.
#[derive(Debug, Clone, Copy)]
pub(super) struct Message<'a> {
    pub(super) kind: u16,
    pub(super) flags: u16,
    pub(super) sequence: u32,
    /// What follows the first header.
    pub(super) body: &'a [u8],
}

impl<'a> Message<'a> {
    /// The attributes behind the second header.
    pub(super) fn attributes(&self) -> Attributes<'a> {
        Attributes(self.body.get(GENERIC_LEN..).unwrap_or_default())
    }
}

/// The messages of a datagram. Ends early at one whose length is impossible.
#[derive(Debug)]
pub(super) struct Messages<'a>(pub(super) &'a [u8]);

impl<'a> Iterator for Messages<'a> {
    type Item = Message<'a>;

    fn next(&mut self) -> Option<Message<'a>> {
        let header: &[u8; HEADER_LEN] = self.0.first_chunk()?;
        let len = usize::try_from(u32::from_ne_bytes(*header.first_chunk()?)).ok()?;
        let body = self.0.get(HEADER_LEN..len)?;
        let message = Message {
            kind: u16::from_ne_bytes([header[4], header[5]]),
            flags: u16::from_ne_bytes([header[6], header[7]]),
            sequence: u32::from_ne_bytes([header[8], header[9], header[10], header[11]]),
            body,
        };
        self.0 = self.0.get(len.next_multiple_of(4)..).unwrap_or_default();
        Some(message)
    }
}

/// Attributes one after the other: type and value. Ends early at one whose length is impossible.
#[derive(Debug, Clone)]
pub(super) struct Attributes<'a>(pub(super) &'a [u8]);

impl<'a> Attributes<'a> {
    /// The value of the first attribute of a type.
    pub(super) fn get(&self, kind: u16) -> Option<&'a [u8]> {
        self.clone().find_map(|(found, value)| (found == kind).then_some(value))
    }

    /// The attributes inside the first attribute of a type; none where there is no such.
    pub(super) fn inside(&self, kind: u16) -> Attributes<'a> {
        Attributes(self.get(kind).unwrap_or_default())
    }

    /// A text, without the NUL behind it.
    pub(super) fn text(&self, kind: u16) -> Option<&'a str> {
        let value = self.get(kind)?;
        let end = value.iter().position(|byte| *byte == 0).unwrap_or(value.len());
        std::str::from_utf8(&value[..end]).ok()
    }

    /// A number of 32 bits.
    pub(super) fn number32(&self, kind: u16) -> Option<u32> {
        Some(u32::from_be_bytes(self.get(kind)?.try_into().ok()?))
    }

    /// A number of 64 bits.
    pub(super) fn number64(&self, kind: u16) -> Option<u64> {
        Some(u64::from_be_bytes(self.get(kind)?.try_into().ok()?))
    }
}

impl<'a> Iterator for Attributes<'a> {
    type Item = (u16, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let header: &[u8; 4] = self.0.first_chunk()?;
        let len = usize::from(u16::from_ne_bytes([header[0], header[1]]));
        let kind = u16::from_ne_bytes([header[2], header[3]]) & TYPE_MASK;
        let value = self.0.get(4..len)?;
        self.0 = self.0.get(len.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        let mut writer = Writer::default();
        for number in 1..=2_u32 {
            let start = writer.begin_message(7, 1, 1, 10);
            writer.text(1, "name");
            writer.nested(2, |w| w.number64(3, u64::from(number)));
            writer.bytes(4, &[1, 2, 3]);
            writer.number(start, number);
            writer.add_flags(start, 4);
            writer.end_message(start);
        }
        let messages: Vec<Message> = Messages(&writer.bytes).collect();
        assert_eq!(messages.len(), 2);
        for (message, number) in messages.iter().zip(1_u32..) {
            assert_eq!((message.kind, message.flags, message.sequence), (7, 5, number));
            let attributes = message.attributes();
            assert_eq!(attributes.text(1), Some("name"));
            assert_eq!(attributes.inside(2).number64(3), Some(number.into()));
            assert_eq!(attributes.get(4), Some(&[1, 2, 3][..]));
            assert_eq!(attributes.get(5), None);
        }
    }

    proptest::proptest! {
        #[test]
        fn nonsense_is_read_without_a_panic_and_to_an_end(bytes: Vec<u8>) {
            let messages = Messages(&bytes).map(|m| m.attributes().count()).sum::<usize>();
            proptest::prop_assert!(messages <= bytes.len());
            proptest::prop_assert!(Attributes(&bytes).count() <= bytes.len());
        }
    }
}
