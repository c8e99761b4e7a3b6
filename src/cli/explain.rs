//! `danelaw explain`: the record that the running danelaw has of one attempt, or the forecast for such mail by another listener.

use std::process::ExitCode;

use clap::error::ErrorKind;

use super::check::{self, CheckArguments};
use super::stdout::Stdout;
use super::{EX_CONFIG, EX_UNAVAILABLE, log};
use crate::admin::client;
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
pub(super) fn run(config: Config, arguments: &ExplainArguments) -> ExitCode {
    if arguments.listener.is_some() && !arguments.last && arguments.id.is_none() {
        let why = "--listener needs an attempt: give its id, or --last";
        super::Arguments::usage_error("explain", ErrorKind::MissingRequiredArgument, why);
    }
    if let Some(Err(why)) = arguments.listener.as_ref().map(|listener| check::has_listener(&config, listener)) {
        super::Arguments::usage_error("explain", ErrorKind::ValueValidation, &why);
    }
    let fail = |code: u8, why: String| {
        log::complain(&why);
        ExitCode::from(code)
    };
    let Some(address) = &config.admin.address else {
        return fail(
            EX_CONFIG,
            "admin.address is empty, so that danelaw answers no questions: set it, as in \"127.0.0.1:7671\", and restart danelaw; \
             of attempts before the restart only the log events are left"
                .into(),
        );
    };
    let asked = if arguments.last { "last" } else { arguments.id.as_deref().unwrap_or_default() };
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(EX_UNAVAILABLE, error.to_string()),
    };
    match runtime.block_on(client::ask(address, &format!("/explain/{asked}"))) {
        Ok((status, text)) if status.is_success() => match (&arguments.listener, domain(&text)) {
            (Some(listener), Some(domain)) => check::run(config, &CheckArguments::by(listener.clone(), domain)),
            (Some(_), None) | (None, _) => {
                Stdout::print(&text);
                ExitCode::SUCCESS
            }
        },
        Ok((_, why)) => fail(UNKNOWN, why.trim_end().to_owned()),
        Err(error) => fail(EX_UNAVAILABLE, error.to_string()),
    }
}
