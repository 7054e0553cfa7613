//! `dns`: a name is looked up, and what is found may be compared.

use super::{
    Address,
    address::{Wrong, checked, is_name, wrong},
    socket,
};
use crate::{
    limits::PROBE_LIST_MAX,
    yaml::{self, Fields, Node, Problems},
};

/// The port of name servers.
const PORT: u16 = 53;

/// A name that is found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dns {
    /// Which, in full: no search list is tried.
    pub name: String,
    /// What is asked of it.
    pub record: RecordType,
    /// Who is asked; `None`: the name servers of whoever asks.
    pub server: Option<Address>,
    /// Exactly these are found, in any order; if `None`, anything.
    pub expect: Option<Vec<String>>,
}

/// What can be asked of a name, with its number in RFC 1035, 2782 and 3596.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u16)]
pub enum RecordType {
    /// Its IPv4 addresses.
    A = 1,
    /// Its name servers.
    Ns = 2,
    /// The name that it is another name of.
    Cname = 5,
    /// The name of an address, written as the name of the reverse zone.
    Ptr = 12,
    /// Its mail servers: `10 mail.example.com`.
    Mx = 15,
    /// Texts.
    Txt = 16,
    /// Its IPv6 addresses.
    Aaaa = 28,
    /// Where a service is: `0 5 8080 host.example.com`.
    Srv = 33,
}

/// The names of [`RecordType`].
const TYPES: [(&str, RecordType); 8] = [
    ("A", RecordType::A),
    ("AAAA", RecordType::Aaaa),
    ("CNAME", RecordType::Cname),
    ("MX", RecordType::Mx),
    ("NS", RecordType::Ns),
    ("PTR", RecordType::Ptr),
    ("SRV", RecordType::Srv),
    ("TXT", RecordType::Txt),
];

impl RecordType {
    /// Its number in a message.
    pub fn number(self) -> u16 {
        self as u16
    }

    /// Its name, in capitals.
    pub fn name(self) -> &'static str {
        TYPES.iter().find(|(_, record)| *record == self).map_or("?", |(name, _)| name)
    }

    /// The type of this number, if it can be asked for.
    pub fn from_number(number: u32) -> Option<Self> {
        TYPES.iter().map(|(_, record)| *record).find(|r| u32::from(r.number()) == number)
    }

    /// An answer in the form in which answers are compared.
    ///
    /// # Errors
    /// When such a record never says this.
    pub fn canonical(self, text: &str) -> Result<String, Wrong> {
        let text = text.trim();
        match self {
            Self::A => match text.parse::<std::net::Ipv4Addr>() {
                Ok(address) => Ok(address.to_string()),
                Err(_) => Err(wrong(format!("`{text}` is not an IPv4 address"), "expected one")),
            },
            Self::Aaaa => match text.parse::<std::net::Ipv6Addr>() {
                Ok(address) => Ok(address.to_string()),
                Err(_) => Err(wrong(format!("`{text}` is not an IPv6 address"), "expected one")),
            },
            Self::Txt => Ok(text.to_owned()),
            _ => Ok(text.trim_end_matches('.').to_ascii_lowercase()),
        }
    }
}

/// Checks a name that is looked up.
///
/// # Errors
/// What is wrong with it.
pub(super) fn check_name(name: &str) -> Result<String, Wrong> {
    if is_name(name) {
        return Ok(name.trim_end_matches('.').to_owned());
    }
    Err(wrong(
        format!("`{name}` is not a name that can be looked up"),
        "expected one such as db.shop.svc.cluster.local",
    ))
}

pub(super) fn decode(node: &Node, problems: &mut Problems) -> Option<Dns> {
    let mut fields = Fields::open(node, "dns", problems)?;
    let name = fields.required("name", problems, checked(check_name));
    let record = fields.optional("type", problems, yaml::one_of(&TYPES)).unwrap_or(RecordType::A);
    let server =
        fields.optional("server", problems, checked(|text| Address::parse(text, Some(PORT))));
    let expect = fields.optional("expect", problems, |node, problems| {
        let one = |node: &Node, problems: &mut Problems| {
            checked(|text| record.canonical(text))(node, problems)
        };
        yaml::list(1..=PROBE_LIST_MAX, "answers", one)(node, problems)
    });
    fields.finish_with(problems, |key| match key {
        "address" => Some("who is asked is `server`, and what is found is `expect`".into()),
        "record" | "query" => Some("what is asked of the name is its `type`".into()),
        other => socket::hint(other),
    });
    let mut expect = expect;
    if let Some(answers) = &mut expect {
        answers.sort();
        answers.dedup();
    }
    Some(Dns { name: name?, record, server, expect })
}
