//! The command line: arguments, configuration, exit codes. One file a subcommand.

mod bare;
mod check;
mod completions;
mod config;
mod descriptors;
mod domains;
mod encoding;
mod explain;
mod fields;
mod last_writes;
mod lines;
mod load;
mod log;
mod man;
mod name_servers;
mod policies;
mod ports;
mod ready;
mod reference;
mod refusals;
mod reload;
mod report;
mod reports;
mod resolve;
mod rules;
mod run;
mod running;
mod status;
mod stdout;
mod store;
mod systemd;
mod tlsa;
mod tlsrpt;
mod watch;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{CommandFactory, Parser, Subcommand};

use self::run::StartError;
use self::stdout::Stdout;
use crate::config::Config;
use crate::version;

/// sysexits: the configuration is wrong.
const EX_CONFIG: u8 = 78;
/// sysexits: the command line is wrong.
const EX_USAGE: u8 = 64;
/// sysexits: a service is not there.
const EX_UNAVAILABLE: u8 = 69;
/// sysexits: the system refuses a request, such as for a port.
const EX_OSERR: u8 = 71;

/// Where settings are explained.
const SETTINGS: &str = "\
Settings:
  Every key, its default and its reason: danelaw.toml(5), which \"danelaw man
  DIRECTORY\" writes. Later wins: the defaults, the file, the files
  conf.d/*.toml beside it, variables such as DANELAW_TLS__LEVEL=dane-only (for
  tls.level), --set. \"danelaw config show\" prints what is in force, and where
  each value comes from.";

/// DANE for the mail server you cannot change: an SMTP proxy that resolves with DNSSEC, encrypts with STARTTLS and
/// verifies by DANE every message it passes on.
#[derive(Debug, Parser)]
#[command(version = version::VERSION, long_version = version::LONG, after_help = SETTINGS)]
struct Arguments {
    #[command(flatten)]
    settings: ConfigFlags,
    #[command(subcommand)]
    command: Option<Subcommands>,
}

impl Arguments {
    /// Ends the program as clap does for its own errors with a subcommand.
    fn usage_error(subcommand: &str, kind: ErrorKind, message: &str) -> ! {
        let mut command = Self::command();
        command.build();
        let error = match command.find_subcommand_mut(subcommand) {
            Some(subcommand) => subcommand.error(kind, message),
            None => command.error(kind, message),
        };
        misused(&error)
    }
}

/// Where settings come from, beside the defaults and the environment.
#[derive(Debug, Clone, clap::Args)]
struct ConfigFlags {
    /// Read this configuration file instead of /etc/danelaw/danelaw.toml.
    #[arg(long, value_name = "FILE", global = true)]
    config: Option<PathBuf>,
    /// Set one key over everything else, as in --set tls.level=dane-only.
    #[arg(long, value_name = "KEY=VALUE", global = true)]
    set: Vec<load::Flag>,
}

impl ConfigFlags {
    fn load(&self) -> Result<load::Loaded, load::LoadError> {
        load::loaded(self.config.as_deref(), &self.set)
    }

    /// Whether a file, a variable or a flag sets this key.
    fn sets(&self, name: &str) -> bool {
        let is_set = |key: &load::ShownKey| key.name == name && key.source != "default";
        self.load().is_ok_and(|loaded| loaded.keys.iter().any(is_set))
    }

    /// Runs a command that needs the configuration, or reports the errors in that.
    fn with(&self, command: impl FnOnce(Config) -> ExitCode) -> ExitCode {
        self.trying(|config| Ok(command(config)))
    }

    /// As [`with`](Self::with), and reports with the place of its key why the command failed.
    fn trying(&self, command: impl FnOnce(Config) -> Result<ExitCode, StartError>) -> ExitCode {
        let load::Loaded { config, places, .. } = match self.load() {
            Ok(loaded) => loaded,
            Err(error) => {
                log::complain(&error.to_string());
                error.ended().iter().for_each(|line| log::caution(line));
                return ExitCode::from(EX_CONFIG);
            }
        };
        command(config).unwrap_or_else(|StartError { code, why }| {
            log::complain_in_time(places.told(&why));
            ExitCode::from(code)
        })
    }
}

#[derive(Debug, Subcommand)]
enum Subcommands {
    /// Pass mail on (the default).
    #[command(after_help = run::STATUS)]
    Run,
    /// Show step by step how mail to a domain would be delivered, without sending any.
    ///
    /// Follows the delivery path of a message: the MX records, each host's addresses and TLSA records with their
    /// security, a session with each address up to the second EHLO, and the verdict at the level that holds for the
    /// domain. It uses the configuration of the proxy; --set tls.level=dane-only shows the effect of another level,
    /// --set ehlo_name=.. greets under the name of your mail server. No mail is sent.
    Check(check::CheckArguments),
    /// List the domains that a mail server has sent to, by its logs, for danelaw check.
    Domains(domains::DomainsArguments),
    /// Show the DNS records of a name, and how sure they are.
    Resolve(resolve::ResolveArguments),
    /// List the rules of the configuration, with their reasons and how long they last; or suggest some.
    Rules(rules::RulesArguments),
    /// Check the configuration, or show its values.
    Config {
        #[command(subcommand)]
        what: config::ConfigCommand,
    },
    /// Show the state of the running danelaw: its readiness, the mail of the last day by verdict, and the domains whose
    /// last mail was refused.
    ///
    /// Asks the danelaw that runs, at admin.address. Its counts begin when it starts.
    Status(status::StatusArguments),
    /// Say whether the running danelaw passes mail on, for the health check of a container.
    ///
    /// Asks the danelaw that runs, at admin.address, and prints the lines of /readyz.
    #[command(after_help = ready::STATUS)]
    Ready,
    /// Show whether the domains that mail goes to are about to break, as the watch of the running danelaw sees it.
    ///
    /// Asks the danelaw that runs, at admin.address; it watches if watch.every is set. With --once it looks by itself, for
    /// cron: the first look learns, and later ones print changes that a second look has confirmed.
    Watch(watch::WatchArguments),
    /// Say everything that was seen of an attempt that did not end in a delivery.
    ///
    /// Asks the danelaw that runs, at admin.address. It remembers the last admin.remember such attempts, until it is
    /// restarted.
    Explain(explain::ExplainArguments),
    /// Show how much mail of a month was verified by DANE or MTA-STS, encrypted, or refused, and to how many domains.
    ///
    /// Asks the danelaw that runs, at admin.address, for the counts in its store (store.mail_months). They are those of all
    /// danelaws with the same store. config/report.md tells which sentences of guidelines they answer.
    Report(report::MonthArguments),
    /// Make TLSA records, or judge a server by them.
    Tlsa(tlsa::TlsaArguments),
    /// Explain TLS reports of others, and show the counts and reports of this danelaw.
    Tlsrpt(tlsrpt::TlsrptArguments),
    /// Look at the database that several danelaws share (store.url), or make its tables.
    Store {
        #[command(subcommand)]
        what: store::StoreCommand,
    },
    /// Explain every refusal: how the client and the log name it, how it comes about, and what to do.
    Refusals(refusals::RefusalsArguments),
    /// Write the manual pages.
    Man(man::ManArguments),
    /// Print completions for a shell, as in: danelaw completions bash > /etc/bash_completion.d/danelaw
    Completions(completions::CompletionsArguments),
}

/// Runs the program.
pub fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => misused(&error),
    };
    let Some(command) = arguments.command else {
        return arguments.settings.trying(|config| {
            bare::announce(&config, &arguments.settings);
            run::run(config, arguments.settings.clone())
        });
    };
    match command {
        Subcommands::Run => arguments.settings.trying(|config| run::run(config, arguments.settings.clone())),
        Subcommands::Check(check) => arguments.settings.trying(|config| check::run(config, &check)),
        Subcommands::Config { what } => config::run(&what, &arguments.settings),
        Subcommands::Resolve(resolve) => arguments.settings.trying(|config| resolve::run(config, &resolve)),
        Subcommands::Rules(rules) => arguments.settings.trying(|config| rules::run(config, &rules)),
        Subcommands::Store { what } => arguments.settings.trying(|config| store::run(&what, &config)),
        Subcommands::Status(status) => arguments.settings.with(|config| status::run(&config, &status)),
        Subcommands::Ready => arguments.settings.with(|config| ready::run(&config)),
        Subcommands::Report(report) => arguments.settings.with(|config| report::run(&config, &report)),
        Subcommands::Watch(watch) => arguments.settings.trying(|config| watch::run(config, &watch)),
        Subcommands::Explain(explain) => arguments.settings.trying(|config| explain::run(config, &explain)),
        // Commands that work on files alone work without a configuration.
        Subcommands::Tlsa(tlsa) => tlsa::run(&tlsa, &arguments.settings),
        Subcommands::Tlsrpt(tlsrpt) => tlsrpt::run(&tlsrpt, &arguments.settings),
        Subcommands::Domains(domains) => domains::run(&domains),
        Subcommands::Refusals(refusals) => refusals::run(&refusals),
        Subcommands::Man(man) => man::run(&man),
        Subcommands::Completions(completions) => completions::run(&completions),
    }
}

/// Ends the program with clap's text: why the command line is wrong, or the help that was asked for.
fn misused(error: &clap::Error) -> ! {
    if error.use_stderr() {
        // A closed pipe is no reason to complain.
        let _ = error.print();
        std::process::exit(EX_USAGE.into())
    }
    // The text is in memory, and a failure of standard output ends the program.
    let _ = Stdout::coloured(|out| write!(out, "{}", error.render().ansi()));
    std::process::exit(0)
}
