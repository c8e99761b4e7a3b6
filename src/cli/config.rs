//! `danelaw config`: checks a configuration, or shows its values.

use std::net::Ipv4Addr;
use std::process::ExitCode;

use serde_json::json;

use super::load::{self, LoadError, Loaded, SYSTEM_FILE, ShownKey};
use super::run::{self, StartError};
use super::stdout::Stdout;
use super::{ConfigFlags, EX_CONFIG, log};
use crate::config::{Address, Config};
use crate::settings;

/// Arguments of the subcommand.
#[derive(Debug, clap::Subcommand)]
pub(super) enum ConfigCommand {
    /// Show every error of the configuration, or that there is none (exit status 78, or 0).
    Check {
        /// Judge as a start and a reload do: a rule that has ended is reported, and is no fault.
        #[arg(long)]
        allow_ended_rules: bool,
    },
    /// Print each key with the value in force and where it comes from.
    Show(ShowArguments),
}

/// Which keys are shown, and how.
#[derive(Debug, clap::Args)]
pub(super) struct ShowArguments {
    /// Only the keys whose value is not the default.
    #[arg(long)]
    changed: bool,
    /// Write one JSON object a key: key, value, source.
    #[arg(long)]
    json: bool,
}

/// Does it.
pub(super) fn run(arguments: &ConfigCommand, settings: &ConfigFlags) -> ExitCode {
    let done = match arguments {
        ConfigCommand::Check { allow_ended_rules: true } => check(settings, EndedRules::Told),
        ConfigCommand::Check { allow_ended_rules: false } => check(settings, EndedRules::Fault),
        ConfigCommand::Show(arguments) => show(settings, arguments),
    };
    match done {
        Ok(text) => {
            Stdout::print(&text);
            ExitCode::SUCCESS
        }
        Err(wrong) => {
            log::complain(&wrong);
            ExitCode::from(EX_CONFIG)
        }
    }
}

/// A check of a key's value beyond its form.
type Check = fn(&Config) -> Result<(), String>;
/// The further checks, each with the beginning of the keys that it depends on.
const FURTHER: [(&str, Check); 6] = [
    ("hostname", hostname),
    ("listener", listeners),
    ("log.filter", filter),
    ("dns.", resolver),
    ("tls.ca", roots),
    ("tlsrpt.", reports),
];

/// How a rule that has ended is judged.
enum EndedRules {
    Told,
    Fault,
}

fn check(settings: &ConfigFlags, judged: EndedRules) -> Result<String, String> {
    let (config, mut wrong, ended, files) = match load::loaded(settings.config.as_deref(), &settings.set) {
        Ok(Loaded { config, keys, files, ended }) => {
            replaced_listener(&config, &keys).iter().for_each(|note| log::remark(note));
            unused_page(&config).iter().for_each(|note| log::caution(note));
            (config, Vec::new(), ended, files)
        }
        Err(LoadError::Wrong { lines, ended, rest: Some(rest) }) => (*rest, lines, ended, Vec::new()),
        Err(error) => return Err(error.to_string()),
    };
    match judged {
        EndedRules::Fault => wrong.extend(ended),
        EndedRules::Told => ended.iter().for_each(|line| log::caution(line)),
    }
    for (keys, check) in FURTHER {
        // A default in the place of a wrong key does not tell the intended value.
        if !wrong.iter().any(|line| line.starts_with(keys)) {
            wrong.extend(check(&config).err());
        }
    }
    if !wrong.is_empty() {
        return Err(wrong.join("\n"));
    }
    Ok(match &files[..] {
        [] => format!("the configuration is good; there is no {SYSTEM_FILE}, and none was named\n"),
        [file] => format!("the configuration is good; its file is {file}\n"),
        files => format!("the configuration is good; its files are {}\n", files.join(", ")),
    })
}

/// The port of the default listener.
const DEFAULT_PORT: u16 = 10025;

/// The default listener is gone, and no other one has its address: a mail server that was told of it gets no connection.
fn replaced_listener(config: &Config, keys: &[ShownKey]) -> Option<String> {
    let listed = keys.iter().find(|key| key.name == "listener" && key.source != "default")?;
    let takes_its_place = |address: &Address| match address {
        Address::Tcp(address) => {
            address.port() == DEFAULT_PORT && (address.ip() == Ipv4Addr::LOCALHOST || address.ip().is_unspecified())
        }
        Address::Unix(_) => false,
    };
    (!config.listener.iter().any(|listener| takes_its_place(&listener.address))).then(|| {
        format!(
            "listener: those that are listed replace the default one, so nothing listens on 127.0.0.1:{DEFAULT_PORT}; if a mail server \
             sends there, list that address too (in {})",
            listed.source
        )
    })
}

/// A page that no browser can reach.
fn unused_page(config: &Config) -> Option<String> {
    let why = match &config.admin.address {
        Some(Address::Tcp(_)) => return None,
        Some(address @ Address::Unix(_)) => format!("a browser opens no Unix socket, and admin.address is {address}"),
        None => "admin.address is empty".to_owned(),
    };
    config.admin.page.then(|| {
        format!("admin.page: the page is not used: {why}; set admin.address to a port, as in \"127.0.0.1:7671\"")
    })
}

fn hostname(config: &Config) -> Result<(), String> {
    run::hostname(config).map(drop).map_err(|StartError { why, .. }| why)
}

fn reports(config: &Config) -> Result<(), String> {
    super::reports::settings(config).map(drop).map_err(|StartError { why, .. }| why)
}

fn listeners(config: &Config) -> Result<(), String> {
    settings::listeners(config).map(drop).map_err(|error| error.to_string())
}

fn filter(config: &Config) -> Result<(), String> {
    log::filter(&config.log.filter).map(drop)
}

/// The files that it names are read; no server is asked.
fn resolver(config: &Config) -> Result<(), String> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|error| error.to_string())?;
    let _within = runtime.enter();
    run::resolver(config).map(drop).map_err(|StartError { why, .. }| why)
}

fn roots(config: &Config) -> Result<(), String> {
    run::roots(config).map(drop).map_err(|StartError { why, .. }| why)
}

fn show(settings: &ConfigFlags, arguments: &ShowArguments) -> Result<String, String> {
    let loaded = load::loaded(settings.config.as_deref(), &settings.set);
    let Loaded { config: _, keys, files: _, ended: _ } = loaded.map_err(|error| error.to_string())?;
    let keys: Vec<_> = keys.into_iter().filter(|key| !(arguments.changed && key.is_default)).collect();
    if arguments.json {
        let line = |key: &ShownKey| {
            let object = json!({ "key": key.name, "value": key.value, "source": key.source });
            format!("{object}\n")
        };
        return Ok(keys.iter().map(line).collect());
    }
    let lines: Vec<(String, &str)> =
        keys.iter().map(|key| (format!("{} = {}", key.name, key.toml()), key.source.as_str())).collect();
    let width = lines.iter().map(|(line, _)| line.chars().count()).filter(|width| *width <= 60).max().unwrap_or(0);
    Ok(lines.into_iter().map(|(line, source)| format!("{line:<width$}  # {source}\n")).collect())
}
