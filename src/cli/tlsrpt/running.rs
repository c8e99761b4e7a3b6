//! The danelaw that runs, asked about its TLS reports over the admin port.

use serde::de::DeserializeOwned;
use tokio::runtime::{Builder, Runtime};

use crate::admin::client;
use crate::cli::{EX_CONFIG, EX_UNAVAILABLE};
use crate::config::{Address, Config, TlsrptMode};

/// Where the running danelaw is asked.
pub(super) struct RunningReports<'a> {
    address: &'a Address,
    runtime: Runtime,
}

/// Why there is no answer, with the exit status that says so.
#[derive(Debug)]
pub(super) struct ReportsNotTold {
    pub(super) code: u8,
    pub(super) why: String,
}

impl<'a> RunningReports<'a> {
    /// The danelaw of this configuration.
    pub(super) fn of(config: &'a Config) -> Result<Self, ReportsNotTold> {
        let wrong = |why: &str| ReportsNotTold { code: EX_CONFIG, why: why.to_owned() };
        match config.tlsrpt.mode {
            TlsrptMode::Send => {}
            TlsrptMode::Off => return Err(wrong("tlsrpt.mode is empty, so that danelaw counts no TLS sessions")),
            TlsrptMode::Collectd => {
                return Err(wrong("tlsrpt.mode is \"collectd\", so that tlsrpt-collectd counts the TLS sessions"));
            }
        }
        let Some(address) = &config.admin.address else {
            return Err(wrong(
                "admin.address is empty, so that danelaw answers no questions: set it, as in \"127.0.0.1:7671\", and restart \
                 danelaw",
            ));
        };
        let runtime = Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| ReportsNotTold::unavailable(&error))?;
        Ok(Self { address, runtime })
    }

    /// Asks for a page.
    pub(super) fn page<P: DeserializeOwned>(&self, path: &str) -> Result<P, ReportsNotTold> {
        let answer = self.runtime.block_on(client::ask(self.address, path));
        let (status, text) = answer.map_err(|error| ReportsNotTold::unavailable(&error))?;
        if !status.is_success() {
            return Err(ReportsNotTold::unavailable(&text.trim_end()));
        }
        serde_json::from_str(&text).map_err(|error| ReportsNotTold::unavailable(&error))
    }
}

impl ReportsNotTold {
    pub(super) fn unavailable(why: &impl ToString) -> Self {
        Self { code: EX_UNAVAILABLE, why: why.to_string() }
    }
}

/// The part of a path that asks for the page behind this domain.
pub(super) fn behind(domain: Option<&String>) -> String {
    domain.map(|domain| format!("?after={domain}")).unwrap_or_default()
}
