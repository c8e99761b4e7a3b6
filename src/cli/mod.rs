//! The command line: arguments, configuration, exit codes. One file a subcommand.

mod load;
mod resolve;
mod run;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// sysexits: the configuration is wrong.
const EX_CONFIG: u8 = 78;
/// sysexits: the system refuses something, such as a port.
const EX_OSERR: u8 = 71;

/// DANE for the mail server you cannot change: an SMTP proxy that resolves with DNSSEC, encrypts with STARTTLS and
/// verifies by DANE every message it passes on.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// Read this configuration file instead of /etc/danelaw/danelaw.toml.
    #[arg(long, value_name = "FILE", global = true)]
    config: Option<PathBuf>,
    /// Set one key over everything else, as in --set tls.level=dane-only.
    #[arg(long, value_name = "KEY=VALUE", global = true)]
    set: Vec<String>,
    #[command(subcommand)]
    command: Option<Subcommands>,
}

#[derive(Debug, Subcommand)]
enum Subcommands {
    /// Pass mail on (the default).
    Run,
    /// Say what the DNS has for a name, and how sure that is.
    Resolve(resolve::Arguments),
}

/// Runs the program.
pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let config = match load::load(arguments.config.as_deref(), &arguments.set) {
        Ok(config) => config,
        Err(error) => {
            eprintln!("danelaw: {error}");
            return ExitCode::from(EX_CONFIG);
        }
    };
    match arguments.command.unwrap_or(Subcommands::Run) {
        Subcommands::Run => run::run(&config),
        Subcommands::Resolve(arguments) => resolve::run(config, &arguments),
    }
}
