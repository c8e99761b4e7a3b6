//! The forms of single values: networks, resolvers, names, records, days.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;

use ipnet::IpNet;
use serde::{Deserialize, Deserializer};
use time::Date;
use time::format_description::well_known::Iso8601;

use crate::dane::tlsa::Tlsa;
use crate::dns::server;
use crate::name::Name;

/// A TLSA record in presentation form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record(pub Tlsa);

/// A network, or a single address written without a prefix length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network(pub IpNet);

/// Where the admin port is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AdminAddress {
    /// An address and port.
    Tcp(SocketAddr),
    /// A unix socket.
    Unix(PathBuf),
}

/// A resolver in a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server(pub server::Server);

/// A host name in a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostName(pub Name);

impl FromStr for Network {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        text.parse()
            .or_else(|_| text.parse::<IpAddr>().map(IpNet::from))
            .map(Self)
            .map_err(|_| format!("{text:?} is no address or network such as 192.0.2.0/24"))
    }
}

impl FromStr for AdminAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.strip_prefix("unix:") {
            Some(path) if path.starts_with('/') => Ok(Self::Unix(PathBuf::from(path))),
            Some(path) => Err(format!("{path:?} is no absolute path of a socket")),
            None => text
                .parse()
                .map(Self::Tcp)
                .map_err(|_| "it must be like 127.0.0.1:7671 or unix:/run/danelaw/admin.sock".to_owned()),
        }
    }
}

impl fmt::Display for AdminAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => write!(f, "http://{address}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl FromStr for Server {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        text.parse().map(Self)
    }
}

impl FromStr for Record {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        text.parse().map(Self).map_err(|error| format!("{text:?} is no TLSA record such as 3 1 1 0123..: {error}"))
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
                String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
            }
        }
    )*};
}
deserialize_from_str!(Network, Server, HostName, Record);

/// Reads an address with its port, and says what one looks like.
pub(super) fn listen_address<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SocketAddr, D::Error> {
    let text = String::deserialize(deserializer)?;
    text.parse().map_err(|_| {
        serde::de::Error::custom(format!("{text:?} is no address and port such as 127.0.0.1:10025 or [::1]:10025"))
    })
}

/// Reads a text that has a form of its own.
pub(super) fn parsed<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: FromStr,
    T::Err: fmt::Display,
{
    let text = String::deserialize(deserializer)?;
    text.parse().map_err(|error| serde::de::Error::custom(format!("{text:?} does not do: {error}")))
}

/// Reads a day.
pub(super) fn day<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Date>, D::Error> {
    let text = String::deserialize(deserializer)?;
    Date::parse(&text, &Iso8601::DATE)
        .map(Some)
        .map_err(|_| serde::de::Error::custom(format!("{text:?} is no day; write it as in \"2027-01-31\"")))
}

/// Reads a key for which the empty string means "not set".
pub(super) fn optional<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: FromStr,
    T::Err: fmt::Display,
{
    let text = String::deserialize(deserializer)?;
    if text.is_empty() {
        return Ok(None);
    }
    text.parse().map(Some).map_err(|error| serde::de::Error::custom(format!("{text:?} does not do: {error}")))
}
