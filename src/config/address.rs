//! The address of a listener, and the owner of its socket.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

/// The address of a listener.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// An address and a port.
    Tcp(SocketAddr),
    /// A Unix socket, by its absolute path.
    Unix(PathBuf),
}

/// Permissions of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Permissions(u32);

/// The owner of a file: names, or numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    /// The user.
    pub user: String,
    /// The group, if it is to change.
    pub group: Option<String>,
}

impl Address {
    /// Whether only one of the two can be open. Port 0 is the system's choice.
    pub fn excludes(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Unix(path), Self::Unix(other)) => path == other,
            (Self::Tcp(address), Self::Tcp(other)) => {
                let (ip, other_ip) = (address.ip(), other.ip());
                // Whether a socket for [::] takes IPv4 too is a setting of the system.
                let one_for_all =
                    ip.is_ipv4() == other_ip.is_ipv4() && (ip.is_unspecified() || other_ip.is_unspecified());
                address.port() == other.port() && address.port() != 0 && (ip == other_ip || one_for_all)
            }
            (Self::Unix(_), Self::Tcp(_)) | (Self::Tcp(_), Self::Unix(_)) => false,
        }
    }
}

impl Permissions {
    /// For the owner and its group.
    pub const GROUP: Self = Self(0o660);

    /// The mode bits of the file.
    pub fn bits(self) -> u32 {
        self.0
    }
}

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.strip_prefix("unix:") {
            Some(path) if path.starts_with('/') => Ok(Self::Unix(path.into())),
            Some(_) | None => text.parse().map(Self::Tcp).map_err(|_| {
                format!("{text:?} is no address and port such as 127.0.0.1:10025 or [::1]:10025, and no unix:/path")
            }),
        }
    }
}

impl FromStr for Permissions {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match u32::from_str_radix(text, 8) {
            Ok(bits @ 0..=0o777) => Ok(Self(bits)),
            Ok(_) | Err(_) => Err(format!("{text:?} is no mode: write the permissions in octal, as in \"0660\"")),
        }
    }
}

impl FromStr for Owner {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (user, group) = match text.split_once(':') {
            Some((user, group)) => (user, Some(group)),
            None => (text, None),
        };
        if user.is_empty() || group.is_some_and(str::is_empty) {
            return Err(format!("{text:?} is no owner: write it as \"user\" or \"user:group\""));
        }
        Ok(Self { user: user.to_owned(), group: group.map(str::to_owned) })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}
