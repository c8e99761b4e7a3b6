//! The danelaw that runs, asked about its TLS reports.

use serde::de::DeserializeOwned;

use crate::cli::EX_CONFIG;
use crate::cli::running::{NotTold, RunningDanelaw};
use crate::config::{Config, TlsrptMode};

const NOT_SENT: &str = "tlsrpt.mode is empty, so that danelaw counts no TLS sessions: set it to \"send\", with the keys that `danelaw config \
                        check` then asks for, and restart danelaw";

/// A danelaw that makes reports of its own.
pub(super) struct RunningReports<'a>(RunningDanelaw<'a>);

impl<'a> RunningReports<'a> {
    /// The danelaw of this configuration.
    pub(super) fn of(config: &'a Config) -> Result<Self, NotTold> {
        let wrong = |why: &str| NotTold { code: EX_CONFIG, why: why.to_owned() };
        match config.tlsrpt.mode {
            TlsrptMode::Send => RunningDanelaw::of(config).map(Self),
            TlsrptMode::Off => Err(wrong(NOT_SENT)),
            TlsrptMode::Collectd => {
                Err(wrong("tlsrpt.mode is \"collectd\", so that tlsrpt-collectd counts the TLS sessions"))
            }
        }
    }

    /// Asks for a page.
    pub(super) fn page<P: DeserializeOwned>(&self, path: &str) -> Result<P, NotTold> {
        let text = self.0.ask(path)?.map_err(|why| NotTold::unavailable(&why))?;
        serde_json::from_str(&text).map_err(|error| NotTold::unavailable(&error))
    }
}

/// The part of a path that asks for the page behind this domain.
pub(super) fn behind(domain: Option<&String>) -> String {
    domain.map(|domain| format!("?after={domain}")).unwrap_or_default()
}
