//! The danelaw that runs, asked over the admin port.

use std::process::ExitCode;

use tokio::runtime::{Builder, Runtime};

use super::{EX_CONFIG, EX_UNAVAILABLE, log};
use crate::admin::client;
use crate::config::{Address, Config};

/// Where the running danelaw is asked.
pub(super) struct RunningDanelaw<'a> {
    address: &'a Address,
    runtime: Runtime,
}

/// Why there is no answer, with the exit status that says so.
#[derive(Debug)]
pub(super) struct NotTold {
    pub(super) code: u8,
    pub(super) why: String,
}

impl<'a> RunningDanelaw<'a> {
    /// The danelaw of this configuration.
    pub(super) fn of(config: &'a Config) -> Result<Self, NotTold> {
        let Some(address) = &config.admin.address else {
            let why = "admin.address is empty, so that danelaw answers no questions: set it, as in \"127.0.0.1:7671\", and restart \
                       danelaw";
            return Err(NotTold { code: EX_CONFIG, why: why.to_owned() });
        };
        let runtime = Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| NotTold::unavailable(&error))?;
        Ok(Self { address, runtime })
    }

    /// Asks for a path. The inner error is danelaw's own word that it has no such thing.
    pub(super) fn ask(&self, path: &str) -> Result<Result<String, String>, NotTold> {
        let answer = self.runtime.block_on(client::ask(self.address, path));
        let (status, text) = answer.map_err(|error| NotTold::unavailable(&error))?;
        // danelaw's own answers to these questions are text and JSON.
        if text.trim_start().starts_with('<') {
            let why = format!(
                "{} answers with a page for browsers, so this is another program; correct admin.address",
                self.address
            );
            return Err(NotTold::unavailable(&why));
        }
        Ok(if status.is_success() { Ok(text) } else { Err(text.trim_end().to_owned()) })
    }
}

impl NotTold {
    pub(super) fn unavailable(why: &impl ToString) -> Self {
        Self { code: EX_UNAVAILABLE, why: why.to_string() }
    }

    /// Says it, for the end of the program.
    pub(super) fn complain(&self) -> ExitCode {
        log::complain(&self.why);
        ExitCode::from(self.code)
    }
}
