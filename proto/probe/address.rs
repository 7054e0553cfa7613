//! Whom a probe reaches: checked so far that only the network can still say no. Resolves nothing.

use std::{
    fmt,
    net::{IpAddr, Ipv6Addr},
};

use crate::yaml::{self, Node, Problems};

/// A host and a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    host: String,
    port: u16,
}

impl Address {
    /// A name or an address, the brackets of an IPv6 address taken off.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port, never 0.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Reads `HOST:PORT`, or `HOST` alone where there is a usual port.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str, usual_port: Option<u16>) -> Result<Self, Wrong> {
        let shape =
            if usual_port.is_some() { "expected HOST[:PORT]" } else { "expected HOST:PORT" };
        if let Some((_, rest)) = text.split_once("://") {
            let rest = rest.split('/').next().unwrap_or_default();
            return Err(
                wrong("an address is wanted here, not a URL", shape).help(format!("write {rest}"))
            );
        }
        if text.parse::<Ipv6Addr>().is_ok() {
            return match usual_port {
                Some(port) => Ok(Self { host: text.to_owned(), port }),
                None => {
                    Err(wrong("the port is missing", shape).help(format!("write [{text}]:PORT")))
                }
            };
        }
        Self::of_authority(text, usual_port)?.ok_or_else(|| wrong("the port is missing", shape))
    }

    /// Reads the authority of a URL; `None`: a port is needed, and none is there.
    pub(super) fn of_authority(text: &str, usual: Option<u16>) -> Result<Option<Self>, Wrong> {
        let (host, port) = split(text)?;
        check_host(host)?;
        let port = port.map(parse_port).transpose()?.or(usual);
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        Ok(port.map(|port| Self { host, port }))
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// Why a text is not what it should be: what is wrong, what was expected, what to do about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wrong {
    /// What is wrong.
    pub message: String,
    /// What was expected.
    pub expected: String,
    /// What to do about it.
    pub help: Option<String>,
}

pub(super) fn wrong(message: impl Into<String>, expected: impl Into<String>) -> Wrong {
    Wrong { message: message.into(), expected: expected.into(), help: None }
}

impl Wrong {
    pub(super) fn help(self, help: impl Into<String>) -> Self {
        Self { help: Some(help.into()), ..self }
    }
}

/// Decodes a text that `parse` takes or says what is wrong with.
pub(super) fn checked<T>(
    parse: impl FnOnce(&str) -> Result<T, Wrong>,
) -> impl FnOnce(&Node, &mut Problems) -> Option<T> {
    move |node, problems| {
        let text = yaml::text(node, problems)?;
        match parse(&text.value) {
            Ok(value) => Some(value),
            Err(wrong) => {
                let problem = problems.add(node.span, wrong.message);
                problem.expected(wrong.expected).help = wrong.help;
                None
            }
        }
    }
}

/// `host`, `host:port`, `[v6]` or `[v6]:port` in its parts, the brackets left on.
fn split(authority: &str) -> Result<(&str, Option<&str>), Wrong> {
    let bracket = if authority.starts_with('[') {
        let unclosed = || wrong("the `[` is not closed", "expected [ADDRESS] or [ADDRESS]:PORT");
        authority.find(']').ok_or_else(unclosed)? + 1
    } else {
        authority.find(':').unwrap_or(authority.len())
    };
    let (host, rest) = authority.split_at(bracket);
    match (rest, rest.strip_prefix(':')) {
        ("", _) => Ok((host, None)),
        (_, Some(port)) => Ok((host, Some(port))),
        _ => Err(wrong(format!("`{rest}` behind the address"), "expected :PORT or nothing")),
    }
}

/// Checks a name, an IPv4 address, or an IPv6 address in brackets.
///
/// # Errors
/// What is wrong with it.
pub fn check_host(host: &str) -> Result<(), Wrong> {
    if host.is_empty() {
        return Err(wrong("the host is missing", "expected a name or an address"));
    }
    if let Some(inner) = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        return match inner.parse::<Ipv6Addr>() {
            Ok(_) => Ok(()),
            Err(_) => Err(wrong(format!("`{inner}` is not an IPv6 address"), "expected one in []")),
        };
    }
    if host.parse::<IpAddr>().is_ok() || is_name(host) {
        return Ok(());
    }
    Err(wrong(format!("`{host}` is neither a host name nor an address"), "expected one of the two"))
}

/// Whether this can be the name of a host.
pub(super) fn is_name(host: &str) -> bool {
    // Only digits and points: meant as an address, and a resolver might even take it for one.
    let address = host.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    let label = |label: &str| {
        let edge = |b: Option<&u8>| b.is_some_and(|b| b.is_ascii_alphanumeric() || *b == b'_');
        let bytes = label.as_bytes();
        bytes.len() <= 63
            && bytes.iter().all(|b| b.is_ascii_alphanumeric() || *b == b'-' || *b == b'_')
            && edge(bytes.first())
            && edge(bytes.last())
    };
    let name = host.strip_suffix('.').unwrap_or(host);
    !address && host.len() <= 253 && name.split('.').all(label)
}

fn parse_port(port: &str) -> Result<u16, Wrong> {
    let digits = port.bytes().all(|b| b.is_ascii_digit());
    match port.parse::<u16>() {
        Ok(number) if number > 0 && digits => Ok(number),
        _ => Err(wrong(format!("`{port}` is not a port"), "expected 1 to 65535")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_taken_and_shown_as_they_were_written() {
        for text in ["db.shop:5432", "10.0.0.1:1", "[fd00::1]:80", "a_b.c.:65535"] {
            assert_eq!(Address::parse(text, None).map(|a| a.to_string()), Ok(text.into()));
        }
        let usual = |text| Address::parse(text, Some(53)).map(|a| a.to_string());
        assert_eq!(usual("10.0.0.10"), Ok("10.0.0.10:53".into()));
        assert_eq!(usual("fd00::1"), Ok("[fd00::1]:53".into()));
        assert_eq!(usual("[fd00::1]"), Ok("[fd00::1]:53".into()));
        assert_eq!(usual("dns:5353"), Ok("dns:5353".into()));
    }

    #[test]
    fn what_is_no_address_is_refused_with_the_reason() {
        for (text, reason) in [
            ("db", "port is missing"),
            ("db:", "not a port"),
            ("db:0", "not a port"),
            ("tcp://db:1", "not a URL"),
            ("fd00::1", "port is missing"),
            ("[fd00::1", "not closed"),
            ("300.0.0.1:5", "neither"),
            ("a b:1", "neither"),
        ] {
            let said = Address::parse(text, None).expect_err(text).message;
            assert!(said.contains(reason), "{text}: {said}");
        }
    }
}
