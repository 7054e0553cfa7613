//! Where a request goes: `http://` or `https://`, a host, and what is asked for there.

use std::fmt;

use super::address::{Address, Wrong, wrong};
use crate::limits::PROBE_TEXT_BYTES_MAX;

const SHAPE: &str = "expected http://HOST[:PORT]/PATH or https://…";

/// A URL of a probe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Url {
    secure: bool,
    authority: String,
    address: Address,
    path: String,
}

impl Url {
    /// Whether it is `https`.
    pub fn is_secure(&self) -> bool {
        self.secure
    }

    /// Whom to connect to.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// Host and port as they were written: what a `Host` header says.
    pub fn authority(&self) -> &str {
        &self.authority
    }

    /// The path and the query; begins with `/`.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Reads one.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, Wrong> {
        if text.len() > PROBE_TEXT_BYTES_MAX {
            return Err(wrong(
                "this URL is too long",
                format!("expected up to {PROBE_TEXT_BYTES_MAX} bytes"),
            ));
        }
        let Some((scheme, rest)) = text.split_once("://") else {
            let is_one_word = !text.contains(char::is_whitespace);
            let help = is_one_word.then(|| format!("write http://{text}"));
            return Err(Wrong { help, ..wrong("this is not a URL", SHAPE) });
        };
        let secure = match scheme {
            "http" => false,
            "https" => true,
            other => {
                return Err(wrong(format!("`{other}` is not a scheme of an http probe"), SHAPE));
            }
        };
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(end);
        if authority.contains('@') {
            return Err(wrong("a user and password in a URL would end up in reports", SHAPE)
                .help("send them as `headers: { Authorization: … }`"));
        }
        if path.contains('#') {
            return Err(wrong(
                "the part after `#` is never sent to a server",
                "expected it left out",
            ));
        }
        let usual = Some(if secure { 443 } else { 80 });
        let address = Address::of_authority(authority, usual)?;
        let address = address.ok_or_else(|| wrong("the port is missing", SHAPE))?;
        let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
        if let Err(error) = path.parse::<http::uri::PathAndQuery>() {
            return Err(wrong(format!("this is not a URL: {error}"), SHAPE));
        }
        Ok(Self { secure, authority: authority.to_owned(), address, path })
    }

    /// The same server, asked for `path` below what was written.
    ///
    /// # Errors
    /// When the two do not make a path.
    pub(super) fn join(mut self, path: &str) -> Result<Self, Wrong> {
        self.path = format!("{}{path}", self.path.trim_end_matches('/'));
        match self.path.parse::<http::uri::PathAndQuery>() {
            Ok(_) => Ok(self),
            Err(error) => Err(wrong(format!("this is not a URL: {error}"), SHAPE)),
        }
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.secure { "https" } else { "http" };
        write!(f, "{scheme}://{}{}", self.authority, self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_taken_apart() {
        for (url, address, path) in [
            ("http://a", "a:80", "/"),
            ("https://a", "a:443", "/"),
            ("http://a:8080/x?y", "a:8080", "/x?y"),
            ("http://a?y", "a:80", "/?y"),
            ("http://[fd00::1]/", "[fd00::1]:80", "/"),
            ("https://[fd00::1]:81/a%20b", "[fd00::1]:81", "/a%20b"),
        ] {
            let found = Url::parse(url).expect(url);
            assert_eq!((found.address().to_string().as_str(), found.path()), (address, path));
            assert_eq!(Url::parse(&found.to_string()), Ok(found), "{url}");
        }
    }

    #[test]
    fn what_is_no_url_is_refused_with_the_reason() {
        for (url, reason) in [
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
            let wrong = Url::parse(url).expect_err(url);
            assert!(wrong.message.contains(reason), "{url}: {wrong:?}");
        }
    }
}
