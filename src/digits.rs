//! Texts of a few small numbers: reply codes, IPv4 addresses, the form of a TLSA record. Each message has two dozen of them in its
//! replies, its trace and its log line, and a [`fmt::Formatter`] for each number takes ten times as long.

use std::fmt;
use std::net::IpAddr;

/// `255.255.255.255`.
const MAX_OCTETS: usize = 15;

/// Four numbers of at most three digits with an octet between them.
pub(crate) struct Digits {
    octets: [u8; MAX_OCTETS],
    length: usize,
}

impl Digits {
    /// The text of these numbers.
    pub(crate) fn joined(separator: u8, numbers: impl IntoIterator<Item: Into<u16>>) -> Self {
        let mut text = Self { octets: [0; MAX_OCTETS], length: 0 };
        for (index, number) in numbers.into_iter().map(Into::into).enumerate() {
            if index > 0 {
                text.push(separator);
            }
            for unit in [100, 10, 1].into_iter().filter(|&unit| number >= unit || unit == 1) {
                text.push(b'0' + u8::try_from(number / unit % 10).unwrap_or_default());
            }
        }
        text
    }

    fn push(&mut self, octet: u8) {
        if let Some(place) = self.octets.get_mut(self.length) {
            *place = octet;
            self.length += 1;
        }
    }

    pub(crate) fn as_str(&self) -> &str {
        // Digits and separators are ASCII.
        str::from_utf8(&self.octets[..self.length]).unwrap_or_default()
    }
}

/// Shows an address as [`IpAddr`] does.
pub(crate) struct AddressText(pub(crate) IpAddr);

impl fmt::Display for AddressText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            IpAddr::V4(address) => f.write_str(Digits::joined(b'.', address.octets()).as_str()),
            IpAddr::V6(address) => address.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers() {
        for number in 0..1000_u16 {
            assert_eq!(Digits::joined(b'.', [number]).as_str(), number.to_string());
        }
        assert_eq!(Digits::joined(b'.', [2_u16, 0, 999]).as_str(), "2.0.999");
        assert_eq!(Digits::joined(b' ', [3_u8, 10, 255]).as_str(), "3 10 255");
        assert_eq!(Digits::joined(b' ', [0_u8; 0]).as_str(), "");
    }

    #[test]
    fn addresses() {
        for address in ["0.0.0.0", "9.10.100.255", "255.255.255.255", "::", "2001:db8::1", "::ffff:192.0.2.1"] {
            assert_eq!(AddressText(address.parse().unwrap()).to_string(), address);
        }
    }
}
