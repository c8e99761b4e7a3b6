//! The settings of the resolver, and the errors that tell an operator which of them to change.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};

use super::server::{NameServer, ResolverMode};

/// Where the system's resolvers are listed.
pub const RESOLV_CONF: &str = "/etc/resolv.conf";

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
    /// Whether an AD bit is believed that could have been changed on the network.
    pub trust_ad_unsafe_remote: bool,
    /// A file of DNSKEY records of the root, in master-file form. `None`: IANA's keys, which are built in.
    pub trust_anchor: Option<PathBuf>,
    /// A file of certificates (PEM) of the authorities for servers of DNS over TLS. `None`: the public ones.
    pub tls_ca: Option<PathBuf>,
    /// How long to wait for one reply of a server.
    pub timeout: Duration,
    /// How often a question is put before the lookup fails; at least once.
    pub attempts: usize,
    /// How long one lookup may take in all, with every alias and every key on the way.
    pub deadline: Duration,
    /// The limits of the memory of finished lookups.
    pub memory: MemoryLimits,
}

impl Default for ResolverSettings {
    fn default() -> Self {
        Self {
            mode: ResolverMode::Validate,
            servers: Vec::new(),
            system: PathBuf::from(RESOLV_CONF),
            trust_ad_unsafe_remote: false,
            trust_anchor: None,
            tls_ca: None,
            timeout: Duration::from_secs(3),
            attempts: 3,
            deadline: Duration::from_secs(20),
            memory: MemoryLimits::NONE,
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
    /// The servers to ask now: those that are named, else those that the system lists at this moment.
    ///
    /// # Errors
    /// There are none, or one is not to be trusted with an AD bit.
    pub(super) fn current_servers(&self) -> Result<Vec<NameServer>, ResolverSetupError> {
        let servers = match self.servers.as_slice() {
            [] => system_servers(&self.system)?.into_iter().map(NameServer::from).collect(),
            named => named.to_vec(),
        };
        match (self.mode, servers.iter().find(|server| !server.is_out_of_reach())) {
            // RFC 7672 §2.1.1, RFC 4035 §4.9.3: an AD bit is no safer than the network that it came over.
            (ResolverMode::TrustAd, Some(server)) if !self.trust_ad_unsafe_remote => {
                Err(ResolverSetupError::WithinReach(server.clone()))
            }
            (ResolverMode::TrustAd | ResolverMode::Validate, _) => Ok(servers),
        }
    }

    /// How servers of DNS over TLS are verified.
    ///
    /// # Errors
    /// The file of certificates is of no use.
    pub(super) fn tls_client(&self) -> Result<Arc<ClientConfig>, ResolverSetupError> {
        let mut roots = RootCertStore::empty();
        match &self.tls_ca {
            None => roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
            Some(path) => {
                let bad = |why: String| ResolverSetupError::BadCertificates { path: path.clone(), why };
                let text = std::fs::read(path)
                    .map_err(|source| ResolverSetupError::Unreadable { path: path.clone(), source })?;
                for certificate in CertificateDer::pem_slice_iter(&text) {
                    let certificate = certificate.map_err(|error| bad(error.to_string()))?;
                    roots.add(certificate).map_err(|error| bad(error.to_string()))?;
                }
                if roots.is_empty() {
                    return Err(bad("there is no certificate in it".to_owned()));
                }
            }
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| ResolverSetupError::Library(error.to_string()))?;
        Ok(Arc::new(config.with_root_certificates(roots).with_no_client_auth()))
    }
}

/// Why there is no resolver. Each says which setting to change.
#[derive(Debug, thiserror::Error)]
pub enum ResolverSetupError {
    /// No name server is configured.
    #[error("no name server is configured: set at least one recursive resolver that passes DNSSEC records on")]
    NoServers,
    /// The trust anchor file, that of certificates or the list of system resolvers cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// A DS record names a key by its hash; a validator needs the key itself.
    #[error(
        "{} has DS records; only DNSKEY records are read: write the root's keys there, such as `dig . DNSKEY` shows \
         them once their hash has been compared with IANA's, or leave the setting out to use the built-in keys",
        .0.display()
    )]
    DsAnchors(PathBuf),
    /// The file is no master file of DNSKEY records.
    #[error(
        "{} is no list of DNSKEY records: {why}; its lines must be like \". IN DNSKEY 257 3 8 AwEAAa..\", such as \
         `dig . DNSKEY` shows them, or leave the setting out to use the built-in keys",
        path.display()
    )]
    BadAnchors {
        /// The file.
        path: PathBuf,
        /// The parser's message.
        why: String,
    },
    /// Without a key of the root everything would be bogus.
    #[error("{} has no usable DNSKEY record of the root: one with flags 257 that is not revoked", .0.display())]
    NoAnchors(PathBuf),
    /// A `nameserver` line of the system's list is not understood.
    #[error("{}: \"{server}\" is no address of a name server", path.display())]
    BadServer {
        /// The file.
        path: PathBuf,
        /// The address in the line.
        server: String,
    },
    /// A link-local server needs an interface, which the DNS library cannot be told.
    #[error(
        "{}: name server {server} is link-local and bound to an interface, which is not supported: configure a \
         resolver with a global or loopback address",
        path.display()
    )]
    ScopedServer {
        /// The file.
        path: PathBuf,
        /// The address in the line.
        server: String,
    },
    /// An AD bit that could be set or cleared on the network.
    #[error(
        "name server {0} is neither on loopback nor spoken to over TLS, so that its AD bit may be anybody's: in mode \
         \"trust-ad\" a server is like 127.0.0.1 or tls://{ip}#its.name, or trust_ad_unsafe_remote is true",
        ip = .0.address.ip()
    )]
    WithinReach(NameServer),
    /// The file of certificates is not in PEM form, or has none.
    #[error(
        "{} is no list of certificates in PEM form: {why}; each must stand between BEGIN CERTIFICATE and END CERTIFICATE, or \
         leave the setting out to use the built-in authorities",
        path.display()
    )]
    BadCertificates {
        /// The file.
        path: PathBuf,
        /// The fault.
        why: String,
    },
    /// The DNS library cannot be started.
    #[error("the DNS library does not start: {0}")]
    Library(String),
}

/// The name servers of a `resolv.conf`, at port 53, in the order of the file. The rest of the file is ignored: names
/// are always asked as they are, without a search list (RFC 5321 §5.1).
///
/// # Errors
/// The file cannot be read, names no server, or names one that cannot be used.
pub fn system_servers(path: &Path) -> Result<Vec<SocketAddr>, ResolverSetupError> {
    let text = std::fs::read_to_string(path)
        .map_err(|source| ResolverSetupError::Unreadable { path: path.to_owned(), source })?;
    let servers = text
        .lines()
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            (words.next() == Some("nameserver")).then(|| words.next().unwrap_or_default())
        })
        .map(|server| system_server(path, server))
        .collect::<Result<Vec<_>, _>>()?;
    if servers.is_empty() { Err(ResolverSetupError::NoServers) } else { Ok(servers) }
}

fn system_server(path: &Path, server: &str) -> Result<SocketAddr, ResolverSetupError> {
    if server.contains('%') {
        return Err(ResolverSetupError::ScopedServer { path: path.to_owned(), server: server.to_owned() });
    }
    match server.parse::<IpAddr>() {
        Ok(address) => Ok(SocketAddr::new(address, 53)),
        Err(_) => Err(ResolverSetupError::BadServer { path: path.to_owned(), server: server.to_owned() }),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn servers(text: &str) -> Result<Vec<SocketAddr>, ResolverSetupError> {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        system_servers(file.path())
    }

    #[test]
    fn the_servers_of_a_resolv_conf() {
        let text =
            "# by hand\nsearch corp.example\nnameserver 127.0.0.1\n nameserver\t2001:db8::53 # second\noptions x\n";
        let expected = ["127.0.0.1:53", "[2001:db8::53]:53"].map(|text| text.parse().unwrap());
        assert_eq!(servers(text).unwrap(), expected);
    }

    #[test]
    fn a_resolv_conf_that_will_not_do() {
        assert!(matches!(servers("search example\n"), Err(ResolverSetupError::NoServers)));
        assert!(matches!(servers("nameserver fe80::1%eth0\n"), Err(ResolverSetupError::ScopedServer { .. })));
        assert!(matches!(servers("nameserver dns.example\n"), Err(ResolverSetupError::BadServer { .. })));
        assert!(matches!(servers("nameserver\n"), Err(ResolverSetupError::BadServer { .. })));
        assert!(matches!(system_servers(Path::new("/nonexistent/x")), Err(ResolverSetupError::Unreadable { .. })));
    }
}
