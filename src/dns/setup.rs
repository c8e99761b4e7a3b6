//! What the resolver is made from, and what to tell an operator when that will not do.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What the operator decides about DNS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Recursive resolvers that pass DNSSEC records on. They need not be trusted, nor validate themselves.
    pub servers: Vec<SocketAddr>,
    /// A file of DNSKEY records of the root, in master-file form. `None`: IANA's keys, which are built in.
    pub trust_anchor: Option<PathBuf>,
    /// How long to wait for one reply of a server.
    pub timeout: Duration,
    /// How often a question is put before the lookup fails; at least once.
    pub attempts: usize,
    /// How long one lookup may take in all, with every alias and every key on the way.
    pub deadline: Duration,
}

/// Why there is no resolver. Each says what to change.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// There is nobody to ask.
    #[error("no name server is configured: set at least one recursive resolver that passes DNSSEC records on")]
    NoServers,
    /// The trust anchor file or the list of system resolvers cannot be read.
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
    #[error("{} is no list of DNSKEY records: {why}", path.display())]
    BadAnchors {
        /// The file.
        path: PathBuf,
        /// What the parser says.
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
        /// What stands in the line.
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
        /// What stands in the line.
        server: String,
    },
    /// The DNS library cannot be started.
    #[error("the DNS library does not start: {0}")]
    Library(String),
}

/// The name servers of a `resolv.conf`, at port 53, in the order of the file. Nothing else in it is used: names are
/// always asked as they are, without a search list (RFC 5321 §5.1).
///
/// # Errors
/// The file cannot be read, names no server, or names one that cannot be used.
pub fn system_servers(path: &Path) -> Result<Vec<SocketAddr>, SetupError> {
    let text =
        std::fs::read_to_string(path).map_err(|source| SetupError::Unreadable { path: path.to_owned(), source })?;
    let servers = text
        .lines()
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            (words.next() == Some("nameserver")).then(|| words.next().unwrap_or_default())
        })
        .map(|server| system_server(path, server))
        .collect::<Result<Vec<_>, _>>()?;
    if servers.is_empty() { Err(SetupError::NoServers) } else { Ok(servers) }
}

fn system_server(path: &Path, server: &str) -> Result<SocketAddr, SetupError> {
    if server.contains('%') {
        return Err(SetupError::ScopedServer { path: path.to_owned(), server: server.to_owned() });
    }
    match server.parse::<IpAddr>() {
        Ok(address) => Ok(SocketAddr::new(address, 53)),
        Err(_) => Err(SetupError::BadServer { path: path.to_owned(), server: server.to_owned() }),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn servers(text: &str) -> Result<Vec<SocketAddr>, SetupError> {
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
        assert!(matches!(servers("search example\n"), Err(SetupError::NoServers)));
        assert!(matches!(servers("nameserver fe80::1%eth0\n"), Err(SetupError::ScopedServer { .. })));
        assert!(matches!(servers("nameserver dns.example\n"), Err(SetupError::BadServer { .. })));
        assert!(matches!(servers("nameserver\n"), Err(SetupError::BadServer { .. })));
        assert!(matches!(system_servers(Path::new("/nonexistent/x")), Err(SetupError::Unreadable { .. })));
    }
}
