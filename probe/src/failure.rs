//! Why an attempt failed: a kind to be counted by, and a few words for a person.

use std::{fmt, io};

use serde::{Deserialize, Serialize};

/// Why an attempt failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// What it is counted as.
    pub kind: FailureKind,
    /// What happened, in a few words.
    pub text: String,
}

/// What a failure is counted as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FailureKind {
    /// Nobody listens there.
    Refused,
    /// There is no way there.
    Unreachable,
    /// No answer came in time.
    Timeout,
    /// The connection was broken off.
    Reset,
    /// The name was not found.
    Resolve,
    /// No secure connection came about.
    Tls,
    /// The answer has another status than was asked for.
    Status,
    /// The answer has another content than was asked for.
    Mismatch,
    /// The answer is none of the protocol's.
    Protocol,
    /// A command could not be run, or failed.
    Exec,
    /// It was not made: too many were waited for.
    Dropped,
    /// It was not made, or nobody was told what came of it.
    Unobserved,
    /// None of these; it was our own side that failed, say.
    Other,
}

impl FailureKind {
    /// Every kind, in the order in which they are listed.
    pub const ALL: [Self; 13] = [
        Self::Refused,
        Self::Unreachable,
        Self::Timeout,
        Self::Reset,
        Self::Resolve,
        Self::Tls,
        Self::Status,
        Self::Mismatch,
        Self::Protocol,
        Self::Exec,
        Self::Dropped,
        Self::Unobserved,
        Self::Other,
    ];

    /// Whether it says something of the system. What we did not try, or were not told of, says nothing:
    /// neither that the system is well nor that it is not.
    pub fn is_observation(self) -> bool {
        !matches!(self, Self::Dropped | Self::Unobserved)
    }

    /// The kind of this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// Its name, as reports write it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::Unreachable => "unreachable",
            Self::Timeout => "timeout",
            Self::Reset => "reset",
            Self::Resolve => "resolve",
            Self::Tls => "tls",
            Self::Status => "status",
            Self::Mismatch => "mismatch",
            Self::Protocol => "protocol",
            Self::Exec => "exec",
            Self::Dropped => "dropped",
            Self::Unobserved => "unobserved",
            Self::Other => "other",
        }
    }
}

impl fmt::Display for FailureKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Failure {
    /// A failure of this kind.
    pub fn new(kind: FailureKind, text: impl Into<String>) -> Self {
        Self { kind, text: text.into() }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl From<&io::Error> for Failure {
    /// What a socket said.
    fn from(error: &io::Error) -> Self {
        let kind = match error.kind() {
            io::ErrorKind::ConnectionRefused => FailureKind::Refused,
            io::ErrorKind::HostUnreachable
            | io::ErrorKind::NetworkUnreachable
            | io::ErrorKind::NetworkDown
            // What a packet filter of this end says of a datagram that it does not let out.
            | io::ErrorKind::PermissionDenied
            | io::ErrorKind::AddrNotAvailable => FailureKind::Unreachable,
            io::ErrorKind::TimedOut => FailureKind::Timeout,
            io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::BrokenPipe
            | io::ErrorKind::UnexpectedEof
            | io::ErrorKind::NotConnected => FailureKind::Reset,
            _ => FailureKind::Other,
        };
        Self::new(kind, error.kind().to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_socket_says_is_counted_by_what_it_means() {
        for (error, kind) in [
            (io::ErrorKind::ConnectionRefused, FailureKind::Refused),
            (io::ErrorKind::HostUnreachable, FailureKind::Unreachable),
            (io::ErrorKind::PermissionDenied, FailureKind::Unreachable),
            (io::ErrorKind::TimedOut, FailureKind::Timeout),
            (io::ErrorKind::UnexpectedEof, FailureKind::Reset),
            (io::ErrorKind::OutOfMemory, FailureKind::Other),
        ] {
            assert_eq!(Failure::from(&io::Error::from(error)).kind, kind, "{error}");
        }
    }

    #[test]
    fn what_we_did_not_try_says_nothing_of_the_system() {
        let silent = FailureKind::ALL.into_iter().filter(|kind| !kind.is_observation());
        assert_eq!(silent.collect::<Vec<_>>(), [FailureKind::Dropped, FailureKind::Unobserved]);
    }

    #[test]
    fn every_kind_has_a_name_of_its_own() {
        let names: std::collections::BTreeSet<_> =
            FailureKind::ALL.iter().map(|kind| kind.name()).collect();
        assert_eq!(names.len(), FailureKind::ALL.len());
    }
}
