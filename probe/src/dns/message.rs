//! Messages of RFC 1035: one question, and what is said in answer to it. Nothing that a server says can
//! make a reader of it panic, or read for long.

use std::net::{Ipv4Addr, Ipv6Addr};

use faultline_proto::probe::RecordType;

const HEADER_BYTES: usize = 12;
const CLASS_IN: u16 = 1;
const CNAME: u16 = 5;
/// Records of one answer that are looked at.
const RECORDS_MAX: u16 = 512;
/// Jumps within one compressed name.
const JUMPS_MAX: usize = 32;
/// Bytes of a name, written with points.
const NAME_BYTES_MAX: usize = 255;

/// What a name server said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// The response code: 0 for no error, 3 for a name that does not exist.
    pub code: u8,
    /// Not all of it had room.
    pub is_truncated: bool,
    /// The records asked for, as texts; those of other names that it stands for among them.
    pub found: Vec<String>,
}

/// A question, with recursion asked for.
pub fn query(id: u16, name: &str, record: RecordType) -> Vec<u8> {
    let mut message = Vec::with_capacity(HEADER_BYTES + name.len() + 6);
    message.extend_from_slice(&id.to_be_bytes());
    // Flags: recursion desired. One question, nothing else.
    message.extend_from_slice(&[1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    for label in name.trim_end_matches('.').split('.') {
        let label = &label.as_bytes()[..label.len().min(63)];
        message.push(u8::try_from(label.len()).unwrap_or(63));
        message.extend_from_slice(label);
    }
    message.push(0);
    message.extend_from_slice(&record.number().to_be_bytes());
    message.extend_from_slice(&CLASS_IN.to_be_bytes());
    message
}

/// Reads what came in answer to a question; `None`: it is no answer to it.
pub fn read_reply(message: &[u8], id: u16, name: &str, record: RecordType) -> Option<Reply> {
    let mut reader = Reader { message, at: 0 };
    let answers_to = reader.u16()?;
    let [high, low] = reader.u16()?.to_be_bytes();
    let (questions, answers) = (reader.u16()?, reader.u16()?);
    reader.at = HEADER_BYTES;
    let is_answer = high & 0x80 != 0;
    if answers_to != id || !is_answer || questions != 1 {
        return None;
    }
    let asked = name.trim_end_matches('.').to_ascii_lowercase();
    if reader.name()? != asked || reader.u16()? != record.number() || reader.u16()? != CLASS_IN {
        return None;
    }
    let is_truncated = high & 0x02 != 0;
    let mut reply = Reply { code: low & 0x0f, is_truncated, found: Vec::new() };
    if is_truncated {
        return Some(reply);
    }
    // The name asked for, and those that it is another name of.
    let mut names = vec![asked];
    for _ in 0..answers.min(RECORDS_MAX) {
        let owner = reader.name()?;
        let (kind, class) = (reader.u16()?, reader.u16()?);
        reader.skip(4)?;
        let len = usize::from(reader.u16()?);
        let end = reader.at.checked_add(len).filter(|end| *end <= message.len())?;
        let mut data = Reader { message: &message[..end], at: reader.at };
        reader.at = end;
        if class != CLASS_IN || !names.contains(&owner) {
            continue;
        }
        if kind == record.number() {
            reply.found.push(data.record(record)?);
        }
        if kind == CNAME && record != RecordType::Cname {
            names.push(data.name()?);
        }
    }
    Some(reply)
}

struct Reader<'a> {
    message: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn u8(&mut self) -> Option<u8> {
        let byte = *self.message.get(self.at)?;
        self.at += 1;
        Some(byte)
    }

    fn u16(&mut self) -> Option<u16> {
        Some(u16::from_be_bytes([self.u8()?, self.u8()?]))
    }

    fn skip(&mut self, len: usize) -> Option<()> {
        self.at = self.at.checked_add(len).filter(|at| *at <= self.message.len())?;
        Some(())
    }

    fn bytes<const LEN: usize>(&mut self) -> Option<[u8; LEN]> {
        let bytes = self.message.get(self.at..)?.first_chunk::<LEN>()?;
        self.at += LEN;
        Some(*bytes)
    }

    /// A name in small letters, without a point at its end. Pointers go backwards only, and not often.
    fn name(&mut self) -> Option<String> {
        let mut name = String::new();
        let mut behind = None;
        let mut jumps = 0;
        loop {
            let at = self.at;
            let len = self.u8()?;
            match len {
                0 => break,
                1..=63 => {
                    let end = self.at + usize::from(len);
                    let label = self.message.get(self.at..end)?;
                    self.at = end;
                    if !name.is_empty() {
                        name.push('.');
                    }
                    name.push_str(&String::from_utf8_lossy(label).to_ascii_lowercase());
                    if name.len() > NAME_BYTES_MAX {
                        return None;
                    }
                }
                0xc0.. => {
                    let to = usize::from(u16::from_be_bytes([len & 0x3f, self.u8()?]));
                    behind.get_or_insert(self.at);
                    jumps += 1;
                    if to >= at || jumps > JUMPS_MAX {
                        return None;
                    }
                    self.at = to;
                }
                _ => return None,
            }
        }
        self.at = behind.unwrap_or(self.at);
        Some(name)
    }

    /// The data of a record, as text.
    fn record(&mut self, record: RecordType) -> Option<String> {
        Some(match record {
            RecordType::A => Ipv4Addr::from(self.bytes::<4>()?).to_string(),
            RecordType::Aaaa => Ipv6Addr::from(self.bytes::<16>()?).to_string(),
            RecordType::Ns | RecordType::Cname | RecordType::Ptr => self.name()?,
            RecordType::Mx => format!("{} {}", self.u16()?, self.name()?),
            RecordType::Srv => {
                let (priority, weight, port) = (self.u16()?, self.u16()?, self.u16()?);
                format!("{priority} {weight} {port} {}", self.name()?)
            }
            RecordType::Txt => {
                let mut text = Vec::new();
                while self.at < self.message.len() {
                    let len = usize::from(self.u8()?);
                    text.extend_from_slice(self.message.get(self.at..self.at + len)?);
                    self.skip(len)?;
                }
                String::from_utf8_lossy(&text).into_owned()
            }
        })
    }
}
