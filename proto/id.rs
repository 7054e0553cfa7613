//! The ids of runs and faults: 64 random bits, written as 16 lower-case hexadecimal digits.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::InvalidWire;

/// What the name of every kernel object begins with that Faultline makes.
pub const NAME_PREFIX: &str = "faultline_";

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $field:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(u64);

        impl $name {
            /// A new id from the system's random source.
            ///
            /// # Errors
            /// When the kernel gives no random bytes (`getrandom(2)`).
            pub fn random() -> Result<Self, getrandom::Error> {
                Ok(Self(getrandom::u64()?))
            }

            /// The id with these bits.
            pub const fn from_bits(bits: u64) -> Self {
                Self(bits)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:016x}", self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self)
            }
        }

        impl FromStr for $name {
            type Err = InvalidWire;

            fn from_str(text: &str) -> Result<Self, InvalidWire> {
                let digits = |b: &u8| matches!(b, b'0'..=b'9' | b'a'..=b'f');
                if text.len() != 16 || !text.as_bytes().iter().all(digits) {
                    return Err(InvalidWire::new(
                        $field,
                        format!("expected 16 lower-case hexadecimal digits, got {text:?}"),
                    ));
                }
                let bits = u64::from_str_radix(text, 16)
                    .map_err(|e| InvalidWire::new($field, e.to_string()))?;
                Ok(Self(bits))
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidWire;

            fn try_from(text: String) -> Result<Self, InvalidWire> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> Self {
                id.to_string()
            }
        }
    };
}

id! {
    /// One fault on one target in one run. Part of the name of every kernel object made for it.
    FaultId, "fault_id"
}
id! {
    /// One execution of an experiment.
    RunId, "run_id"
}

impl FaultId {
    /// The name of kernel objects (tables, cgroups) of this fault: `faultline_<id>`.
    pub fn object_name(self) -> String {
        format!("{NAME_PREFIX}{self}")
    }

    /// The fault that an object of this name belongs to, if it is one of ours.
    pub fn from_object_name(name: &str) -> Option<Self> {
        name.strip_prefix(NAME_PREFIX)?.parse().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_survives_its_text_and_its_object_name() {
        for bits in [0, 1, 0xdead_beef, u64::MAX] {
            let id = FaultId::from_bits(bits);
            assert_eq!(id.to_string().parse(), Ok(id));
            assert_eq!(FaultId::from_object_name(&id.object_name()), Some(id));
        }
    }

    #[test]
    fn other_texts_are_refused() {
        for text in [
            "",
            "1",
            "00000000000000000",
            "000000000000000G",
            "DEADBEEFDEADBEEF",
            "+00000000000000f",
        ] {
            assert!(text.parse::<RunId>().is_err(), "{text:?}");
        }
        assert_eq!(FaultId::from_object_name("faultline_x"), None);
        assert_eq!(FaultId::from_object_name("foreign_0000000000000000"), None);
    }
}
