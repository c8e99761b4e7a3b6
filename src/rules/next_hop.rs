//! The next-hop that a rule names, in Postfix's notation: `mx.example.net`, `[192.0.2.7]`, each with `:2525` behind it for a
//! port of its own.
//!
//! No MX records are looked up for a name, with or without square brackets: a rule names a host. Postfix looks them up for a
//! name without brackets, and DANE for them would need the security of the MX records of another domain.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use crate::name::{Name, NameError};
use crate::smtp::address::{AddressError, RecipientDomain};

/// The host that takes the mail of a domain, in place of the hosts in its MX records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NextHop {
    /// The host.
    pub host: NextHopHost,
    /// The port, in place of `remote.port`. TLSA records are those of this port (RFC 6698 §3).
    pub port: Option<u16>,
}

/// The host of a next-hop.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NextHopHost {
    /// A host, whose addresses are looked up.
    Name(Name),
    /// An address, for which the DNS is not asked. There is no DANE for it: TLSA records belong to names (RFC 7672 §2.2).
    Address(IpAddr),
}

/// Why a text is no next-hop.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NextHopError {
    /// An address without its brackets.
    #[error("an address stands in brackets, as in [{0}]")]
    NoBrackets(IpAddr),
    /// Behind the colon stands no port.
    #[error("{0:?} is no port; write a number from 1 to 65535")]
    Port(String),
    /// It is no address in brackets.
    #[error("{0}; write it as in [192.0.2.7] or [IPv6:2001:db8::7]")]
    Literal(AddressError),
    /// It is no name.
    #[error(transparent)]
    Name(#[from] NameError),
}

impl FromStr for NextHop {
    type Err = NextHopError;

    fn from_str(text: &str) -> Result<Self, NextHopError> {
        if let Ok(address) = text.parse::<IpAddr>() {
            return Err(NextHopError::NoBrackets(address));
        }
        let (host, port) = match text.rsplit_once(':') {
            // The colons of an address in brackets.
            Some(_) if text.ends_with(']') => (text, None),
            Some((host, port)) => (host, Some(parse_port(port)?)),
            None => (text, None),
        };
        Ok(Self { host: host.parse()?, port })
    }
}

impl FromStr for NextHopHost {
    type Err = NextHopError;

    fn from_str(text: &str) -> Result<Self, NextHopError> {
        let Some(inner) = text.strip_prefix('[') else {
            return match text.parse::<IpAddr>() {
                Ok(address) => Err(NextHopError::NoBrackets(address)),
                Err(_) => Ok(Self::Name(Name::parse(text)?)),
            };
        };
        let inner = inner.strip_suffix(']').ok_or(NextHopError::Literal(AddressError::Literal))?;
        // IPv6 without its tag, as in a URL.
        if let Ok(address) = inner.parse::<IpAddr>() {
            return Ok(Self::Address(address.to_canonical()));
        }
        match RecipientDomain::parse(text) {
            Ok(RecipientDomain::Literal(address)) => Ok(Self::Address(address.to_canonical())),
            Ok(RecipientDomain::Name(name)) => Ok(Self::Name(name)),
            Err(error) => match Name::parse(inner) {
                Ok(name) if name.is_fully_qualified() => Ok(Self::Name(name)),
                Ok(_) | Err(_) => Err(NextHopError::Literal(error)),
            },
        }
    }
}

/// Digits alone: `u16` would read a sign too.
fn parse_port(text: &str) -> Result<u16, NextHopError> {
    let port = text.parse().ok().filter(|port| *port != 0 && text.bytes().all(|octet| octet.is_ascii_digit()));
    port.ok_or_else(|| NextHopError::Port(text.to_owned()))
}

impl fmt::Display for NextHop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.host.fmt(f)?;
        self.port.map_or(Ok(()), |port| write!(f, ":{port}"))
    }
}

impl fmt::Display for NextHopHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => name.fmt(f),
            Self::Address(address) => RecipientDomain::Literal(*address).fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_next_hop_as_it_may_be_written() {
        for (text, shown) in [
            ("mx.example.net", "mx.example.net"),
            ("MX.example.net.", "mx.example.net"),
            // Postfix's brackets: no MX lookup, as without them.
            ("[mx.example.net]", "mx.example.net"),
            ("[192.0.2.7]", "[192.0.2.7]"),
            ("[IPv6:2001:db8::7]", "[IPv6:2001:db8::7]"),
            ("[ipv6:2001:db8::7]", "[IPv6:2001:db8::7]"),
            ("[2001:db8::7]", "[IPv6:2001:db8::7]"),
            // RFC 4291 §2.5.5.2.
            ("[IPv6:::ffff:192.0.2.7]", "[192.0.2.7]"),
        ] {
            let portless: NextHop = text.parse().unwrap();
            assert_eq!((portless.to_string().as_str(), portless.port), (shown, None), "{text}");
            assert_eq!(shown.parse(), Ok(portless.clone()), "what is shown can be written");
            for port in [1, 25, 2525, u16::MAX] {
                let next_hop: NextHop = format!("{text}:{port}").parse().unwrap();
                assert_eq!(next_hop, NextHop { port: Some(port), ..portless.clone() }, "{text}");
                assert_eq!(next_hop.to_string(), format!("{shown}:{port}"), "{text}");
                assert_eq!(next_hop.to_string().parse(), Ok(next_hop), "what is shown can be written");
            }
        }
        for (text, why) in [
            ("192.0.2.7", "in brackets, as in [192.0.2.7]"),
            ("192.0.2.7:2525", "in brackets, as in [192.0.2.7]"),
            ("2001:db8::7", "in brackets, as in [2001:db8::7]"),
            ("[192.0.2.700]", "malformed"),
            ("[192.0.2.7", "malformed"),
            ("[192.0.2.7:25", "malformed"),
            ("[192.0.2.7]25", "malformed"),
            ("[]", "malformed"),
            ("[]:25", "malformed"),
            ("a b", "outside letters"),
            ("mx.example.net:", "no port"),
            ("mx.example.net:0", "no port"),
            ("mx.example.net:65536", "no port"),
            ("mx.example.net:+25", "no port"),
            ("mx.example.net:smtp", "no port"),
            ("[192.0.2.7]:", "no port"),
            ("[192.0.2.7]:25x", "no port"),
            (":25", ""),
            ("a:25:26", "outside letters"),
        ] {
            let error = text.parse::<NextHop>().unwrap_err().to_string();
            assert!(error.contains(why), "{text}: {error}");
        }
    }
}
