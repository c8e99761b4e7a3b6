//! The command line: arguments, configuration, exit codes. One file a subcommand.

mod check;
mod completions;
mod load;
mod man;
mod reference;
mod refusals;
mod resolve;
mod rules;
mod run;
mod systemd;
mod tlsa;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{CommandFactory, Parser, Subcommand};

use crate::config::Config;

/// sysexits: the configuration is wrong.
const EX_CONFIG: u8 = 78;
/// sysexits: the system refuses something, such as a port.
const EX_OSERR: u8 = 71;

/// DANE for the mail server you cannot change: an SMTP proxy that resolves with DNSSEC, encrypts with STARTTLS and
/// verifies by DANE every message it passes on.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    #[command(flatten)]
    settings: Settings,
    #[command(subcommand)]
    command: Option<Subcommands>,
}

impl Arguments {
    /// Ends the program as clap does for what it finds wrong itself.
    fn usage_error(message: &str) -> ! {
        Self::command().error(ErrorKind::ValueValidation, message).exit()
    }
}

/// Where settings come from, beside the defaults and the environment.
#[derive(Debug, clap::Args)]
struct Settings {
    /// Read this configuration file instead of /etc/danelaw/danelaw.toml.
    #[arg(long, value_name = "FILE", global = true)]
    config: Option<PathBuf>,
    /// Set one key over everything else, as in --set tls.level=dane-only.
    #[arg(long, value_name = "KEY=VALUE", global = true)]
    set: Vec<String>,
}

impl Settings {
    fn load(&self) -> Result<Config, load::LoadError> {
        load::load(self.config.as_deref(), &self.set)
    }

    /// Does what needs the configuration, or says what is wrong with it.
    fn with(&self, command: impl FnOnce(Config) -> ExitCode) -> ExitCode {
        match self.load() {
            Ok(config) => command(config),
            Err(error) => {
                eprintln!("danelaw: {error}");
                ExitCode::from(EX_CONFIG)
            }
        }
    }
}

#[derive(Debug, Subcommand)]
enum Subcommands {
    /// Pass mail on (the default).
    Run,
    /// Say what would become of mail to a domain, step by step, without sending any.
    ///
    /// Walks the road of a message: the MX records, each host's addresses and TLSA records with their security, a session
    /// with each address up to the second EHLO, and the verdict at the level that holds for the domain. It uses the
    /// configuration of the proxy; --set tls.level=dane-only shows what another level would do, --set ehlo_name=.. greets
    /// under the name of your mail server. No mail is sent.
    Check(check::Arguments),
    /// Say what the DNS has for a name, and how sure that is.
    Resolve(resolve::Arguments),
    /// List the exceptions of the configuration, with their reasons and how long they last.
    Rules(rules::Arguments),
    /// Make TLSA records, or judge a server by them.
    Tlsa(tlsa::Arguments),
    /// Explain every refusal: how the client and the log name it, how it comes about, and what to do.
    Refusals(refusals::Arguments),
    /// Write the manual pages.
    Man(man::Arguments),
    /// Print completions for a shell, as in: danelaw completions bash > /etc/bash_completion.d/danelaw
    Completions(completions::Arguments),
}

/// Runs the program.
pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match arguments.command.unwrap_or(Subcommands::Run) {
        Subcommands::Run => arguments.settings.with(|config| run::run(&config)),
        Subcommands::Check(check) => arguments.settings.with(|config| check::run(config, &check)),
        Subcommands::Resolve(resolve) => arguments.settings.with(|config| resolve::run(config, &resolve)),
        Subcommands::Rules(rules) => arguments.settings.with(|config| rules::run(&config, &rules)),
        // What works on files alone works without a configuration.
        Subcommands::Tlsa(tlsa) => tlsa::run(&tlsa, &arguments.settings),
        Subcommands::Refusals(refusals) => refusals::run(&refusals),
        Subcommands::Man(man) => man::run(&man),
        Subcommands::Completions(completions) => completions::run(&completions),
    }
}
