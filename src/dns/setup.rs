//! The settings of the resolver, and the errors that tell an operator which of them to change.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustls::{ClientConfig, RootCertStore};

use super::recursion::hints::RootHints;
use super::resolv_conf::{self, Listed};
use super::server::{NameServer, ResolverFallback, ResolverMode};
use super::{Families, Nat64, NegativeTrustAnchors};
use crate::operator_file::SETTINGS;
use crate::roots::{self, CaFileError};

/// Where the system's resolvers are listed.
pub const RESOLV_CONF: &str = "/etc/resolv.conf";

/// The most name servers that are used.
pub const MAX_SERVERS: usize = 8;

/// The name servers to ask, and a text on each that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct UsableServers {
    pub(super) servers: Vec<NameServer>,
    pub(super) left_out: Vec<String>,
}

/// The operator's settings for DNS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResolverSettings {
    /// The evidence by which an answer is secure.
    pub mode: ResolverMode,
    /// Recursive resolvers. To [`ResolverMode::Validate`], they need only pass DNSSEC records on; in [`ResolverMode::TrustAd`] they
    /// validate for us. Empty: those of `system`.
    pub servers: Vec<NameServer>,
    /// The list of the system's resolvers, which is followed when it changes.
    pub system: PathBuf,
    /// The resolver that serves while none of them passes the self-test.
    pub fallback: ResolverFallback,
    /// Whether an AD bit is believed that could have been changed on the network.
    pub trust_ad_unsafe_remote: bool,
    /// A file of DNSKEY records of the root, in master-file form. `None`: IANA's keys, which are built in.
    pub trust_anchor: Option<PathBuf>,
    /// A file of the addresses of the root servers, in the form of IANA's `named.root`. `None`: IANA's, which are built in.
    pub root_hints: Option<PathBuf>,
    /// The port of authoritative servers: 53, but for tests.
    pub recursion_port: u16,
    /// A file of certificates (PEM) of the authorities for servers of DNS over TLS. `None`: the public ones.
    pub tls_ca: Option<PathBuf>,
    /// How long to wait for one reply of a server at most.
    pub timeout: Duration,
    /// How often a question is put before the lookup fails; to each server once at least.
    pub attempts: usize,
    /// How long one lookup may take in all, with every alias and every key on the way.
    pub deadline: Duration,
    /// The limits of the memory of finished lookups.
    pub memory: MemoryLimits,
    /// The families of addresses to ask for.
    pub families: Families,
    /// Whether IPv4 addresses are reached by NAT64.
    pub nat64: Nat64,
    /// The zones below which nothing is validated.
    pub negative: NegativeTrustAnchors,
}

impl Default for ResolverSettings {
    fn default() -> Self {
        Self {
            mode: ResolverMode::Validate,
            servers: Vec::new(),
            system: PathBuf::from(RESOLV_CONF),
            fallback: ResolverFallback::Off,
            trust_ad_unsafe_remote: false,
            trust_anchor: None,
            root_hints: None,
            recursion_port: 53,
            tls_ca: None,
            timeout: Duration::from_secs(3),
            attempts: 3,
            deadline: Duration::from_secs(20),
            memory: MemoryLimits::NONE,
            families: Families::Any,
            nat64: Nat64::Off,
            negative: NegativeTrustAnchors::default(),
        }
    }
}

/// The bounds of the memory of finished lookups.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemoryLimits {
    /// How many lookups at most.
    pub entries: usize,
    /// How many octets at most, as far as they are counted.
    pub octets: usize,
    /// The longest time for which an answer is kept, even if its TTL is longer.
    pub answers: Duration,
    /// How long a failure is remembered (RFC 9520 §3.2: a second at least, five minutes at most).
    pub failures: Duration,
}

impl MemoryLimits {
    /// No lookup is kept.
    pub const NONE: Self = Self { entries: 0, octets: 0, answers: Duration::ZERO, failures: Duration::ZERO };
}

impl ResolverSettings {
    /// The servers to ask now, at most [`MAX_SERVERS`]: those that are named, else those that the system lists at this
    /// moment.
    ///
    /// # Errors
    /// There are none, or one is not to be trusted with an AD bit.
    pub(super) fn current_servers(&self) -> Result<UsableServers, ResolverSetupError> {
        let mut usable = match self.servers.as_slice() {
            [] => system_servers(&self.system)?,
            named => located(named)?,
        };
        for server in usable.servers.drain(usable.servers.len().min(MAX_SERVERS)..) {
            usable.left_out.push(format!("name server {server}: only the first {MAX_SERVERS} are used"));
        }
        match (self.mode, usable.servers.iter().find(|server| !server.is_out_of_reach())) {
            // RFC 7672 §2.1.1, RFC 4035 §4.9.3: an AD bit is no safer than the network that it came over.
            (ResolverMode::TrustAd, Some(server)) if !self.trust_ad_unsafe_remote => {
                Err(ResolverSetupError::WithinReach(server.clone()))
            }
            (ResolverMode::TrustAd | ResolverMode::Validate, _) => Ok(usable),
        }
    }

    /// The servers at the start: none at all, where none can be used yet and the fallback can serve until then. What keeps them
    /// from use stands among those that are left out.
    ///
    /// # Errors
    /// As [`current_servers`](Self::current_servers), without a fallback; and a server that is not to be trusted with an AD bit.
    pub(super) fn first_servers(&self) -> Result<UsableServers, ResolverSetupError> {
        match (self.current_servers(), self.fallback) {
            (Err(why), ResolverFallback::Recurse) if why.may_pass() => {
                Ok(UsableServers { servers: Vec::new(), left_out: vec![why.to_string()] })
            }
            (usable, _) => usable,
        }
    }

    /// Why none of the servers can be used now, if none can.
    pub fn none_usable(&self) -> Option<String> {
        self.current_servers().err().map(|why| why.to_string())
    }

    /// The server that stands for the fallback, if there is one besides the servers.
    pub(super) fn fallback_server(&self) -> Option<NameServer> {
        match self.fallback {
            ResolverFallback::Recurse => {
                Some(NameServer::RECURSION).filter(|fallback| !self.servers.contains(fallback))
            }
            ResolverFallback::Off => None,
        }
    }

    /// The addresses of the root servers.
    ///
    /// # Errors
    /// The file is of no use.
    pub(super) fn hints(&self) -> Result<RootHints, ResolverSetupError> {
        let Some(path) = &self.root_hints else { return Ok(RootHints::default()) };
        let text =
            SETTINGS.text(path).map_err(|source| ResolverSetupError::Unreadable { path: path.clone(), source })?;
        RootHints::parse(&text).map_err(|why| ResolverSetupError::BadHints { path: path.clone(), why })
    }

    /// How servers of DNS over TLS are verified.
    ///
    /// # Errors
    /// The file of certificates is of no use.
    pub(super) fn tls_client(&self) -> Result<Arc<ClientConfig>, ResolverSetupError> {
        let roots = match &self.tls_ca {
            None => roots::built_in(),
            Some(path) => {
                let bad = |error: rustls::Error| CaFileError::Malformed { path: path.clone(), why: error.to_string() };
                let mut named = RootCertStore::empty();
                for certificate in roots::certificates(path)? {
                    named.add(certificate).map_err(bad)?;
                }
                named
            }
        };
        roots::client_tls(Arc::new(roots)).map_err(|error| ResolverSetupError::Library(error.to_string()))
    }
}

/// Why there is no resolver. Each says which setting to change.
#[derive(Debug, thiserror::Error)]
pub enum ResolverSetupError {
    /// The system's list has no `nameserver` line, and no name server is configured.
    #[error("{} names no name server: set dns.servers to a recursive resolver that passes DNSSEC records on", .0.display())]
    NoServers(PathBuf),
    /// The trust anchor file or the list of system resolvers cannot be read.
    #[error("{}", roots::unreadable(path, source))]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// The file is no master file of DNSKEY or DS records.
    #[error(
        "{} is no list of DNSKEY or DS records: {why}; its records must be like \". IN DNSKEY 257 3 8 AwEAAa..\", such \
         as `dig . DNSKEY` shows them, or leave the setting out to use the built-in keys",
        path.display()
    )]
    BadAnchors {
        /// The file.
        path: PathBuf,
        /// The line and its fault.
        why: String,
    },
    /// Without a key of the root everything would be bogus.
    #[error("{} has no usable DNSKEY record of the root, one with flags 257 that is not revoked, and no usable DS record", .0.display())]
    NoAnchors(PathBuf),
    /// The file of root servers has other lines, or no address.
    #[error(
        "{} is no list of root servers: {why}; its lines must be like \"a.root-servers.net. A 198.41.0.4\", or leave the \
         setting out to use the built-in addresses",
        path.display()
    )]
    BadHints {
        /// The file.
        path: PathBuf,
        /// The fault.
        why: String,
    },
    /// The system's list has `nameserver` lines, and none that can be used.
    #[error("{} names no name server that can be used: {}", path.display(), left_out.join("; "))]
    NoneUsable {
        /// The file.
        path: PathBuf,
        /// Each line.
        left_out: Vec<String>,
    },
    /// No server of the configuration is at an interface that this host has.
    #[error("{}", .0.join("; "))]
    NoInterface(Vec<String>),
    /// An AD bit that could be set or cleared on the network.
    #[error(
        "name server {0} is neither on loopback nor spoken to over TLS, so that its AD bit may be anybody's: in mode \
         \"trust-ad\" a server is like 127.0.0.1 or tls://{ip}#its.name, or trust_ad_unsafe_remote is true",
        ip = .0.address.ip()
    )]
    WithinReach(NameServer),
    /// The file of certificates is of no use.
    #[error("{0}; or leave the setting out to use the built-in authorities")]
    Certificates(#[from] CaFileError),
    /// The DNS library cannot be started.
    #[error("the DNS library does not start: {0}")]
    Library(String),
}

impl ResolverSetupError {
    /// Whether there is no server to ask for the moment: a network that comes up later may bring one.
    fn may_pass(&self) -> bool {
        match self {
            Self::NoServers(_) | Self::Unreadable { .. } | Self::NoneUsable { .. } | Self::NoInterface(_) => true,
            Self::BadAnchors { .. }
            | Self::NoAnchors(_)
            | Self::BadHints { .. }
            | Self::WithinReach(_)
            | Self::Certificates(_)
            | Self::Library(_) => false,
        }
    }
}

/// The name servers that a `resolv.conf` lists, and the lines that cannot be used.
///
/// # Errors
/// The file cannot be read, or names no server that can be used.
fn system_servers(path: &Path) -> Result<UsableServers, ResolverSetupError> {
    let octets =
        SETTINGS.read(path).map_err(|source| ResolverSetupError::Unreadable { path: path.to_owned(), source })?;
    let Listed { servers, left_out } = resolv_conf::parse(&octets, interface_index);
    match (servers.is_empty(), left_out.is_empty()) {
        (true, true) => Err(ResolverSetupError::NoServers(path.to_owned())),
        (true, false) => {
            let left_out = left_out.iter().map(ToString::to_string).collect();
            Err(ResolverSetupError::NoneUsable { path: path.to_owned(), left_out })
        }
        (false, _) => Ok(UsableServers {
            servers,
            left_out: left_out.iter().map(|line| format!("{}, {line}", path.display())).collect(),
        }),
    }
}

/// The servers of the configuration whose interface is there, and a text on each other.
///
/// # Errors
/// There is none.
fn located(named: &[NameServer]) -> Result<UsableServers, ResolverSetupError> {
    let mut usable = UsableServers { servers: Vec::new(), left_out: Vec::new() };
    for server in named {
        match server.clone().located(interface_index) {
            Some(server) => usable.servers.push(server),
            None => usable.left_out.push(format!("name server {server}: there is no such interface")),
        }
    }
    if usable.servers.is_empty() { Err(ResolverSetupError::NoInterface(usable.left_out)) } else { Ok(usable) }
}

/// The number of a network interface of this host. The name is one that may be an interface's, and no path.
fn interface_index(name: &str) -> Option<u32> {
    if name.contains('/') || name.starts_with('.') {
        return None;
    }
    SETTINGS.text(&Path::new("/sys/class/net").join(name).join("ifindex")).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn current(text: &[u8]) -> Result<UsableServers, ResolverSetupError> {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(text).unwrap();
        ResolverSettings { system: file.path().to_owned(), ..ResolverSettings::default() }.current_servers()
    }

    #[test]
    fn one_usable_line_is_enough() {
        let text = b"# caf\xe9\nnameserver fe80::1%no-such-interface\nnameserver dns.example\nnameserver 127.0.0.1\n";
        let UsableServers { servers, left_out } = current(text).unwrap();
        assert_eq!(servers, ["127.0.0.1".parse().unwrap()]);
        assert_eq!(left_out.len(), 2);
        assert!(left_out[1].contains(", line 3: \"dns.example\""), "{left_out:?}");
        assert_eq!(interface_index("../../etc"), None);
    }

    #[test]
    fn a_resolv_conf_that_will_not_do() {
        assert!(matches!(current(b"search example\n"), Err(ResolverSetupError::NoServers(_))));
        let error = current(b"nameserver dns.example\nnameserver\n").unwrap_err().to_string();
        assert!(error.contains("line 1: \"dns.example\"") && error.contains("line 2: \"\""), "{error}");
        for path in ["/nonexistent/x", "/dev/zero"] {
            assert!(matches!(system_servers(Path::new(path)), Err(ResolverSetupError::Unreadable { .. })), "{path}");
        }
    }

    #[test]
    fn a_start_without_a_server_needs_the_fallback() {
        let missing = PathBuf::from("/nonexistent/x");
        let nowhere = || vec!["fe80::1%no-such-one".parse().unwrap()];
        let mut empty = tempfile::NamedTempFile::new().unwrap();
        empty.write_all(b"nameserver dns.example\n").unwrap();
        for (servers, system, says) in [
            (vec![], missing.clone(), "cannot read /nonexistent/x"),
            (vec![], PathBuf::from("/dev/null"), "/dev/null names no name server: set dns.servers"),
            (vec![], empty.path().to_owned(), "line 1: \"dns.example\""),
            (nowhere(), missing, "there is no such interface"),
        ] {
            let without = ResolverSettings { servers, system, ..ResolverSettings::default() };
            assert!(without.first_servers().is_err(), "{says}");
            let with = ResolverSettings { fallback: ResolverFallback::Recurse, ..without };
            let UsableServers { servers, left_out } = with.first_servers().unwrap();
            assert!(servers.is_empty() && left_out.len() == 1 && left_out[0].contains(says), "{left_out:?}");
            assert_eq!(with.none_usable().as_ref(), left_out.first());
            assert!(with.current_servers().is_err(), "a later list that is of no use leaves the last one in force");
        }
        // A server that is there, and whose AD bit strangers can change, is no such case.
        let remote = ResolverSettings {
            mode: ResolverMode::TrustAd,
            servers: vec!["192.0.2.1".parse().unwrap()],
            fallback: ResolverFallback::Recurse,
            ..ResolverSettings::default()
        };
        assert!(matches!(remote.first_servers(), Err(ResolverSetupError::WithinReach(_))));
    }

    #[test]
    fn a_server_at_an_interface_that_is_not_there_is_left_out() {
        let of = |servers: &[&str]| {
            let servers = servers.iter().map(|server| server.parse().unwrap()).collect();
            ResolverSettings { servers, ..ResolverSettings::default() }.current_servers()
        };
        let UsableServers { servers, left_out } = of(&["fe80::1%no-such-one", "fe80::1%lo", "127.0.0.1"]).unwrap();
        assert_eq!(servers, ["fe80::1%1".parse().unwrap(), "127.0.0.1".parse().unwrap()]);
        assert_eq!(left_out, ["name server [fe80::1%no-such-one]:53: there is no such interface"]);
        assert!(matches!(of(&["fe80::1%no-such-one"]), Err(ResolverSetupError::NoInterface(_))));
    }

    #[test]
    fn eight_servers_are_used_at_most() {
        let text: String = (1..=10).map(|number| format!("nameserver 192.0.2.{number}\n")).collect();
        let UsableServers { servers, left_out } = current(text.as_bytes()).unwrap();
        assert_eq!((servers.len(), left_out.len()), (8, 2));
        assert_eq!(left_out[0], "name server 192.0.2.9:53: only the first 8 are used");
    }
}
