//! What the operator writes, typed.
//!
//! `config/danelaw.toml` holds every key with its default and its reason, and it *is* the defaults: the program embeds
//! it. The text beside each key there and the text on each field here are the same; a test holds them equal.

mod check;
mod exceptions;
mod listen;
mod value;

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;
use std::time::Duration;

use bytesize::ByteSize;
use ipnet::IpNet;
use serde::Deserialize;
use time::Date;

use crate::dane::agility::Digests;
use crate::dns::server::ResolverMode;
use crate::name::Name;
use crate::policy::{self, InsecureMx};
use crate::rules::Domains;
use crate::smtp::data::BareNewlines;

pub use listen::{Address, Owner, Permissions};
pub use value::{HostName, Network, Record, Server};
use value::{day, optional, parsed};

/// The defaults: the commented example file itself.
pub const DEFAULTS: &str = include_str!("../config/danelaw.toml");

/// Everything that can be set.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// "enforce", or "observe": to look before you switch on. Mail that would be refused for want of STARTTLS or of a
    /// server that can be verified then goes as an ordinary server would send it, unverified or in cleartext; what
    /// enforcing would have answered is logged (field `would`) and counted.
    pub mode: policy::Mode,
    /// Our name in the greeting, in EHLO replies and in the Received line. Empty: "danelaw." and the system's host
    /// name. It must differ from the client's own name, or Postfix takes us for itself and reports a mail loop.
    #[serde(deserialize_with = "optional")]
    pub hostname: Option<Name>,
    /// The name we give in EHLO to the remote. Empty: the name the client gave us, which is the one its address resolves to;
    /// or ours, if the client's is neither a full host name, as "localhost" and a container's id are not, nor a public
    /// address.
    #[serde(deserialize_with = "optional")]
    pub ehlo_name: Option<Name>,
    /// Whether to add our one Received line to each message (RFC 5321 §4.4). Without it a mail loop through us has no
    /// trace.
    pub received: bool,
    /// The listeners; those listed replace this one. The allow-list is required for any address but loopback: everybody
    /// on it can send mail through us.
    pub listener: Vec<Listener>,
    /// Name resolution.
    pub dns: Dns,
    /// The mail servers we deliver to.
    pub remote: Remote,
    /// What a TLS session must prove.
    pub tls: Tls,
    /// Exceptions for single domains; the first that names the domain holds, and danelaw does not start with one that can
    /// never hold because of another before it. There is none by default.
    #[serde(default)]
    pub rule: Vec<Rule>,
    /// Bounds.
    pub limits: Limits,
    /// The ledger: outcomes of fan-out messages.
    pub ledger: Ledger,
    /// How long anything may take.
    pub timeouts: Timeouts,
    /// Logging.
    pub log: Log,
    /// Health, metrics and explanations.
    pub admin: Admin,
}

/// One listener.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Listener {
    /// What is spoken: "smtp"; "lmtp" (RFC 2033), in which each recipient has an answer of its own; or "intercept", SMTP
    /// with a client that had dialled somewhere else and does not know of us (config/nftables has the rules).
    #[serde(default)]
    pub kind: Kind,
    /// Address and port to listen on, or a Unix socket as in "unix:/run/danelaw/lmtp.sock". Keep off port 25, where
    /// Postfix looks for its own name in our greeting; RFC 2033 forbids it to LMTP.
    pub address: Address,
    /// Networks or addresses that may connect; everybody else is turned away with 554. Not for a Unix socket.
    #[serde(default)]
    pub allow: Option<Vec<Network>>,
    /// Which recipients one plain SMTP transaction may have: "split" (those of one domain; others are told 452 and come in
    /// the next transaction) or "fan-out" (those of any domains, for clients with one fate for a message; outcomes are kept
    /// while a recipient is deferred, so ledger.path must be set). LMTP answers each recipient anyway.
    #[serde(default)]
    pub recipients: Recipients,
    /// For a Unix socket: who may connect, as permissions in octal. "0660" if it is not set.
    #[serde(default)]
    pub mode: Option<Permissions>,
    /// For a Unix socket: its owner, as "user" or "user:group". Our own user if it is not set. danelaw may give
    /// it to a group that its user is in; under systemd, let danelaw.socket open it or use config/systemd/unix-socket.conf.
    #[serde(default)]
    pub owner: Option<Owner>,
}

/// Which recipients a transaction with one reply may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Recipients {
    /// Those of one domain; a no is told at RCPT.
    #[default]
    Split,
    /// Those of any domain; a no is told when all have an outcome.
    FanOut,
}

/// What a listener speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// SMTP (RFC 5321).
    #[default]
    Smtp,
    /// LMTP (RFC 2033).
    Lmtp,
    /// SMTP, with clients whose connection was sent here on its way to somebody else.
    Intercept,
}

/// Name resolution.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Dns {
    /// On whose word an answer is secure: "validate" (that of signatures, checked here, whoever the resolver is) or
    /// "trust-ad" (that of a validating resolver on loopback or over TLS, by the AD bit of its replies).
    pub mode: ResolverMode,
    /// Resolvers to ask: an address with or without a port, or DNS over TLS as in "tls://9.9.9.9#dns.quad9.net" with the
    /// name in the certificate. They must pass DNSSEC records on; in mode "trust-ad" they must validate. Empty: those of
    /// /etc/resolv.conf, which is followed when it changes.
    pub servers: Vec<Server>,
    /// Whether mode "trust-ad" may believe resolvers that are neither on loopback nor spoken to over TLS. Whoever is on
    /// the way to them can then switch DANE off.
    pub trust_ad_unsafe_remote: bool,
    /// A file of DNSKEY lines (master file form) to trust for the root. Empty: the built-in IANA root keys.
    #[serde(deserialize_with = "optional")]
    pub trust_anchor: Option<PathBuf>,
    /// A file of CA certificates (PEM) that may vouch for resolvers of DNS over TLS. Empty: the built-in public CAs.
    #[serde(deserialize_with = "optional")]
    pub tls_ca: Option<PathBuf>,
    /// How long to wait for one answer before asking again.
    #[serde(with = "humantime_serde")]
    pub timeout: Duration,
    /// How often one question is put to the servers before it counts as unanswered.
    pub attempts: usize,
    /// How long one question may take in all, with every signature and key it needs.
    #[serde(with = "humantime_serde")]
    pub deadline: Duration,
    /// How often each resolver must show that DNSSEC comes through it. One that fails is not asked while others pass.
    #[serde(with = "humantime_serde")]
    pub self_test: Duration,
    /// How many finished lookups are remembered at most; 0 remembers none. One host takes three: A, AAAA and TLSA.
    pub cache_entries: usize,
    /// How much memory they may take.
    pub cache_size: ByteSize,
    /// How long an answer is remembered at most; never longer than its TTL and its signatures allow (RFC 6698 §8.2).
    #[serde(with = "humantime_serde")]
    pub cache_max_ttl: Duration,
    /// How long a failed lookup is remembered, so that a broken zone is not asked for again and again (RFC 9520 §3.2); at
    /// most 30 seconds, after which a zone that was mended is seen.
    #[serde(with = "humantime_serde")]
    pub cache_failures: Duration,
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
    /// Addresses or networks at which the server we work for is reached from outside, such as that of a NAT in front of
    /// it: MX lists are cut there too. Those of this host's own interfaces are always among them.
    pub own_addresses: Vec<Network>,
    /// The most exchanges of one domain that are tried for one mail.
    pub exchanges: usize,
    /// The most addresses of one exchange that are tried, IPv6 and IPv4 in turns.
    pub addresses: usize,
    /// How long an address may take to accept a connection before the next one of the exchange is dialled beside it; the
    /// first that accepts is used (RFC 8305 §5).
    #[serde(with = "humantime_serde")]
    pub head_start: Duration,
    /// How long an address that failed before any mail was spoken of is remembered: it is tried after the others. One that
    /// let us wait in vain is not tried again in that time, so that a storm of retries does not wait for it mail by mail.
    /// 0 remembers nothing.
    #[serde(with = "humantime_serde")]
    pub failed_hosts_for: Duration,
    /// Connections to one address at a time, those that say goodbye included. A mail that finds no room waits for ten
    /// seconds and then goes on to the next address; without one it is deferred with 451 4.4.5.
    pub connections_per_host: usize,
    /// Transactions for one domain at a time, so that a domain whose hosts only wait cannot take all there are. A mail
    /// that finds no room waits for ten seconds and is deferred with 451 4.4.5.
    pub connections_per_domain: usize,
    /// Connections to remotes at a time, in all.
    pub connections: usize,
    /// Verified connections that wait for the next mail, in all; 0 ends each after its mail. Mail goes over one only where
    /// exchange, address and all that must be proven are the very same, as the DNS says at that moment.
    pub idle_connections: usize,
    /// Of those, the most with one address.
    pub idle_connections_per_host: usize,
    /// How long one waits. Most mail servers hang up after five minutes.
    #[serde(with = "humantime_serde")]
    pub idle_for: Duration,
    /// How long after it was verified one may start another transaction.
    #[serde(with = "humantime_serde")]
    pub connection_age: Duration,
    /// Mails over one connection, if the remote does not ask for fewer (LIMITS MAILMAX, RFC 9422). Exim takes no more than
    /// 1000.
    pub mails_per_connection: u64,
    /// The IPv4 address to connect from. Empty: the system's choice.
    #[serde(deserialize_with = "optional")]
    pub source_ipv4: Option<Ipv4Addr>,
    /// The IPv6 address to connect from. Empty: the system's choice.
    #[serde(deserialize_with = "optional")]
    pub source_ipv6: Option<Ipv6Addr>,
}

/// What a TLS session must prove.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tls {
    /// What a session must prove: "dane" (DANE where it is published, unauthenticated TLS elsewhere), "dane-only" (DANE
    /// or no delivery), "encrypt" (TLS without authentication). None of them ever sends in cleartext, unless the
    /// mode is "observe".
    pub level: DefaultLevel,
    /// TLSA records of a host that an insecure MX record names: "dane" (verify the host by them), "encrypt" (do not
    /// ask).
    pub insecure_mx: InsecureMx,
    /// Whether to offer post-quantum key exchange (X25519MLKEM768). Hosts that do not know it are not hindered by it.
    pub post_quantum: bool,
    /// The digests in TLSA records that count, strongest first: of several of one thing only the strongest does
    /// (RFC 7671 §9). "sha256" must be among them, since most domains publish nothing else.
    pub digests: Digests,
}

/// The levels that may hold for every domain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DefaultLevel {
    /// DANE where it is published, unauthenticated TLS elsewhere.
    Dane,
    /// DANE or no delivery.
    DaneOnly,
    /// TLS without authentication.
    Encrypt,
}

/// An exception for some domains.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// The domain, as in "example.com"; ".example.com" is every domain below it.
    #[serde(deserialize_with = "parsed")]
    pub domain: Domains,
    /// "dane", "dane-only", "encrypt", "fingerprint" (the host must match `records`, whatever the DNS says), or "may"
    /// (TLS where it is offered, cleartext where it is not).
    pub level: RuleLevel,
    /// For "fingerprint": TLSA records, as in "3 1 1 0123..".
    #[serde(default)]
    pub records: Vec<Record>,
    /// The host that takes the domain's mail, whatever MX records say. Empty: the MX records say it.
    #[serde(default, deserialize_with = "optional")]
    pub next_hop: Option<Name>,
    /// Why. Required for a level below tls.level; logged at each use.
    #[serde(default)]
    pub reason: Option<String>,
    /// The last day, as in "2027-01-31" (UTC). Required for a level below tls.level. A rule that has ended is left out, with
    /// an error in the log: its domain goes by the next rule that names it, or at tls.level. `danelaw config check` fails.
    #[serde(default, deserialize_with = "day")]
    pub until: Option<Date>,
}

/// The levels that may hold for one domain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RuleLevel {
    /// TLS where it is offered, cleartext where it is not.
    May,
    /// TLS without authentication.
    Encrypt,
    /// DANE where it is published, unauthenticated TLS elsewhere.
    Dane,
    /// DANE or no delivery.
    DaneOnly,
    /// The host must match the rule's own records.
    Fingerprint,
}

/// Bounds.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// Client sessions at a time; above it a client is told 421 4.3.2 at once. Each takes two open files, one of them for
    /// the remote; danelaw raises its own limit as far as the system lets it, and says so where that is too little.
    pub sessions: usize,
    /// Recipients in one transaction (RFC 5321 §4.5.3.1.8 wants at least 100); above it 452 4.5.3.
    pub recipients: usize,
    /// The largest message we pass on; announced as SIZE. RFC 5321 §4.5.3.1.7 wants 64KiB at least.
    pub message_size: ByteSize,
    /// A bare CR or LF in a message: "normalize" it (LF becomes CRLF, CR a space) or "reject" the message. Neither is ever
    /// passed on, because receivers disagree on whether it ends a line. A NUL, which no message may have, is rejected by
    /// "reject" too; "normalize" makes a space of one that starts a line, and passes any other on.
    pub bare_newlines: BareNewlines,
}

/// The ledger: outcomes of fan-out messages.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ledger {
    /// Where to keep the outcomes of fan-out messages that the client has to send again: a file, which must be on a local
    /// disk. It holds digests of addresses and messages, and remotes' replies as they were. Without fan-out it is not
    /// needed.
    #[serde(deserialize_with = "optional")]
    pub path: Option<PathBuf>,
    /// How many outcomes are kept at most, one for each recipient; 100,000 take about 60 MB. The oldest make room for new
    /// ones, and their messages may arrive twice.
    pub entries: usize,
    /// How long the outcomes of a message are kept after the client's last attempt: a day beyond the client's longest
    /// pause between two attempts. A shorter time means second copies; nullmailer pauses for a day at most.
    #[serde(with = "humantime_serde")]
    pub expiry: Duration,
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
    /// For the remote to take a block of the message, while the client still sends it (RFC 5321 §4.5.3.2.5).
    #[serde(with = "humantime_serde")]
    pub block: Duration,
    /// For all that is left once the client has sent the end of its message, the remote's answer to it included. Postfix and
    /// Exim wait ten minutes for ours.
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

/// Health, metrics and explanations.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Admin {
    /// Where /livez, /readyz, /metrics and `danelaw explain` are served over HTTP: an address and port such as
    /// "127.0.0.1:7671", or a unix socket such as "unix:/run/danelaw/admin.sock", which its owner and group may use.
    /// Empty: nowhere, so that danelaws run on their defaults beside each other, and nobody on the machine reads whose
    /// mail was refused before you open this.
    #[serde(deserialize_with = "optional")]
    pub address: Option<Address>,
    /// Networks or addresses that may connect beside loopback, required for any address but loopback. Kubernetes asks for
    /// health from the node's address.
    pub allow: Vec<Network>,
    /// How many attempts that did not end in a delivery are remembered for `danelaw explain`; each takes up to 20 KB.
    pub remember: usize,
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

/// Settings that are well-formed by themselves and wrong all the same: all that were found.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.iter().map(Fault::to_string).collect::<Vec<_>>().join("\n"))]
pub struct Unsound(pub Vec<Fault>);

/// One of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The key, as in `listener.allow`.
    pub key: &'static str,
    /// The place in the list, for a key of a listener or a rule.
    pub entry: Option<usize>,
    /// What was found, and what would do.
    pub problem: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.key, self.problem)
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
        assert_eq!((config.tls.level, config.tls.insecure_mx), (DefaultLevel::Dane, InsecureMx::Dane));
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
            "listener = [{ address = '127.0.0.1:25', allow = ['2000::/3'] }]",
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
    fn listeners_as_they_may_be_written() {
        let listener =
            |text: &str| with(&format!("listener = [{{ {text} }}]")).map(|config| config.listener[0].clone());
        assert_eq!(listener("address = '127.0.0.1:25'").unwrap().kind, Kind::Smtp);
        let lmtp =
            listener("address = 'unix:/run/danelaw/lmtp.sock', kind = 'lmtp', mode = '0600', owner = 'a:b'").unwrap();
        assert_eq!((lmtp.kind, lmtp.address.to_string().as_str()), (Kind::Lmtp, "unix:/run/danelaw/lmtp.sock"));
        assert_eq!(lmtp.mode.unwrap().bits(), 0o600);
        assert_eq!(lmtp.owner.unwrap(), Owner { user: "a".into(), group: Some("b".into()) });
        for (wrong, says) in [
            // J7.
            ("address = '127.0.0.1:25', kind = 'lmtp'", "listener.address: 127.0.0.1:25: RFC 2033"),
            ("address = '127.0.0.1:24', mode = '0660'", "listener.mode"),
            ("address = '127.0.0.1:24', owner = 'a'", "listener.owner"),
            ("address = 'unix:/a', allow = ['127.0.0.1']", "listener.allow"),
            ("address = 'unix:a'", "is no address"),
            ("address = 'unix:/a', mode = '0888'", "octal"),
            ("address = 'unix:/a', mode = '7777'", "octal"),
            ("address = 'unix:/a', owner = ':b'", "user:group"),
            ("address = '127.0.0.1:24', kind = 'qmtp'", "unknown variant"),
        ] {
            let error = listener(wrong).unwrap_err();
            assert!(error.contains(says), "{wrong}: {error}");
        }
    }

    #[test]
    fn the_admin_port_is_for_those_who_are_named() {
        let admin = |rest: &str| with(&format!("admin = {{ {rest} }}")).map(|config| config.admin);
        assert_eq!(with("").unwrap().admin.address, None);
        for wrong in [
            "address = '0.0.0.0:7671'",
            "address = '192.0.2.1:7671'",
            "address = '[::]:7671', allow = ['::/0']",
            "address = '0.0.0.0:7671', allow = ['0.0.0.0/0']",
        ] {
            assert!(admin(wrong).unwrap_err().starts_with("admin.allow"), "{wrong}");
        }
        for wrong in ["7671", "localhost:7671", "unix:admin.sock"] {
            assert!(admin(&format!("address = '{wrong}'")).is_err(), "{wrong}");
        }
        let loopback = admin("address = '127.0.0.1:7671'").unwrap();
        assert!(loopback.allows("127.0.0.2".parse().unwrap()) && loopback.allows("::ffff:127.0.0.1".parse().unwrap()));
        assert!(!loopback.allows("192.0.2.1".parse().unwrap()));
        let open = admin("address = '[::]:7671', allow = ['192.0.2.0/24']").unwrap();
        assert!(open.allows("::ffff:192.0.2.7".parse().unwrap()) && !open.allows("198.51.100.1".parse().unwrap()));
        assert_eq!(admin("address = 'unix:/run/x/y'").unwrap().address.unwrap().to_string(), "unix:/run/x/y");
    }

    #[test]
    fn rules_say_why_and_until_when() {
        let rule = |rest: &str| with(&format!("rule = [{{ domain = 'example.com', {rest} }}]")).map(drop);
        let ends = "reason = 'x', until = '2026-06-01'";
        let record = format!("records = ['3 1 1 {}']", "07".repeat(32));
        for right in [
            format!("level = 'may', {ends}"),
            format!("level = 'encrypt', {ends}"),
            "level = 'dane'".into(),
            "level = 'dane-only'".into(),
            format!("level = 'fingerprint', {record}"),
        ] {
            assert_eq!(rule(&right), Ok(()), "{right}");
        }
        for (wrong, key) in [
            ("level = 'may'".to_owned(), "rule.reason: the rule for example.com"),
            ("level = 'may', reason = 'x'".into(), "rule.until"),
            ("level = 'may', until = '2026-06-01'".into(), "rule.reason"),
            ("level = 'may', reason = ' ', until = '2026-06-01'".into(), "rule.reason"),
            ("level = 'encrypt'".into(), "rule.reason"),
            ("level = 'fingerprint'".into(), "rule.records"),
            (format!("level = 'dane', {record}"), "rule.records"),
        ] {
            let error = rule(&wrong).unwrap_err();
            assert!(error.starts_with(key), "{wrong}: {error}");
        }
        for (wrong, says) in [
            ("level = 'dane', until = 'soon'", "is no day"),
            ("level = 'dane', until = 20270131", "a day in quotes"),
            ("level = 'fingerprint', records = ['3 1 1 07']", "is no TLSA record"),
            ("level = 'none'", "unknown variant"),
        ] {
            assert!(rule(wrong).unwrap_err().contains(says), "{wrong}");
        }
        // A default that is stricter makes a rule for `dane` one that asks for less.
        let stricter = "tls.level = 'dane-only'\nrule = [{ domain = 'example.com', level = 'dane' }]";
        assert!(with(stricter).unwrap_err().starts_with("rule.reason"));
    }

    #[test]
    fn a_rule_that_has_ended_is_told_and_stops_nothing() {
        let rules = "rule = [{ domain = 'a.test', level = 'may', reason = 'x', until = '2025-12-31' }, \
                     { domain = 'b.test', level = 'may', reason = 'x', until = '2026-01-01' }, \
                     { domain = 'c.test', level = 'dane-only', until = '2025-12-31' }, \
                     { domain = 'd.test', level = 'dane-only' }]";
        let config = with(rules).unwrap();
        let day = |ordinal| Date::from_ordinal_date(2026, ordinal).unwrap();
        let told = config.ended(day(1));
        assert_eq!(told.iter().map(|fault| fault.entry).collect::<Vec<_>>(), [Some(0), Some(2)]);
        assert_eq!(
            told[0].to_string(),
            "rule.until: the rule for a.test has ended on 2025-12-31; remove it, or give it a later day and a reason that \
             still holds"
        );
        assert_eq!(config.ended(day(2)).len(), 3);
        // Cleartext ends with the rule: the default level holds again.
        let (rules, name) = (config.rules().unwrap(), |text| Name::parse(text).unwrap());
        for (domain, today, level) in [("b.test", 1, "may"), ("b.test", 2, "dane"), ("a.test", 1, "dane")] {
            assert_eq!(rules.level(&name(domain), day(today)).0.to_string(), level, "{domain} on day {today}");
        }
    }

    #[test]
    fn no_rule_keeps_another_from_ever_holding() {
        for (rules, hidden) in [
            (&["example.com", "other.example"][..], None),
            (&["example.com", ".example.com"], None),
            (&["example.com", "EXAMPLE.com"], Some("remove one of them")),
            (&[".example.com", "a.example.com"], Some("put this one first")),
            (&["a.example.com", ".example.com"], None),
            // What ends leaves room for what comes after it.
            (&["example.com 2026-06-01", "example.com"], None),
            (&["example.com 2026-06-01", "example.com 2026-06-02"], None),
            (&["example.com 2026-06-01", "example.com 2026-06-01"], Some("remove one of them")),
            (&["example.com", "example.com 2026-06-01"], Some("remove one of them")),
        ] {
            let table = |rule: &&str| match rule.split_once(' ') {
                Some((domain, until)) => format!("{{ domain = '{domain}', level = 'dane', until = '{until}' }}"),
                None => format!("{{ domain = '{rule}', level = 'dane' }}"),
            };
            let written = rules.iter().map(table).collect::<Vec<_>>().join(", ");
            match (with(&format!("rule = [{written}]")), hidden) {
                (Ok(_), None) => {}
                (Err(error), Some(hidden)) => {
                    assert!(error.starts_with("rule.domain: ") && error.contains(hidden), "{error}");
                }
                (found, _) => panic!("{rules:?}: {:?}", found.map(drop)),
            }
        }
    }

    #[test]
    fn no_two_listeners_at_one_address() {
        for (first, second, fits) in [
            ("127.0.0.1:10025", "127.0.0.1:10025", false),
            ("127.0.0.1:10025", "127.0.0.1:10026", true),
            ("127.0.0.1:10025", "127.0.0.2:10025", true),
            ("127.0.0.1:10025", "[::1]:10025", true),
            ("0.0.0.0:10025", "127.0.0.1:10025", false),
            ("[::1]:10025", "[::]:10025", false),
            ("127.0.0.1:0", "127.0.0.1:0", true),
            ("unix:/run/a", "unix:/run/a", false),
            ("unix:/run/a", "unix:/run/b", true),
        ] {
            let listener = |address: &str| match address.starts_with("unix:") {
                true => format!("{{ address = '{address}' }}"),
                false => format!("{{ address = '{address}', allow = ['10.0.0.0/8'] }}"),
            };
            let both = with(&format!("listener = [{}, {}]", listener(first), listener(second)));
            let admin = with(&format!(
                "listener = [{}]\nadmin = {{ address = '{second}', allow = ['10.0.0.0/8'] }}",
                listener(first)
            ));
            for (config, key) in [(both, "listener.address"), (admin, "admin.address")] {
                match config {
                    Ok(_) => assert!(fits, "{first} and {second}"),
                    Err(error) => assert!(!fits && error.starts_with(key), "{first} and {second}: {error}"),
                }
            }
        }
    }

    #[test]
    fn all_faults_are_told_at_once() {
        let error = with(
            "listener = [{ address = '192.0.2.1:25' }, { address = 'unix:/x', allow = ['::1'] }]\n\
             rule = [{ domain = 'a.example', level = 'may' }, { domain = 'b.example', level = 'fingerprint' }]\n\
             remote.exchanges = 0\nremote.addresses = 0\ntimeouts.data = '0s'\ntimeouts.block = '0s'\n\
             dns.attempts = 0\ndns.self_test = '1s'\nledger.path = 'x'\nledger.expiry = '1h'",
        );
        let error = error.unwrap_err();
        let keys: Vec<_> = error.lines().map(|line| line.split(':').next().unwrap()).collect();
        assert_eq!(
            keys,
            [
                "rule.reason",
                "rule.records",
                "listener.allow",
                "listener.allow",
                "remote.exchanges",
                "remote.addresses",
                "ledger.path",
                "ledger.expiry",
                "timeouts.data",
                "timeouts.block",
                "dns.attempts",
                "dns.self_test"
            ]
        );
    }

    #[test]
    fn what_would_stop_all_mail_is_an_error() {
        for (wrong, key) in [
            ("limits.sessions = 0", "limits.sessions"),
            ("limits.recipients = 99", "limits.recipients"),
            ("limits.message_size = '0B'", "limits.message_size"),
            ("limits.message_size = 999", "limits.message_size"),
            ("limits.message_size = '1025GiB'", "limits.message_size"),
            ("timeouts.grace = '25h'", "timeouts.grace: 1day 1h is longer than a day"),
            ("timeouts.final = '0s'", "timeouts.final"),
            ("timeouts.route = '400000000000y'", "timeouts.route"),
            ("timeouts.grace = '2d'", "timeouts.grace"),
            ("dns.deadline = '2d'", "dns.deadline"),
            ("dns.deadline = '1ms'", "dns.deadline"),
            ("dns.timeout = '0s'", "dns.timeout"),
            ("remote.port = 0", "remote.port"),
        ] {
            assert!(with(wrong).unwrap_err().starts_with(key), "{wrong}");
        }
    }

    #[test]
    fn a_memory_that_would_not_help_is_an_error() {
        let default = with("").unwrap().ledger;
        assert_eq!((default.path, default.entries, default.expiry.as_secs()), (None, 100_000, 2 * 86_400));
        let set = with("ledger.path = '/var/lib/danelaw/ledger.sqlite'\nledger.expiry = '90d'").unwrap().ledger;
        assert_eq!(set.path.as_deref(), Some(std::path::Path::new("/var/lib/danelaw/ledger.sqlite")));
        for (wrong, key) in [
            // A whole transaction has to find room.
            (
                "listener = [{ address = '127.0.0.1:0', recipients = 'fan-out' }]",
                "listener.recipients: 127.0.0.1:0: \"fan-out\" keeps outcomes over a restart",
            ),
            (
                "ledger.path = '/x'\nlistener = [{ kind = 'lmtp', address = '127.0.0.1:0', recipients = 'fan-out' }]",
                "listener.recipients: 127.0.0.1:0: LMTP answers each",
            ),
            (
                "ledger.entries = 999\nledger.path = '/x'\n\
                 listener = [{ address = '127.0.0.1:0', recipients = 'fan-out' }]",
                "ledger.entries: 999 is below limits.recipients",
            ),
            ("ledger.expiry = '23h'", "ledger.expiry: it must be between 1d and 90d"),
            ("ledger.expiry = '91d'", "ledger.expiry: it must be"),
            ("ledger.path = 'ledger.sqlite'", "ledger.path: ledger.sqlite is no absolute path"),
        ] {
            let error = with(wrong).unwrap_err();
            assert!(error.starts_with(key), "{wrong}: {error}");
        }
    }

    #[test]
    fn resolvers_as_they_may_be_written() {
        let servers = "['9.9.9.9', '[2620:fe::fe]:5353', 'tls://9.9.9.9#dns.quad9.net']";
        let servers = with(&format!("dns.servers = {servers}")).unwrap().dns.servers;
        let servers: Vec<_> = servers.iter().map(|server| server.0.to_string()).collect();
        assert_eq!(servers, ["9.9.9.9:53", "[2620:fe::fe]:5353", "tls://9.9.9.9:853#dns.quad9.net"]);
        assert!(with("dns.servers = ['dns.example']").unwrap_err().contains("no name server such as"));
    }

    #[test]
    fn a3_an_ad_bit_is_believed_from_where_nobody_can_change_it() {
        for (servers, more, sound) in [
            ("['127.0.0.1', '[::1]:5353']", "", true),
            ("[]", "", true),
            ("['tls://9.9.9.9#dns.quad9.net']", "", true),
            ("['127.0.0.1', '192.0.2.1']", "", false),
            ("['192.0.2.1']", "dns.trust_ad_unsafe_remote = true", true),
        ] {
            let config = with(&format!("dns.mode = 'trust-ad'\ndns.servers = {servers}\n{more}"));
            assert_eq!(config.is_ok(), sound, "{servers} {more}");
            if let Err(why) = config {
                assert!(why.starts_with("dns.servers") && why.contains("192.0.2.1:53") && why.contains("127.0.0.1"));
            }
        }
        assert!(with("dns.mode = 'trust'").unwrap_err().contains("trust-ad"));
        assert!(with("dns.servers = ['192.0.2.1']").is_ok());
    }

    #[test]
    fn a19_failures_are_not_remembered_for_long() {
        assert!(with("dns.cache_failures = '30s'").is_ok());
        assert!(with("dns.cache_failures = '31s'").unwrap_err().contains("31s is above the 30s"));
        assert!(with("dns.self_test = '9s'").unwrap_err().contains("9s is below the 10s"));
    }
}
