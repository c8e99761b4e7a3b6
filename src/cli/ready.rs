//! `danelaw ready`: whether the danelaw that runs passes mail on, for the health check of a container.

use std::process::ExitCode;

use super::running::RunningDanelaw;
use super::stdout::Stdout;
use crate::admin::client;
use crate::config::Config;

pub(super) const STATUS: &str = "\
Exit status:
  0   danelaw is ready
  1   it is not ready
  64  the command line is wrong
  69  no danelaw answers at admin.address
  78  the configuration is wrong, or has no admin.address";

/// danelaw is not ready.
const NOT_READY: u8 = 1;

/// Asks, and prints the reasons.
pub(super) fn run(config: &Config) -> ExitCode {
    let answer = RunningDanelaw::of(config).and_then(|running| running.ask(client::READY));
    match answer {
        Ok(Ok(text)) => {
            Stdout::print(&text);
            ExitCode::SUCCESS
        }
        Ok(Err(text)) => {
            Stdout::print(&format!("{text}\n"));
            ExitCode::from(NOT_READY)
        }
        Err(not_told) => not_told.complain(),
    }
}
