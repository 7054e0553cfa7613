//! What a probe reaches: checked so far that only the network can still say no. Resolves nothing.

use std::net::{IpAddr, Ipv6Addr};

use hyper::Uri;

/// Why an address is none: what is wrong, what was expected, and what to do about it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Wrong {
    pub(super) message: String,
    pub(super) expected: String,
    pub(super) help: Option<String>,
}

fn wrong(message: impl Into<String>, expected: impl Into<String>) -> Wrong {
    Wrong { message: message.into(), expected: expected.into(), help: None }
}

/// Checks `http://host[:port]/path`.
pub(super) fn check_http_url(url: &str) -> Result<(), Wrong> {
    let shape = "expected http://HOST[:PORT]/PATH";
    let Some((scheme, rest)) = url.split_once("://") else {
        let help = (!url.contains(char::is_whitespace)).then(|| format!("write http://{url}"));
        return Err(Wrong { help, ..wrong("this is not a URL", shape) });
    };
    match scheme {
        "http" => {}
        "https" => {
            let mut wrong = wrong("TLS probes come in a later version", "expected http://");
            wrong.help =
                Some("a `tcp` probe of the same host and port sees an outage as well".into());
            return Err(wrong);
        }
        other => return Err(wrong(format!("`{other}` is not a scheme of an http probe"), shape)),
    }
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    if authority.contains('@') {
        return Err(wrong("a user and password in a URL would end up in reports", shape));
    }
    if url.contains('#') {
        return Err(wrong("the part after `#` is never sent to a server", "expected it left out"));
    }
    let (host, port) = split_authority(authority)?;
    check_host(host)?;
    if let Some(port) = port {
        check_port(port)?;
    }
    match url.parse::<Uri>() {
        Ok(_) => Ok(()),
        Err(error) => Err(wrong(format!("this is not a URL: {error}"), shape)),
    }
}

/// Checks `host:port`.
pub(super) fn check_tcp_address(address: &str) -> Result<(), Wrong> {
    let shape = "expected HOST:PORT";
    if let Some((scheme, rest)) = address.split_once("://") {
        let mut wrong = wrong("a tcp probe has an address, not a URL", shape);
        let rest = rest.split('/').next().unwrap_or_default();
        wrong.help = (scheme == "tcp").then(|| format!("write {rest}"));
        return Err(wrong);
    }
    if address.parse::<Ipv6Addr>().is_ok() {
        let mut wrong = wrong("the port is missing", shape);
        wrong.help = Some(format!("write [{address}]:PORT"));
        return Err(wrong);
    }
    let (host, port) = split_authority(address)?;
    check_host(host)?;
    match port {
        Some(port) => check_port(port),
        None => Err(wrong("the port is missing", shape)),
    }
}

/// `host`, `host:port`, `[v6]` or `[v6]:port` in its parts, the brackets left on.
fn split_authority(authority: &str) -> Result<(&str, Option<&str>), Wrong> {
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

fn check_host(host: &str) -> Result<(), Wrong> {
    if host.is_empty() {
        return Err(wrong("the host is missing", "expected a name or an address"));
    }
    if let Some(inner) = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        return match inner.parse::<Ipv6Addr>() {
            Ok(_) => Ok(()),
            Err(_) => Err(wrong(format!("`{inner}` is not an IPv6 address"), "expected one in []")),
        };
    }
    if host.parse::<IpAddr>().is_ok() {
        return Ok(());
    }
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
    if !address && host.len() <= 253 && name.split('.').all(label) {
        return Ok(());
    }
    Err(wrong(format!("`{host}` is neither a host name nor an address"), "expected one of the two"))
}

fn check_port(port: &str) -> Result<(), Wrong> {
    let digits = port.bytes().all(|b| b.is_ascii_digit());
    match port.parse::<u16>() {
        Ok(number) if number > 0 && digits => Ok(()),
        _ => Err(wrong(format!("`{port}` is not a port"), "expected 1 to 65535")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_and_addresses_are_taken_or_refused_with_the_reason() {
        for url in [
            "http://echo-1:8080/",
            "http://api.shop/checkout?x=1",
            "http://10.0.0.1",
            "http://[fd00::1]:80/a%20b",
            "http://a_b.c./",
        ] {
            assert_eq!(check_http_url(url), Ok(()), "{url}");
        }
        for (url, reason) in [
            ("https://x/", "TLS"),
            ("ftp://x/", "scheme"),
            ("echo-1:8080", "not a URL"),
            ("http://", "host is missing"),
            ("http://u:p@x/", "password"),
            ("http://x:70000/", "not a port"),
            ("http://x:0/", "not a port"),
            ("http://x:/", "not a port"),
            ("http://[fd00::1/", "not closed"),
            ("http://[10.0.0.1]/", "not an IPv6"),
            ("http://999.1.1.1/", "neither"),
            ("http://-a/", "neither"),
            ("http://x/#y", "never sent"),
            ("http://x/a b", "not a URL"),
        ] {
            let wrong = check_http_url(url).expect_err(url);
            assert!(wrong.message.contains(reason), "{url}: {wrong:?}");
        }
        for address in ["db:5432", "10.0.0.1:1", "[::1]:65535"] {
            assert_eq!(check_tcp_address(address), Ok(()), "{address}");
        }
        for (address, reason) in [
            ("db", "port is missing"),
            ("::1", "port is missing"),
            ("tcp://db:1", "not a URL"),
            ("db:70000", "not a port"),
            (":80", "host is missing"),
        ] {
            let wrong = check_tcp_address(address).expect_err(address);
            assert!(wrong.message.contains(reason), "{address}: {wrong:?}");
        }
    }
}
