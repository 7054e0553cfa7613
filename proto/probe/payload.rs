//! What a probe sends: a text, or bytes written as hexadecimal digits.

use super::address::{Wrong, checked, wrong};
use crate::{
    limits::PROBE_PAYLOAD_BYTES_MAX,
    yaml::{Fields, Node, Problems, Value},
};

/// Bytes to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Payload(Vec<u8>);

impl Payload {
    /// Takes bytes.
    ///
    /// # Errors
    /// When they are too many.
    pub fn new(bytes: Vec<u8>) -> Result<Self, Wrong> {
        if bytes.len() > PROBE_PAYLOAD_BYTES_MAX {
            let limit = format!("expected up to {PROBE_PAYLOAD_BYTES_MAX} bytes");
            return Err(wrong(format!("these are {} bytes", bytes.len()), limit));
        }
        Ok(Self(bytes))
    }

    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    fn of_hex(text: &str) -> Result<Self, Wrong> {
        let digits: Vec<u8> = text.bytes().filter(|b| !b.is_ascii_whitespace()).collect();
        let digit = |b: u8| char::from(b).to_digit(16).and_then(|d| u8::try_from(d).ok());
        let pair = |pair: &[u8]| match pair {
            [high, low] => Some(digit(*high)? << 4 | digit(*low)?),
            _ => None,
        };
        let bytes: Option<Vec<u8>> = digits.chunks(2).map(pair).collect();
        let not_hex =
            || wrong("these are not bytes", "expected pairs of hexadecimal digits: 0d 0a");
        Self::new(bytes.ok_or_else(not_hex)?)
    }
}

/// Decodes a text, or `{ hex: … }`.
pub(super) fn decode(node: &Node, problems: &mut Problems) -> Option<Payload> {
    if let Value::Mapping(_) = node.value {
        let mut fields = Fields::open(node, "what is sent", problems)?;
        let payload = fields.required("hex", problems, checked(Payload::of_hex));
        fields.finish(problems);
        return payload;
    }
    checked(|text| Payload::new(text.as_bytes().to_vec()))(node, problems)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hexadecimal_digits_are_bytes() {
        assert_eq!(Payload::of_hex("0d 0A").map(|p| p.0), Ok(vec![13, 10]));
        for text in ["0", "0g", "xx", "0d 0"] {
            assert!(Payload::of_hex(text).is_err(), "{text}");
        }
        assert!(Payload::of_hex(&"00".repeat(PROBE_PAYLOAD_BYTES_MAX + 1)).is_err());
    }
}
