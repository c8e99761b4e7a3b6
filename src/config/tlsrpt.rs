//! TLS reports (RFC 8460).

use std::path::PathBuf;
use std::str::FromStr;

use serde::Deserialize;

use super::check::Faults;
use super::optional;
use super::store::StoreSection;
use super::value::DomainsText;
use crate::name::Name;
use crate::smtp::address::{RecipientDomain, ReversePath, SmtpUtf8};

/// The longest path of a Unix socket on Linux, in octets.
const MAX_PATH: usize = 107;
/// The most octets of the name of an organisation.
const MAX_NAME: usize = 200;

/// TLS reports (RFC 8460).
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TlsrptSection {
    /// How the domains that ask for TLS reports (RFC 8460) get them: "" (not at all), "send" (danelaw counts the TLS sessions of
    /// each day in the store, and sends one report a day itself, by mail or HTTPS) or "collectd" (each TLS session is told to
    /// tlsrpt-collectd, whose program tlsrpt-reportd sends one report a day).
    pub mode: TlsrptMode,
    /// Our name in reports, as in "Example Ltd". Required for mode "send".
    #[serde(deserialize_with = "optional")]
    pub organization: Option<String>,
    /// The mailbox that reports come from and questions go to; somebody should read it. Its domain signs the reports, and
    /// gets none. Required for mode "send".
    #[serde(deserialize_with = "optional")]
    pub contact: Option<Contact>,
    /// The DKIM selector of the key that signs reports.
    pub dkim_selector: String,
    /// The file with that key: RSA, in PEM, and not readable by all; `danelaw tlsrpt key` makes one. Required for mode "send".
    #[serde(deserialize_with = "optional")]
    pub dkim_key: Option<PathBuf>,
    /// The DKIM selector of a second key.
    pub dkim_ed25519_selector: String,
    /// The file with that key, if reports are to have a second signature: Ed25519 (RFC 8463), which many receivers cannot check;
    /// `danelaw tlsrpt key --ed25519` makes one.
    #[serde(deserialize_with = "optional")]
    pub dkim_ed25519_key: Option<PathBuf>,
    /// "all", or "failures": a domain gets no report of a day without a failure. For mode "send".
    pub report: ReportExtent,
    /// The socket of tlsrpt-collectd, as in "/run/tlsrpt/collectd.sock". Required for mode "collectd".
    #[serde(deserialize_with = "optional")]
    pub collectd: Option<PathBuf>,
    /// Recipient domains of which no session is told; ".example.com" is every domain below it.
    pub skip: Vec<DomainsText>,
}

/// How reports reach the domains.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub enum TlsrptMode {
    /// They do not.
    #[serde(rename = "")]
    Off,
    /// By danelaw itself.
    #[serde(rename = "send")]
    Send,
    /// By tlsrpt-collectd.
    #[serde(rename = "collectd")]
    Collectd,
}

/// Whether days without a failure are reported.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ReportExtent {
    /// They are (RFC 8460 §4.2.1).
    All,
    /// They are not.
    Failures,
}

/// A mailbox of a mail domain, all ASCII.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Contact {
    /// The mailbox.
    pub mailbox: String,
    /// Its domain.
    pub domain: Name,
}

impl FromStr for Contact {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let path = ReversePath::parse(&format!("<{text}>"), SmtpUtf8::Absent).map_err(|error| error.to_string())?;
        match path {
            ReversePath::Mailbox(mailbox) if mailbox.to_string().is_ascii() => match mailbox.domain() {
                RecipientDomain::Name(domain) if domain.is_fully_qualified() => {
                    Ok(Self { mailbox: mailbox.to_string(), domain: domain.clone() })
                }
                RecipientDomain::Name(_) | RecipientDomain::Literal(_) => {
                    Err(format!("{text} has no mail domain; write a mailbox such as tls-reports@example.com"))
                }
            },
            ReversePath::Mailbox(_) | ReversePath::Null => {
                Err(format!("{text} is no mailbox in ASCII; write one such as tls-reports@example.com"))
            }
        }
    }
}

impl TlsrptSection {
    /// Whether a running danelaw can take up this section: each key, but not the mode.
    pub fn may_become(&self, new: &Self) -> bool {
        self.mode == new.mode
    }

    pub(super) fn check(&self, faults: &mut Faults, store: &StoreSection) {
        self.check_collectd(faults);
        for (key, selector) in [
            ("tlsrpt.dkim_selector", &self.dkim_selector),
            ("tlsrpt.dkim_ed25519_selector", &self.dkim_ed25519_selector),
        ] {
            if Name::parse(&format!("{selector}._domainkey.example")).is_err() {
                faults.add(key, format!("{selector:?} is no name; write one such as \"tlsrpt\""));
            }
        }
        match self.mode {
            TlsrptMode::Send => self.check_send(faults, store),
            TlsrptMode::Off | TlsrptMode::Collectd => {
                let unused = [
                    ("tlsrpt.organization", self.organization.is_some()),
                    ("tlsrpt.contact", self.contact.is_some()),
                    ("tlsrpt.dkim_key", self.dkim_key.is_some()),
                    ("tlsrpt.dkim_ed25519_key", self.dkim_ed25519_key.is_some()),
                ];
                for (key, _) in unused.iter().filter(|(_, is_set)| *is_set) {
                    faults.add(key, "it is not used: set tlsrpt.mode = \"send\" too");
                }
            }
        }
    }

    fn check_send(&self, faults: &mut Faults, store: &StoreSection) {
        if !store.lasts() {
            let problem = "mode \"send\" keeps the counts of a day over a restart; set store.path to a file for them, as in \
                           \"/var/lib/danelaw/store.sqlite\", or store.url to a database";
            faults.add("tlsrpt.mode", problem);
        }
        match &self.organization {
            None => faults
                .add("tlsrpt.organization", "it is empty, and tlsrpt.mode is \"send\"; set it to your name in reports"),
            Some(name) if name.len() > MAX_NAME || name.chars().any(char::is_control) => {
                faults.add("tlsrpt.organization", format!("it must be one line of {MAX_NAME} octets at most"));
            }
            Some(_) => {}
        }
        if self.contact.is_none() {
            faults.add(
                "tlsrpt.contact",
                "it is empty, and tlsrpt.mode is \"send\"; set it to a mailbox for questions about reports",
            );
        }
        if self.dkim_key.is_none() {
            faults.add(
                "tlsrpt.dkim_key",
                "it is empty, and tlsrpt.mode is \"send\"; `danelaw tlsrpt key FILE` makes a key",
            );
        }
        let keys = [("tlsrpt.dkim_key", &self.dkim_key), ("tlsrpt.dkim_ed25519_key", &self.dkim_ed25519_key)];
        for (key, path) in keys.into_iter().filter_map(|(key, path)| Some((key, path.as_ref()?))) {
            if !path.is_absolute() {
                faults.add(key, format!("{} is no absolute path", path.display()));
            }
        }
        if self.dkim_ed25519_key.is_some() && self.dkim_ed25519_selector.eq_ignore_ascii_case(&self.dkim_selector) {
            faults.add(
                "tlsrpt.dkim_ed25519_selector",
                "it is that of tlsrpt.dkim_key; each key needs a record of its own",
            );
        }
    }

    fn check_collectd(&self, faults: &mut Faults) {
        match (self.mode, &self.collectd) {
            (TlsrptMode::Off | TlsrptMode::Send, None) => {}
            (TlsrptMode::Off | TlsrptMode::Send, Some(path)) => {
                let problem = format!("{} is not used: set tlsrpt.mode = \"collectd\" too", path.display());
                faults.add("tlsrpt.collectd", problem);
            }
            (TlsrptMode::Collectd, None) => {
                faults.add(
                    "tlsrpt.collectd",
                    "it is empty, and tlsrpt.mode is \"collectd\"; set it to the socket of tlsrpt-collectd (its key socketname)",
                );
            }
            (TlsrptMode::Collectd, Some(path)) if !path.is_absolute() => {
                faults.add("tlsrpt.collectd", format!("{} is no absolute path", path.display()));
            }
            (TlsrptMode::Collectd, Some(path)) if path.as_os_str().len() > MAX_PATH => {
                faults.add("tlsrpt.collectd", format!("the path of a socket has {MAX_PATH} octets at most"));
            }
            (TlsrptMode::Collectd, Some(_)) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::config::tests::with;

    #[test]
    fn reports_that_would_go_nowhere_are_an_error() {
        let long = format!("tlsrpt = {{ mode = 'collectd', collectd = '/{}' }}", "x".repeat(107));
        assert!(
            with("tlsrpt = { mode = 'collectd', collectd = '/run/tlsrpt/collectd.sock', skip = ['.example'] }").is_ok()
        );
        for (wrong, fault) in [
            ("tlsrpt.mode = 'collectd'", "tlsrpt.collectd: it is empty"),
            ("tlsrpt.collectd = '/run/tlsrpt/collectd.sock'", "tlsrpt.collectd: /run/tlsrpt/collectd.sock is not used"),
            ("tlsrpt = { mode = 'collectd', collectd = 'x' }", "tlsrpt.collectd: x is no absolute path"),
            (long.as_str(), "tlsrpt.collectd: the path of a socket has 107 octets"),
        ] {
            let error = with(wrong).unwrap_err();
            assert!(error.starts_with(fault), "{wrong}: {error}");
        }
        assert!(with("tlsrpt.skip = ['*.example']").is_err());
    }

    #[test]
    fn t23_reports_of_our_own_need_a_store_an_author_and_a_key() {
        // T23.
        let send = "organization = 'Example Ltd', contact = 'tls@example.com', dkim_key = '/etc/danelaw/dkim.pem'";
        let all = format!("store.path = '/x'\ntlsrpt = {{ mode = 'send', {send} }}");
        let section = with(&all).unwrap().tlsrpt;
        assert_eq!(section.contact.unwrap().domain.as_str(), "example.com");
        // A reload takes up a change of all but the mode.
        let of = |text: &str| with(text).unwrap().tlsrpt;
        assert!(of(&all).may_become(&of(&all.replace("Ltd", "Inc"))) && !of(&all).may_become(&of("store.path = '/x'")));
        let collectd = of("tlsrpt = { mode = 'collectd', collectd = '/x' }");
        assert!(!of(&all).may_become(&collectd) && !collectd.may_become(&of("store.path = '/x'")));
        assert!(collectd.may_become(&of("tlsrpt = { mode = 'collectd', collectd = '/y', skip = ['a.example'] }")));
        for (wrong, fault) in [
            (format!("tlsrpt = {{ mode = 'send', {send} }}"), "tlsrpt.mode: mode \"send\" keeps the counts"),
            (all.replace("Example Ltd", ""), "tlsrpt.organization: it is empty"),
            (all.replace("'Example Ltd'", "\"a\\nb\""), "tlsrpt.organization: it must be one line"),
            (all.replace("tls@example.com", ""), "tlsrpt.contact: it is empty"),
            (all.replace("/etc/danelaw/dkim.pem", ""), "tlsrpt.dkim_key: it is empty"),
            (all.replace("/etc/danelaw/dkim.pem", "dkim.pem"), "tlsrpt.dkim_key: dkim.pem is no absolute path"),
            (
                all.replace("mode = 'send'", "mode = 'send', dkim_selector = 'a b'"),
                "tlsrpt.dkim_selector: \"a b\" is no name",
            ),
            (
                all.replace("mode = 'send'", "mode = 'send', dkim_ed25519_key = 'x'"),
                "tlsrpt.dkim_ed25519_key: x is no absolute path",
            ),
            (
                all.replace(
                    "mode = 'send'",
                    "mode = 'send', dkim_ed25519_key = '/x', dkim_ed25519_selector = 'TLSRPT'",
                ),
                "tlsrpt.dkim_ed25519_selector: it is that of tlsrpt.dkim_key",
            ),
            (all.replace("mode = 'send'", "mode = 'send', collectd = '/x'"), "tlsrpt.collectd: /x is not used"),
            (format!("tlsrpt = {{ {send} }}"), "tlsrpt.organization: it is not used"),
        ] {
            let error = with(&wrong).unwrap_err();
            assert!(error.starts_with(fault), "{wrong}: {error}");
        }
        for contact in ["tls", "tls@[192.0.2.1]", "tls@localhost", "ü@example.com", "a@b.example,c@d.example"] {
            assert!(with(&all.replace("tls@example.com", contact)).is_err(), "{contact}");
        }
    }
}
