//! The forms of single values: networks, resolvers, names, records, days.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use ipnet::{IpNet, Ipv4Net};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};
use time::Date;

use super::address::{Address, Owner, Permissions};
use super::listener::ClientKey;
use crate::dane::tlsa::Tlsa;
use crate::dns::server;
use crate::mta_sts::MxPattern;
use crate::name::Name;
use crate::rules::{Domains, DomainsError};

/// A TLSA record in presentation form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsaText(pub Tlsa);

/// A network, or a single address written without a prefix length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network(pub IpNet);

/// A resolver in a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server(pub server::NameServer);

/// A pattern for hosts in a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MxValue(pub MxPattern);

/// A host name in a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostName(pub Name);

/// Domains in a list: one, or all below it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DomainsText(pub Domains);

impl FromStr for DomainsText {
    type Err = DomainsError;

    fn from_str(text: &str) -> Result<Self, DomainsError> {
        text.parse().map(Self)
    }
}

impl FromStr for Network {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        text.parse()
            .or_else(|_| text.parse::<IpAddr>().map(IpNet::from))
            .map(|network| Self(canonical(network)))
            .map_err(|_| format!("{text:?} is no address or network such as 192.0.2.0/24"))
    }
}

/// A network of IPv4 addresses in IPv6 form (RFC 4291 §2.5.5.2) as one of IPv4: addresses are compared in that form.
fn canonical(network: IpNet) -> IpNet {
    match (network.network().to_canonical(), network.prefix_len().checked_sub(96)) {
        (IpAddr::V4(v4), Some(length)) if network.network().is_ipv6() => {
            Ipv4Net::new(v4, length).map_or(network, IpNet::V4)
        }
        (IpAddr::V4(_) | IpAddr::V6(_), _) => network,
    }
}

impl FromStr for Server {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        text.parse().map(Self)
    }
}

impl FromStr for TlsaText {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        text.parse().map(Self).map_err(|error| format!("{text:?} is no TLSA record such as 3 1 1 0123..: {error}"))
    }
}

impl FromStr for MxValue {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let pattern = MxPattern::parse(text);
        match pattern.is_usable() {
            true => Ok(Self(pattern)),
            false => Err("no host can match it; write it as in \"mx.example.net\" or \"*.example.net\"".to_owned()),
        }
    }
}

impl FromStr for HostName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Name::parse(text).map(Self).map_err(|error| format!("{text:?} is no host name: {error}"))
    }
}

macro_rules! deserialize_from_str {
    ($($type:ty),*) => {$(
        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                parsed(deserializer)
            }
        }
    )*};
}
deserialize_from_str!(
    DomainsText,
    Network,
    Server,
    HostName,
    MxValue,
    TlsaText,
    Address,
    Permissions,
    Owner,
    ClientKey
);

/// Reads a text with a form of its own.
pub(super) fn parsed<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: FromStr,
    T::Err: fmt::Display,
{
    read(&String::deserialize(deserializer)?)
}

/// Reads a key for which the empty string means "not set".
pub(super) fn optional<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: FromStr,
    T::Err: fmt::Display,
{
    let text = String::deserialize(deserializer)?;
    if text.is_empty() { Ok(None) } else { read(&text).map(Some) }
}

fn read<T, E>(text: &str) -> Result<T, E>
where
    T: FromStr,
    T::Err: fmt::Display,
    E: serde::de::Error,
{
    text.parse().map_err(|error: T::Err| {
        let (error, quoted) = (in_our_words(error.to_string()), format!("{text:?}"));
        // Some errors quote the text themselves.
        if error.starts_with(&quoted) {
            E::custom(error)
        } else {
            E::custom(format!("{quoted} is not allowed: {error}"))
        }
    })
}

/// The words of the standard library, with an example.
fn in_our_words(error: String) -> String {
    match error.as_str() {
        "invalid IPv4 address syntax" => "it is no IPv4 address such as 192.0.2.1".to_owned(),
        "invalid IPv6 address syntax" => "it is no IPv6 address such as 2001:db8::1".to_owned(),
        _ => error,
    }
}

/// Reads a day that has to be there.
pub(super) fn last_day<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Date, D::Error> {
    let text = String::deserialize(deserializer)?;
    crate::last_day::parsed(&text)
        .ok_or_else(|| D::Error::custom(format!("{text:?} is no day; write it as 2027-01-31, without a time")))
}

/// Reads a day.
pub(super) fn day<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Date>, D::Error> {
    last_day(deserializer).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_is_written_in_one_way() {
        for (text, network) in [
            ("192.0.2.0/24", "192.0.2.0/24"),
            ("192.0.2.7", "192.0.2.7/32"),
            ("2001:db8::/32", "2001:db8::/32"),
            ("::1", "::1/128"),
            // RFC 4291 §2.5.5.2: IPv4 in IPv6 form.
            ("::ffff:10.0.0.0/104", "10.0.0.0/8"),
            ("::ffff:192.0.2.7", "192.0.2.7/32"),
            ("::ffff:0:0/96", "0.0.0.0/0"),
            // A network that has more than those.
            ("::/0", "::/0"),
            ("::fffe:0:0/95", "::fffe:0:0/95"),
        ] {
            assert_eq!(text.parse::<Network>().unwrap().0.to_string(), network, "{text}");
        }
    }
}
