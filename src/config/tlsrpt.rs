//! TLS reports (RFC 8460).

use std::path::PathBuf;

use serde::Deserialize;

use super::check::Faults;
use super::optional;
use super::value::DomainsText;

/// The longest path of a Unix socket on Linux, in octets.
const MAX_PATH: usize = 107;

/// TLS reports (RFC 8460).
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TlsrptSection {
    /// How the domains that ask for TLS reports (RFC 8460) get them: "" (not at all) or "collectd" (each TLS session is
    /// told to tlsrpt-collectd, whose program tlsrpt-reportd sends one report a day).
    pub mode: TlsrptMode,
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
    /// By tlsrpt-collectd.
    #[serde(rename = "collectd")]
    Collectd,
}

impl TlsrptSection {
    pub(super) fn check(&self, faults: &mut Faults) {
        match (self.mode, &self.collectd) {
            (TlsrptMode::Off, None) => {}
            (TlsrptMode::Off, Some(path)) => {
                let problem = format!("{} is not used: set tlsrpt.mode = \"collectd\" too", path.display());
                faults.add("tlsrpt.collectd", problem);
            }
            (TlsrptMode::Collectd, None) => {
                faults.add(
                    "tlsrpt.collectd",
                    "it is empty; set it to the socket of tlsrpt-collectd (its key socketname)",
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
        assert!(with("tlsrpt.mode = 'send'").is_err() && with("tlsrpt.skip = ['*.example']").is_err());
    }
}
