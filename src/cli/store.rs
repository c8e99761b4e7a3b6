//! `danelaw store`: the database that several danelaws share.

use std::process::ExitCode;

use clap::Subcommand;

use super::run::StartError;
use super::stdout::Stdout;
use super::{EX_CONFIG, EX_UNAVAILABLE};
use crate::config::Config;
use crate::settings::database;
use crate::store::{DatabaseCheck, DatabaseOpenError, DatabaseSettings, migration_sql};

/// A difference of clocks that is told, in seconds.
const CLOCK: f64 = 5.0;

/// The meanings of the exit status.
const STATUS: &str = "\
Exit status:
  0   the database will do
  64  the command line is wrong
  69  the database cannot be reached
  78  the configuration is wrong, or the database refuses danelaw";

/// The subcommands.
#[derive(Debug, Subcommand)]
pub(super) enum StoreCommand {
    /// Show whether the database of store.url will do: its version, danelaw's rights in it, its clock and its latency.
    #[command(after_help = STATUS)]
    Check,
    /// Make the tables and functions in the database of store.url, in a schema named danelaw.
    ///
    /// danelaw does this itself at the start, unless store.migrate is false.
    #[command(after_help = STATUS)]
    Migrate {
        /// Print the statements, and use no database.
        #[arg(long)]
        print: bool,
    },
}

/// Runs the subcommand.
pub(super) fn run(command: &StoreCommand, config: &Config) -> Result<ExitCode, StartError> {
    match command {
        StoreCommand::Migrate { print: true } => Ok(print(&migration_sql())),
        StoreCommand::Migrate { print: false } => with_database(config, async |settings| {
            settings.migrate().await?;
            Ok("the database has the tables of danelaw\n".to_owned())
        }),
        StoreCommand::Check => with_database(config, async |settings| Ok(told(&settings.check().await?))),
    }
}

fn with_database(
    config: &Config,
    run: impl AsyncFnOnce(DatabaseSettings) -> Result<String, DatabaseOpenError>,
) -> Result<ExitCode, StartError> {
    let settings = database(config).ok_or_else(|| {
        StartError::config(
            "store.url: it is empty; this command is for a database: set it, as in postgresql://danelaw@db.example.net/danelaw",
        )
    })?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(StartError::system)?;
    runtime.block_on(run(settings)).map(|text| print(&text)).map_err(|error| {
        let code = if error.may_pass() { EX_UNAVAILABLE } else { EX_CONFIG };
        StartError { code, why: error.to_string() }
    })
}

fn print(text: &str) -> ExitCode {
    Stdout::print(text);
    ExitCode::SUCCESS
}

fn told(check: &DatabaseCheck) -> String {
    let DatabaseCheck { server, schema, clock_ahead, latency: [median, worst], holders } = check;
    let clock = match clock_ahead.abs() < CLOCK {
        true => String::new(),
        false => "; claims and expiry go by the database's".to_owned(),
    };
    format!(
        "server:   PostgreSQL {server}\n\
         tables:   version {schema}, and danelaw may write to them\n\
         clock:    {clock_ahead:+.1} s from this host's{clock}\n\
         latency:  {:.1} ms, at worst {:.1} ms, of 100 calls\n\
         claims:   of {holders} danelaw(s)\n",
        median.as_secs_f64() * 1e3,
        worst.as_secs_f64() * 1e3,
    )
}
