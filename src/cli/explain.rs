//! `danelaw explain`: the record that the running danelaw has of one attempt, or the forecast for such mail by another listener.

use std::process::ExitCode;

use clap::error::ErrorKind;

use super::EX_CONFIG;
use super::check::{self, CheckArguments};
use super::run::StartError;
use super::running::{NotTold, RunningDanelaw};
use super::stdout::Stdout;
use crate::config::{Address, Config};

const STATUS: &str = "\
Exit status:
  0   what was seen is printed
  1   danelaw remembers no such attempt
  64  the command line is wrong
  69  no danelaw answers at admin.address
  78  the configuration is wrong, or has no admin.address
  With --listener, that of \"danelaw check\" once the attempt is found.";

/// Arguments of the subcommand.
#[derive(Debug, clap::Args)]
#[command(after_help = STATUS)]
pub(super) struct ExplainArguments {
    /// The id at the end of a refusal, in its log event, or in the Received line. Without one, all that are remembered are
    /// listed, the last one first.
    #[arg(value_parser = id)]
    id: Option<String>,
    /// Explain the last attempt.
    #[arg(long, conflicts_with = "id")]
    last: bool,
    /// Forecast, in the place of the account, how mail to the domain of the attempt would fare by this listener of the
    /// configuration: as "danelaw check --listener" does.
    #[arg(long, value_name = "ADDRESS")]
    listener: Option<Address>,
}

/// Only an id may become part of a path.
fn id(text: &str) -> Result<String, String> {
    match !text.is_empty() && text.bytes().all(|octet| octet.is_ascii_hexdigit()) {
        true => Ok(text.to_owned()),
        false => {
            Err("an id is like 5F0C63B1A7D2: give it as it stands in the reply, without \"(id\" and \")\"".to_owned())
        }
    }
}

/// The domain in an account.
fn domain(account: &str) -> Option<&str> {
    account.lines().find_map(|line| line.strip_prefix("domain ")).map(str::trim)
}

/// The running danelaw does not know the id.
const UNKNOWN: u8 = 1;

/// Asks and prints.
pub(super) fn run(config: Config, arguments: &ExplainArguments) -> Result<ExitCode, StartError> {
    if arguments.listener.is_some() && !arguments.last && arguments.id.is_none() {
        let why = "--listener needs an attempt: give its id, or --last";
        super::Arguments::usage_error("explain", ErrorKind::MissingRequiredArgument, why);
    }
    if let Some(Err(why)) = arguments.listener.as_ref().map(|listener| check::has_listener(&config, listener)) {
        super::Arguments::usage_error("explain", ErrorKind::ValueValidation, &why);
    }
    let running = match RunningDanelaw::of(&config) {
        Ok(running) => running,
        Err(NotTold { code: code @ EX_CONFIG, why }) => {
            let why = format!("{why}; of attempts before the restart only the log events are left");
            return Ok(NotTold { code, why }.complain());
        }
        Err(not_told) => return Ok(not_told.complain()),
    };
    let asked = if arguments.last { "last" } else { arguments.id.as_deref().unwrap_or_default() };
    Ok(match running.ask(&format!("/explain/{asked}")) {
        Ok(Ok(text)) => match (&arguments.listener, domain(&text)) {
            (Some(listener), Some(domain)) => {
                return check::run(config, &CheckArguments::by(listener.clone(), domain));
            }
            (Some(_), None) | (None, _) => {
                Stdout::print(&text);
                ExitCode::SUCCESS
            }
        },
        Ok(Err(why)) => NotTold { code: UNKNOWN, why }.complain(),
        Err(not_told) => not_told.complain(),
    })
}
