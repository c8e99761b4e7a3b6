//! The store: outcomes of fan-out messages, policies of MTA-STS, and TLS reports.

use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

use super::check::Faults;
use super::optional;

/// How long outcomes may be remembered: longer than clients pause, and not for ever.
const EXPIRY: RangeInclusive<Duration> = Duration::from_secs(24 * 60 * 60)..=Duration::from_secs(90 * 24 * 60 * 60);

/// The store: outcomes of fan-out messages, policies of MTA-STS, and TLS reports.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StoreSection {
    /// Where to keep the outcomes of fan-out messages that the client has to send again, the policies of MTA-STS, and the counts
    /// of TLS reports: a file, which must be on a local disk. It holds digests of addresses and messages, remotes' replies as they
    /// were, and the names of domains that mail went to; for TLS reports also the names and addresses of their mail servers, and
    /// the addresses that take reports. Fan-out and tlsrpt.mode = "send" need it. Without it each start trusts the first contact
    /// with a domain again.
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

impl StoreSection {
    pub(super) fn check(&self, faults: &mut Faults) {
        if let Some(path) = self.path.as_ref().filter(|path| !path.is_absolute()) {
            // Wherever danelaw is started from, it must find its memory again.
            let path = path.display();
            faults.add("store.path", format!("{path} is no absolute path such as /var/lib/danelaw/store.sqlite"));
        }
        if !EXPIRY.contains(&self.expiry) {
            faults.add("store.expiry", "it must be between 1d and 90d");
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::config::tests::with;

    #[test]
    fn a_memory_that_would_not_help_is_an_error() {
        let default = with("").unwrap().store;
        assert_eq!((default.path, default.entries, default.expiry.as_secs()), (None, 100_000, 2 * 86_400));
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
            ("store.path = 'store.sqlite'", "store.path: store.sqlite is no absolute path"),
        ] {
            let error = with(wrong).unwrap_err();
            assert!(error.starts_with(key), "{wrong}: {error}");
        }
    }
}
