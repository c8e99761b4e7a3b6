//! What the operator writes, typed.
//!
//! `config/danelaw.toml` holds every key with its default and its reason, and it *is* the defaults: the program embeds
//! it. The text beside each key there and the text on each field here are the same; a test holds them equal.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use bytesize::ByteSize;
use ipnet::IpNet;
use serde::{Deserialize, Deserializer};

use crate::dane::agility::Digests;
use crate::name::Name;
use crate::policy::{InsecureMx, Level};
use crate::smtp::data::BareNewlines;

/// The defaults: the commented example file itself.
pub const DEFAULTS: &str = include_str!("../config/danelaw.toml");

/// The widest network that may send mail through us. No operator owns a wider one.
const WIDEST_PREFIX: u8 = 8;

/// Everything that can be set.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Our name in the greeting, in EHLO replies and in the Received line. Empty: "danelaw." and the system's host
    /// name. It must differ from the client's own name, or Postfix takes us for itself and reports a mail loop.
    #[serde(deserialize_with = "optional")]
    pub hostname: Option<Name>,
    /// The name we give in EHLO to the remote. Empty: the name the client gave us, which is the one its address
    /// resolves to.
    #[serde(deserialize_with = "optional")]
    pub ehlo_name: Option<Name>,
    /// Whether to add our one Received line to each message (RFC 5321 §4.4). Without it a mail loop through us has no
    /// trace.
    pub received: bool,
    /// The listeners. The allow-list is required for any address but loopback: everybody on it can send mail through
    /// us.
    pub listener: Vec<Listener>,
    /// Name resolution.
    pub dns: Dns,
    /// The mail servers we deliver to.
    pub remote: Remote,
    /// What a TLS session must prove.
    pub tls: Tls,
    /// Bounds.
    pub limits: Limits,
    /// How long anything may take.
    pub timeouts: Timeouts,
    /// Logging.
    pub log: Log,
}

/// One listener.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Listener {
    /// Address and port to listen on. Keep off port 25, where Postfix looks for its own name in our greeting.
    pub address: SocketAddr,
    /// Networks or addresses that may connect; everybody else is turned away with 554.
    #[serde(default)]
    pub allow: Option<Vec<Network>>,
}

/// Name resolution.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Dns {
    /// Resolvers to ask, with or without a port; they must pass DNSSEC records on, and need not validate. Empty: those
    /// of /etc/resolv.conf.
    pub servers: Vec<Server>,
    /// A file of DNSKEY lines (master file form) to trust for the root. Empty: the built-in IANA root keys.
    #[serde(deserialize_with = "optional")]
    pub trust_anchor: Option<PathBuf>,
    /// How long to wait for one answer before asking again.
    #[serde(with = "humantime_serde")]
    pub timeout: Duration,
    /// How often one question is put to the servers before it counts as unanswered.
    pub attempts: usize,
    /// How long one question may take in all, with every signature and key it needs.
    #[serde(with = "humantime_serde")]
    pub deadline: Duration,
}

/// The mail servers we deliver to.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Remote {
    /// The port that remote mail servers are dialled on; TLSA records are asked for this port too (RFC 7672 §2.2.3).
    pub port: u16,
    /// Reserved ranges (loopback, private, link-local and the like) that may be dialled although no public mail server
    /// is there. Empty: none, so that an MX record cannot point us at your own network.
    pub allow_reserved: Vec<Network>,
    /// Names under which the server we work for is a mail exchanger itself: MX lists are cut there (RFC 5321 §5.1).
    /// Our own host name and the name the client greets with are always among them.
    pub own_names: Vec<HostName>,
    /// The most addresses of one exchange that are tried.
    pub addresses: usize,
}

/// What a TLS session must prove.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tls {
    /// What a session must prove: "dane" (DANE where it is published, unauthenticated TLS elsewhere), "dane-only" (DANE
    /// or no delivery), "encrypt" (TLS without authentication). None of them ever sends in cleartext.
    pub level: Level,
    /// TLSA records of a host that an insecure MX record names: "dane" (verify the host by them), "encrypt" (do not
    /// ask).
    pub insecure_mx: InsecureMx,
    /// The digests in TLSA records that count, strongest first: of several of one thing only the strongest does
    /// (RFC 7671 §9). "sha256" must be among them, since most domains publish nothing else.
    pub digests: Digests,
}

/// Bounds.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// Client sessions at a time; above it a client is told 421 4.3.2 at once.
    pub sessions: usize,
    /// Recipients in one transaction (RFC 5321 §4.5.3.1.8 wants at least 100); above it 452 4.5.3.
    pub recipients: usize,
    /// The largest message we pass on; announced as SIZE.
    pub message_size: ByteSize,
    /// What to do with a bare CR or LF in a message: "normalize" (LF becomes CRLF, CR a space) or "reject". Neither is
    /// ever passed on, because receivers disagree about what it ends.
    pub bare_newlines: BareNewlines,
}

/// How long anything may take.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Timeouts {
    /// How long a client may be silent between commands, and within a message (RFC 5321 §4.5.3.2.7).
    #[serde(with = "humantime_serde")]
    pub client: Duration,
    /// How long finding, dialling and verifying a host may take in all, up to the answer to the first recipient.
    /// Clients wait five minutes for it.
    #[serde(with = "humantime_serde")]
    pub route: Duration,
    /// For a TCP connection to one address.
    #[serde(with = "humantime_serde")]
    pub connect: Duration,
    /// For the greeting, each EHLO and STARTTLS.
    #[serde(with = "humantime_serde")]
    pub greeting: Duration,
    /// For the whole TLS handshake.
    #[serde(with = "humantime_serde")]
    pub handshake: Duration,
    /// For the remote's answer to MAIL or RCPT.
    #[serde(with = "humantime_serde")]
    pub command: Duration,
    /// For the remote's answer to DATA. Postfix waits two minutes for ours.
    #[serde(with = "humantime_serde")]
    pub data: Duration,
    /// For the remote to take a block of the message (RFC 5321 §4.5.3.2.5).
    #[serde(with = "humantime_serde")]
    pub block: Duration,
    /// For the remote's answer to the end of the message. Postfix and Exim wait ten minutes for ours.
    #[serde(with = "humantime_serde")]
    pub r#final: Duration,
    /// How long open transactions may go on after SIGTERM or SIGINT.
    #[serde(with = "humantime_serde")]
    pub grace: Duration,
}

/// Logging.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Log {
    /// "text" for people, "json" for machines; one event a line on standard error.
    pub format: LogFormat,
    /// How much to log: error, warn, info, debug, or a tracing filter such as "info,danelaw::upstream=debug".
    pub filter: String,
}

/// How log events are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    Text,
    /// For machines: one JSON object a line.
    Json,
}

/// A network, or a single address written without a prefix length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network(pub IpNet);

/// A resolver's address; port 53 unless another is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Server(pub SocketAddr);

/// A host name in a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostName(pub Name);

/// A setting that is well-formed by itself and wrong all the same.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{key}: {problem}")]
pub struct Unsound {
    /// The key, as in `listener.allow`.
    pub key: &'static str,
    /// What was found, and what would do.
    pub problem: String,
}

impl Config {
    /// What types alone cannot say: that this can never be an open relay, and that every bound leaves room to work.
    ///
    /// # Errors
    /// The first key found wanting.
    pub fn check(&self) -> Result<(), Unsound> {
        let unsound = |key, problem: String| Err(Unsound { key, problem });
        if self.listener.is_empty() {
            return unsound("listener", "there is none; give at least one address to listen on".into());
        }
        for listener in &self.listener {
            match &listener.allow {
                None if !listener.address.ip().is_loopback() => {
                    let problem = format!(
                        "{} is not loopback and has no allow-list; name the networks that may send mail through it",
                        listener.address
                    );
                    return unsound("listener.allow", problem);
                }
                Some(networks) if networks.iter().any(|network| network.0.prefix_len() < WIDEST_PREFIX) => {
                    let problem = format!(
                        "{} would be an open relay: a network of the list is wider than /{WIDEST_PREFIX}",
                        listener.address
                    );
                    return unsound("listener.allow", problem);
                }
                Some(networks) if networks.is_empty() => {
                    return unsound("listener.allow", "the list is empty; nobody could connect".into());
                }
                _ => {}
            }
        }
        if self.limits.recipients < 100 {
            return unsound("limits.recipients", format!("{} is below 100 (RFC 5321)", self.limits.recipients));
        }
        for (key, value) in [
            ("limits.sessions", self.limits.sessions),
            ("remote.addresses", self.remote.addresses),
            ("remote.port", usize::from(self.remote.port)),
            ("dns.attempts", self.dns.attempts),
        ] {
            if value == 0 {
                return unsound(key, "0 would stop all mail".into());
            }
        }
        if self.limits.message_size.as_u64() == 0 {
            return unsound("limits.message_size", "0 would stop all mail".into());
        }
        self.timeouts.check()?;
        if self.dns.timeout.is_zero() || self.dns.deadline < self.dns.timeout {
            return unsound("dns.deadline", "it must be at least dns.timeout, and neither may be 0".into());
        }
        Ok(())
    }
}

impl Timeouts {
    fn check(&self) -> Result<(), Unsound> {
        for (key, value) in [
            ("timeouts.client", self.client),
            ("timeouts.route", self.route),
            ("timeouts.connect", self.connect),
            ("timeouts.greeting", self.greeting),
            ("timeouts.handshake", self.handshake),
            ("timeouts.command", self.command),
            ("timeouts.data", self.data),
            ("timeouts.block", self.block),
            ("timeouts.final", self.r#final),
        ] {
            if value.is_zero() {
                return Err(Unsound { key, problem: "0 would stop all mail".into() });
            }
        }
        Ok(())
    }
}

impl Listener {
    /// Who may connect.
    pub fn allowed(&self) -> Vec<IpNet> {
        match &self.allow {
            Some(networks) => networks.iter().map(|network| network.0).collect(),
            None => vec![
                IpNet::new_assert(Ipv4Addr::new(127, 0, 0, 0).into(), 8),
                IpNet::new_assert(Ipv6Addr::LOCALHOST.into(), 128),
            ],
        }
    }
}

impl FromStr for Network {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        text.parse()
            .or_else(|_| text.parse::<IpAddr>().map(IpNet::from))
            .map(Self)
            .map_err(|_| format!("{text:?} is no address or network such as 192.0.2.0/24"))
    }
}

impl FromStr for Server {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
        bare.parse::<IpAddr>()
            .map(|ip| SocketAddr::new(ip, 53))
            .or_else(|_| text.parse())
            .map(Self)
            .map_err(|_| format!("{text:?} is no resolver address such as 9.9.9.9, 192.0.2.1:5353 or [2620:fe::fe]:53"))
    }
}

impl FromStr for HostName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Name::parse(text).map(Self).map_err(|error| format!("{text:?} is no host name: {error}"))
    }
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
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
deserialize_from_str!(Network, Server, HostName);

/// Reads a key for which the empty string means "not set".
fn optional<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
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

#[cfg(test)]
mod tests {
    use super::*;

    fn with(changes: &str) -> Result<Config, String> {
        let mut table: toml::Table = DEFAULTS.parse().unwrap();
        for (key, value) in changes.parse::<toml::Table>().unwrap() {
            match (table.get_mut(&key), value) {
                (Some(toml::Value::Table(old)), toml::Value::Table(new)) => old.extend(new),
                (_, value) => {
                    table.insert(key, value);
                }
            }
        }
        let config: Config = table.try_into().map_err(|error: toml::de::Error| error.to_string())?;
        config.check().map_err(|unsound| unsound.to_string()).map(|()| config)
    }

    #[test]
    fn the_example_file_is_the_defaults() {
        let config = with("").unwrap();
        assert_eq!(config.listener[0].address.to_string(), "127.0.0.1:10025");
        assert_eq!((config.tls.level, config.tls.insecure_mx), (Level::Dane, InsecureMx::Dane));
        assert_eq!(config.tls.digests, Digests::default());
        assert!(config.dns.servers.is_empty() && config.dns.trust_anchor.is_none() && config.hostname.is_none());
        // K7: a client that waits five minutes hears from us before.
        assert!(config.timeouts.route + Duration::from_secs(30) < Duration::from_secs(300));
        assert!(config.timeouts.r#final < Duration::from_secs(600));
    }

    #[test]
    fn the_example_file_says_what_the_fields_say() {
        // Words of the comment before each key, in both files.
        let documented = |text: &str, mark: &str, key: fn(&str) -> Option<&str>| {
            let mut found = std::collections::BTreeMap::new();
            let mut comment = Vec::new();
            for line in text.split("#[cfg(test)]").next().unwrap().lines().map(str::trim) {
                match (line.strip_prefix(mark), key(line)) {
                    (Some(words), _) => comment.extend(words.split_whitespace().map(str::to_owned)),
                    (None, Some(key)) => {
                        found
                            .entry(key.trim_start_matches("r#").to_owned())
                            .or_insert_with(Vec::new)
                            .push(comment.join(" "));
                        comment.clear();
                    }
                    (None, None) if line.starts_with("#[serde") => {}
                    (None, None) => comment.clear(),
                }
            }
            found
        };
        let fields = documented(include_str!("config.rs"), "///", |line| {
            line.strip_prefix("pub ")?.split_once(": ").map(|(key, _)| key)
        });
        let keys = documented(DEFAULTS, "#", |line| {
            let key = line.split_once(" = ").map(|(key, _)| key);
            key.or_else(|| line.strip_prefix("[[")?.strip_suffix("]]"))
        });
        for (key, comments) in keys {
            for comment in comments {
                assert!(
                    fields.get(&key).is_some_and(|texts| texts.contains(&comment)),
                    "{key}: {comment:?} is not in config.rs"
                );
            }
        }
    }

    #[test]
    fn never_an_open_relay() {
        // I26, A-95.
        for wrong in [
            "listener = [{ address = '0.0.0.0:25' }]",
            "listener = [{ address = '[::]:25' }]",
            "listener = [{ address = '192.0.2.1:25' }]",
            "listener = [{ address = '127.0.0.1:25', allow = ['0.0.0.0/0'] }]",
            "listener = [{ address = '127.0.0.1:25', allow = ['::/0'] }]",
            "listener = [{ address = '127.0.0.1:25', allow = ['0.0.0.0/1', '128.0.0.0/1'] }]",
            "listener = [{ address = '127.0.0.1:25', allow = [] }]",
            "listener = []",
        ] {
            assert!(with(wrong).unwrap_err().starts_with("listener"), "{wrong}");
        }
        let open = with("listener = [{ address = '0.0.0.0:25', allow = ['10.0.0.0/8', '192.0.2.7'] }]").unwrap();
        assert_eq!(open.listener[0].allowed().len(), 2);
        let loopback = with("listener = [{ address = '[::1]:2525' }]").unwrap();
        assert!(loopback.listener[0].allowed().iter().all(|network| network.addr().is_loopback()));
    }

    #[test]
    fn what_would_stop_all_mail_is_an_error() {
        for (wrong, key) in [
            ("limits.sessions = 0", "limits.sessions"),
            ("limits.recipients = 99", "limits.recipients"),
            ("limits.message_size = '0B'", "limits.message_size"),
            ("timeouts.final = '0s'", "timeouts.final"),
            ("dns.deadline = '1ms'", "dns.deadline"),
            ("remote.port = 0", "remote.port"),
        ] {
            assert!(with(wrong).unwrap_err().starts_with(key), "{wrong}");
        }
    }

    #[test]
    fn resolvers_with_and_without_a_port() {
        let servers =
            with("dns.servers = ['9.9.9.9', '[2620:fe::fe]:5353', '2620:fe::fe', '127.0.0.1:54']").unwrap().dns.servers;
        let servers: Vec<_> = servers.iter().map(ToString::to_string).collect();
        assert_eq!(servers, ["9.9.9.9:53", "[2620:fe::fe]:5353", "[2620:fe::fe]:53", "127.0.0.1:54"]);
        assert!(with("dns.servers = ['dns.example']").unwrap_err().contains("no resolver address"));
    }
}
