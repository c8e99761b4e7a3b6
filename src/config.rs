//! The operator's settings, typed.
//!
//! `config/danelaw.toml` holds every key with its default and its reason, and it *is* the defaults: the program embeds
//! it. The text beside each key there and the text on each field here are the same; a test holds them equal. Each section
//! has a file of its own with its keys and their bounds.

mod address;
mod admin;
mod check;
mod database_url;
mod dns;
mod files;
mod limits;
mod listener;
mod log;
mod mta_sts;
mod negative_trust_anchor;
mod remote;
mod rule;
mod store;
mod timeouts;
mod tls;
mod tlsrpt;
mod value;
mod watch;
mod word;

use std::fmt;

use serde::Deserialize;

use crate::name::Name;
use crate::policy;

pub use address::{Address, Owner, Permissions};
pub use admin::AdminSection;
pub use database_url::{DatabaseHost, DatabaseTls, DatabaseUrl};
pub use dns::DnsSection;
pub use files::NamedFile;
pub use limits::LimitsSection;
pub use listener::{ClientKey, Kind, Listener, ListenerTls, Recipients};
pub use log::{LogFormat, LogSection};
pub use mta_sts::MtaStsSection;
pub use negative_trust_anchor::NegativeTrustAnchorEntry;
pub use remote::RemoteSection;
pub use rule::{IgnoredSts, RuleEntry, RuleLevel};
pub use store::StoreSection;
pub use timeouts::TimeoutsSection;
pub use tls::{DefaultLevel, TlsSection};
pub use tlsrpt::{Contact, ReportExtent, TlsrptMode, TlsrptSection};
pub use value::{HostName, MxValue, Network, Server, TlsaText};
use value::{day, last_day, optional, parsed};
pub use watch::WatchSection;

/// The defaults: the commented example file.
pub const DEFAULTS: &str = include_str!("../config/danelaw.toml");

/// Everything that can be set.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// "enforce", or "observe" for a trial before you enforce. In observe mode, mail that "enforce" would refuse because
    /// STARTTLS or a server that can be verified is missing goes as an ordinary server would send it, unverified or in
    /// cleartext. The reply that "enforce" would have given is logged (field `would`) and counted.
    #[serde(with = "word::ModeWord")]
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
    /// The listeners. Listed ones, in any of the files, replace this one: list 127.0.0.1:10025 as well if mail comes by it.
    /// The allow-list is required for any address but loopback: every client on it can send mail through us.
    pub listener: Vec<Listener>,
    /// Name resolution.
    pub dns: DnsSection,
    /// The mail servers we deliver to.
    pub remote: RemoteSection,
    /// The proof that a TLS session must give.
    pub tls: TlsSection,
    /// Policies of MTA-STS (RFC 8461), for domains without DANE. They are fetched over HTTPS, from port 443 of `mta-sts.` and the
    /// domain.
    pub mta_sts: MtaStsSection,
    /// Rules for single domains; the first that names the domain holds, and danelaw does not start with one that can
    /// never hold because of another before it. There is none by default.
    #[serde(default)]
    pub rule: Vec<RuleEntry>,
    /// Negative trust anchors (RFC 7646): zones below which nothing is validated, because their signatures are broken or because
    /// they are zones of your own network that no parent signs. Answers there are insecure: mail goes at the level for insecure
    /// domains, never verified by DANE, and whoever can change these answers can redirect the mail. There is none by default.
    #[serde(default)]
    pub negative_trust_anchor: Vec<NegativeTrustAnchorEntry>,
    /// Bounds.
    pub limits: LimitsSection,
    /// The store: outcomes of fan-out messages, policies of MTA-STS, and TLS reports.
    pub store: StoreSection,
    /// TLS reports (RFC 8460).
    pub tlsrpt: TlsrptSection,
    /// The watch.
    pub watch: WatchSection,
    /// How long anything may take.
    pub timeouts: TimeoutsSection,
    /// Logging.
    pub log: LogSection,
    /// Health, metrics and explanations.
    pub admin: AdminSection,
}

/// Settings that are well-formed by themselves and wrong all the same: all of them.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.iter().map(Fault::to_string).collect::<Vec<_>>().join("\n"))]
pub struct Unsound(pub Vec<Fault>);

/// One of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The key, as in `listener.allow`.
    pub key: &'static str,
    /// The place in the list, for a key of a listener, a rule or a negative trust anchor.
    pub entry: Option<usize>,
    /// The fault, and the remedy.
    pub problem: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.key, self.problem)
    }
}

/// A key of one entry of a list, as a text about it begins: `listener.key: listener 3`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EntryKey<'a> {
    /// The key, as in `listener.key`.
    pub key: &'a str,
    /// The place of the entry in the list. The text counts from 1, as the operator does.
    pub entry: usize,
}

impl fmt::Display for EntryKey<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = self.key.split('.').next().unwrap_or_default();
        write!(f, "{}: {list} {}", self.key, self.entry + 1)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::time::Duration;

    use super::*;
    use crate::dane::agility::Digests;
    use crate::policy::InsecureMx;

    /// The defaults with these changes, or all faults.
    pub(crate) fn with(changes: &str) -> Result<Config, String> {
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
    fn the_key_of_an_entry_is_told_as_the_operator_counts() {
        for (key, entry, told) in [
            ("listener.key", 2, "listener.key: listener 3"),
            ("rule.until", 0, "rule.until: rule 1"),
            ("listener", 0, "listener: listener 1"),
        ] {
            assert_eq!(EntryKey { key, entry }.to_string(), told);
        }
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
        let documented = |text: &'static str, mark: &str, key: fn(&'static str) -> Option<&'static str>| {
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
        let field = |line: &'static str| line.strip_prefix("pub ")?.split_once(": ").map(|(key, _)| key);
        let sections = [
            include_str!("config.rs"),
            include_str!("config/admin.rs"),
            include_str!("config/dns.rs"),
            include_str!("config/limits.rs"),
            include_str!("config/listener.rs"),
            include_str!("config/log.rs"),
            include_str!("config/mta_sts.rs"),
            include_str!("config/negative_trust_anchor.rs"),
            include_str!("config/remote.rs"),
            include_str!("config/rule.rs"),
            include_str!("config/store.rs"),
            include_str!("config/timeouts.rs"),
            include_str!("config/tls.rs"),
            include_str!("config/tlsrpt.rs"),
            include_str!("config/watch.rs"),
        ];
        let mut fields = std::collections::BTreeMap::<String, Vec<String>>::new();
        for (key, texts) in sections.into_iter().flat_map(|section| documented(section, "///", field)) {
            fields.entry(key).or_default().extend(texts);
        }
        let keys = documented(DEFAULTS, "#", |line| {
            let key = line.split_once(" = ").map(|(key, _)| key);
            key.or_else(|| line.strip_prefix("[[")?.strip_suffix("]]"))
        });
        for (key, comments) in keys {
            for comment in comments {
                assert!(
                    fields.get(&key).is_some_and(|texts| texts.contains(&comment)),
                    "{key}: {comment:?} is not in src/config"
                );
            }
        }
    }
}
