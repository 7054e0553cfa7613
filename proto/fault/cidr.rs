//! A range of addresses: what a partition's peers are made of.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    str::FromStr,
};

use serde::{Deserialize, Serialize};

use crate::{InvalidWire, pb};

/// An address and how many of its leading bits count. The others are zero.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Cidr {
    address: IpAddr,
    prefix_len: u8,
}

/// Why a text is no range.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvalidCidr {
    /// What is wrong.
    pub message: String,
    /// What was probably meant.
    pub help: Option<String>,
}

impl Cidr {
    /// The range of the addresses that share their first `prefix_len` bits with `address`.
    ///
    /// # Errors
    /// When there are not so many bits, or bits behind them are set.
    pub fn new(address: IpAddr, prefix_len: u8) -> Result<Self, InvalidCidr> {
        let bits = if address.is_ipv4() { 32 } else { 128 };
        if prefix_len > bits {
            return Err(InvalidCidr {
                message: format!("a prefix length of {prefix_len} is more than {bits}"),
                help: None,
            });
        }
        let masked = mask(address, prefix_len);
        if masked != address {
            return Err(InvalidCidr {
                message: format!("{address}/{prefix_len} has host bits set"),
                help: Some(format!(
                    "write {masked}/{prefix_len} for the range, or {address} for the one address"
                )),
            });
        }
        Ok(Self { address, prefix_len })
    }

    /// The range of one address.
    pub fn host(address: IpAddr) -> Self {
        Self { address, prefix_len: if address.is_ipv4() { 32 } else { 128 } }
    }

    /// The first address.
    pub fn address(self) -> IpAddr {
        self.address
    }

    /// How many leading bits count.
    pub fn prefix_len(self) -> u8 {
        self.prefix_len
    }

    /// Whether it is one address.
    pub fn is_host(self) -> bool {
        self.prefix_len == if self.address.is_ipv4() { 32 } else { 128 }
    }

    /// Whether `address` is in it.
    pub fn contains(self, address: IpAddr) -> bool {
        self.address.is_ipv4() == address.is_ipv4()
            && mask(address, self.prefix_len) == self.address
    }
}

fn mask(address: IpAddr, prefix_len: u8) -> IpAddr {
    match address {
        IpAddr::V4(v4) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(prefix_len)).unwrap_or(0);
            Ipv4Addr::from_bits(v4.to_bits() & mask).into()
        }
        IpAddr::V6(v6) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(prefix_len)).unwrap_or(0);
            Ipv6Addr::from_bits(v6.to_bits() & mask).into()
        }
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_host() {
            write!(f, "{}", self.address)
        } else {
            write!(f, "{}/{}", self.address, self.prefix_len)
        }
    }
}

impl fmt::Debug for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Cidr {
    type Err = InvalidCidr;

    fn from_str(text: &str) -> Result<Self, InvalidCidr> {
        let wrong = || InvalidCidr {
            message: format!("`{text}` is neither an address nor a range of addresses"),
            help: Some("write 10.1.2.3, 10.0.0.0/8 or fd00::/8".into()),
        };
        let Some((address, prefix_len)) = text.split_once('/') else {
            return Ok(Self::host(text.parse().map_err(|_not_an_address| wrong())?));
        };
        let address = address.parse().map_err(|_not_an_address| wrong())?;
        let digits = prefix_len.bytes().all(|b| b.is_ascii_digit());
        let prefix_len = prefix_len.parse().ok().filter(|_| digits).ok_or_else(wrong)?;
        Self::new(address, prefix_len)
    }
}

impl fmt::Display for InvalidCidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for InvalidCidr {}

impl TryFrom<String> for Cidr {
    type Error = InvalidCidr;

    fn try_from(text: String) -> Result<Self, InvalidCidr> {
        text.parse()
    }
}

impl From<Cidr> for String {
    fn from(cidr: Cidr) -> Self {
        cidr.to_string()
    }
}

impl TryFrom<pb::Cidr> for Cidr {
    type Error = InvalidWire;

    fn try_from(wire: pb::Cidr) -> Result<Self, InvalidWire> {
        let address = match wire.address.len() {
            4 => <[u8; 4]>::try_from(wire.address).map(IpAddr::from),
            16 => <[u8; 16]>::try_from(wire.address).map(IpAddr::from),
            _ => Err(wire.address),
        };
        let address = address.map_err(|bytes| {
            InvalidWire::new("address", format!("expected 4 or 16 bytes, got {}", bytes.len()))
        })?;
        let prefix_len = u8::try_from(wire.prefix_len).unwrap_or(u8::MAX);
        Self::new(address, prefix_len).map_err(|e| InvalidWire::new("prefix_len", e.message))
    }
}

impl From<Cidr> for pb::Cidr {
    fn from(cidr: Cidr) -> Self {
        let address = match cidr.address {
            IpAddr::V4(v4) => v4.octets().to_vec(),
            IpAddr::V6(v6) => v6.octets().to_vec(),
        };
        Self { address, prefix_len: cidr.prefix_len.into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read_shown_and_sent() {
        for text in ["10.0.0.0/8", "10.1.2.3", "0.0.0.0/0", "fd00::/8", "::/0", "fd00::1"] {
            let cidr: Cidr = text.parse().expect(text);
            assert_eq!(cidr.to_string(), text);
            assert_eq!(Cidr::try_from(pb::Cidr::from(cidr)), Ok(cidr));
        }
        let ten: Cidr = "10.0.0.0/8".parse().expect("valid");
        assert!(ten.contains("10.255.0.1".parse().expect("valid")));
        assert!(!ten.contains("11.0.0.0".parse().expect("valid")));
        assert!(!ten.contains("::".parse().expect("valid")));
    }

    #[test]
    fn host_bits_and_nonsense_are_refused_with_what_was_meant() {
        let error = "10.0.0.1/8".parse::<Cidr>().expect_err("host bits");
        assert!(error.help.is_some_and(|help| help.contains("10.0.0.0/8")));
        for text in ["", "/", "10.0.0.0/", "10.0.0.0/33", "10.0.0.0/+8", "10.0.0/8", "fd00::/129"] {
            assert!(text.parse::<Cidr>().is_err(), "{text:?}");
        }
        let wire = |address: Vec<u8>, prefix_len| Cidr::try_from(pb::Cidr { address, prefix_len });
        assert!(wire(vec![1, 2, 3], 8).is_err());
        assert!(wire(vec![10, 0, 0, 0], 33).is_err());
        assert!(wire(vec![10, 0, 0, 0], 4_000_000_000).is_err());
        assert!(wire(vec![10, 0, 0, 1], 24).is_err());
    }
}
