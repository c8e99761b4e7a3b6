//! The store: outcomes of fan-out messages, policies of MTA-STS, TLS reports, and counts of mail.

use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer};

use super::check::Faults;
use super::database_url::DatabaseUrl;
use super::optional;

/// How long outcomes may be remembered: longer than clients pause, and not for ever.
const EXPIRY: RangeInclusive<Duration> = Duration::from_secs(24 * 60 * 60)..=Duration::from_secs(90 * 24 * 60 * 60);

/// How long a call to the database may take: less than a client waits for RCPT.
const PATIENCE: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(30);
/// The most months of counts: ten years.
const MOST_MONTHS: u32 = 120;
/// Connections to the database.
const CONNECTIONS: RangeInclusive<usize> = 1..=1000;

/// The store: outcomes of fan-out messages, policies of MTA-STS, and TLS reports.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StoreSection {
    /// Where to keep the outcomes of fan-out messages that the client has to send again, the policies of MTA-STS, and the counts
    /// of TLS reports: a file, which must be on a local disk. It holds digests of addresses and messages, remotes' replies as they
    /// were, and the names of domains that mail went to; for TLS reports also the names and addresses of their mail servers, and
    /// the addresses that take reports. Fan-out and tlsrpt.mode = "send" need it or `url`. Without both each start trusts the first
    /// contact with a domain again.
    #[serde(deserialize_with = "optional")]
    pub path: Option<PathBuf>,
    /// In the place of `path`: a PostgreSQL database that several danelaws share, so that a client may send a fan-out message again
    /// to any of them, each of them knows the policies of MTA-STS, and a domain gets one TLS report of all. No disk is needed then.
    /// As in "postgresql://danelaw@db.example.net/danelaw", which has TLS with a verified
    /// certificate unless the host is this machine or "?sslmode=disable" follows; or, by a Unix socket,
    /// "postgresql://danelaw@/danelaw?host=/run/postgresql". The database is trusted as the file is.
    #[serde(deserialize_with = "database_url")]
    pub url: Option<DatabaseUrl>,
    /// A file with the password for `url`. It is read for each connection, so that it may change. Empty: there is none.
    #[serde(deserialize_with = "optional")]
    pub password_file: Option<PathBuf>,
    /// A file of CA certificates (PEM) that may vouch for the server of `url`, beside the built-in public ones.
    #[serde(deserialize_with = "optional")]
    pub ca: Option<PathBuf>,
    /// A file with 32 random octets or more, the same for all danelaws: addresses and messages are digested with it, so that a
    /// reader of the database cannot test a guess. Another file means a store without outcomes. Empty: plain digests.
    #[serde(deserialize_with = "optional")]
    pub pepper_file: Option<PathBuf>,
    /// The most connections to the database.
    pub connections: usize,
    /// How long the database may take for an answer; after that the mail is deferred.
    #[serde(with = "humantime_serde")]
    pub patience: Duration,
    /// Whether to make the tables at the start if they are missing. Otherwise run `danelaw store migrate` before.
    pub migrate: bool,
    /// How many outcomes are kept at most, one for each recipient; 100,000 take about 60 MB. The oldest make room for new
    /// ones, and their messages may arrive twice.
    pub entries: usize,
    /// How long the outcomes of a message are kept after the client's last attempt: a day beyond the client's longest
    /// pause between two attempts. A shorter time means second copies; nullmailer pauses for a day at most.
    #[serde(with = "humantime_serde")]
    pub expiry: Duration,
    /// How many months of counts of mail are kept for `danelaw report`, the present one among them: by domain, how much mail was
    /// verified by DANE or MTA-STS, encrypted or refused. A month has room for 100,000 domains, which take about 10 MB. They need
    /// `path` or `url`. With 0 no mail is counted.
    pub mail_months: u32,
}

impl StoreSection {
    pub(super) fn check(&self, faults: &mut Faults) {
        if let Some(path) = self.path.as_ref().filter(|path| !path.is_absolute()) {
            // Wherever danelaw is started from, it must find its memory again.
            let path = path.display();
            faults.add("store.path", format!("{path} is no absolute path such as /var/lib/danelaw/store.sqlite"));
        }
        self.check_database(faults);
        if self.mail_months > MOST_MONTHS {
            faults.add("store.mail_months", "it must be 120 at most");
        }
        if !EXPIRY.contains(&self.expiry) {
            faults.add("store.expiry", "it must be between 1d and 90d");
        }
    }

    fn check_database(&self, faults: &mut Faults) {
        if self.path.is_some() && self.url.is_some() {
            faults.add("store.url", "store.path is set too; a store is a file or a database: leave one of them empty");
        }
        for (key, path) in [
            ("store.password_file", &self.password_file),
            ("store.ca", &self.ca),
            ("store.pepper_file", &self.pepper_file),
        ] {
            if let Some(path) = path {
                if self.url.is_none() {
                    faults.add(key, "it is for a database, and store.url is empty");
                } else if !path.is_absolute() {
                    faults.add(key, format!("{} is no absolute path", path.display()));
                }
            }
        }
        if !CONNECTIONS.contains(&self.connections) {
            faults.add("store.connections", "it must be between 1 and 1000");
        }
        if !PATIENCE.contains(&self.patience) {
            faults.add("store.patience", "it must be between 100ms and 30s");
        }
    }

    /// Whether mail is counted by month.
    pub fn counts_months(&self) -> bool {
        self.lasts() && self.mail_months > 0
    }

    /// Whether outcomes outlive the process.
    pub fn lasts(&self) -> bool {
        self.path.is_some() || self.url.is_some()
    }
}

/// Reads the URL. An error does not show it: it may have a password.
fn database_url<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<DatabaseUrl>, D::Error> {
    let text = String::deserialize(deserializer)?;
    match text.as_str() {
        "" => Ok(None),
        url => url.parse().map(Some).map_err(D::Error::custom),
    }
}

#[cfg(test)]
mod tests {
    use crate::config::tests::with;

    #[test]
    fn a_memory_that_would_not_help_is_an_error() {
        let default = with("").unwrap().store;
        assert_eq!((default.path, default.entries, default.expiry.as_secs()), (None, 100_000, 2 * 86_400));
        let both = "tlsrpt = { mode = 'send', organization = 'x', contact = 'r@x.test', dkim_key = '/k' }";
        assert!(with(&format!("store.url = 'postgresql://d@h/d'\n{both}")).is_ok());
        let set = with("store.path = '/var/lib/danelaw/store.sqlite'\nstore.expiry = '90d'").unwrap().store;
        assert_eq!(set.path.as_deref(), Some(std::path::Path::new("/var/lib/danelaw/store.sqlite")));
        for (wrong, key) in [
            // A whole transaction has to find room.
            (
                "listener = [{ address = '127.0.0.1:0', recipients = 'fan-out' }]",
                "listener.recipients: 127.0.0.1:0: \"fan-out\" keeps outcomes over a restart",
            ),
            (
                "store.path = '/x'\nlistener = [{ kind = 'lmtp', address = '127.0.0.1:0', recipients = 'fan-out' }]",
                "listener.recipients: 127.0.0.1:0: LMTP answers each",
            ),
            (
                "store.entries = 999\nstore.path = '/x'\n\
                 listener = [{ address = '127.0.0.1:0', recipients = 'fan-out' }]",
                "store.entries: 999 is below limits.recipients",
            ),
            ("store.expiry = '23h'", "store.expiry: it must be between 1d and 90d"),
            ("store.expiry = '91d'", "store.expiry: it must be"),
            ("store = { path = '/x', url = 'postgresql://d@h/d' }", "store.url: store.path is set too"),
            ("store.password_file = '/x'", "store.password_file: it is for a database"),
            ("store = { url = 'postgresql://d@h/d', ca = 'x' }", "store.ca: x is no absolute path"),
            ("store.connections = 0", "store.connections: it must be between"),
            ("store.mail_months = 121", "store.mail_months: it must be 120 at most"),
            ("store.patience = '31s'", "store.patience: it must be between"),
            ("store.path = 'store.sqlite'", "store.path: store.sqlite is no absolute path"),
        ] {
            let error = with(wrong).unwrap_err();
            assert!(error.starts_with(key), "{wrong}: {error}");
        }
    }
}
