//! `danelaw status`: the state of the danelaw that runs, in words.

use std::process::ExitCode;

use super::check;
use super::running::{NotTold, RunningDanelaw};
use super::stdout::Stdout;
use crate::admin::client;
use crate::config::Config;
use crate::name::Name;

const STATUS: &str = "\
Exit status:
  0   danelaw is ready; with a domain: its state is shown
  1   it is not ready; with a domain: there was no mail to it, and no look of
      the watch
  64  the command line is wrong
  69  no danelaw answers at admin.address
  78  the configuration is wrong, or has no admin.address";

/// danelaw is not ready, or does not know the domain.
const NOT_READY: u8 = 1;

/// Arguments of the subcommand.
#[derive(Debug, clap::Args)]
#[command(after_help = STATUS)]
pub(super) struct StatusArguments {
    /// Show the last mail to this domain, or to that of a mail address, with its rule, its hosts and its findings.
    #[arg(value_parser = check::domain)]
    domain: Option<Name>,
}

/// Asks and prints.
pub(super) fn run(config: &Config, arguments: &StatusArguments) -> ExitCode {
    let domain = arguments.domain.as_ref().map(Name::as_str).unwrap_or_default();
    let answer = RunningDanelaw::of(config).and_then(|running| running.ask(&format!("{}{domain}", client::STATUS)));
    match answer {
        Ok(Ok(text)) => {
            Stdout::print(&text);
            ExitCode::from(if domain.is_empty() && !text.starts_with("ready\n") { NOT_READY } else { 0 })
        }
        Ok(Err(why)) => NotTold { code: NOT_READY, why }.complain(),
        Err(not_told) => not_told.complain(),
    }
}
