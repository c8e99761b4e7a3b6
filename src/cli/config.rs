//! `danelaw config`: checks a configuration, or shows its values.

use std::fs::File;
use std::io::ErrorKind;
use std::net::Ipv4Addr;
use std::process::ExitCode;

use serde_json::json;

use super::load::{KeyPlaces, LoadError, Loaded, SYSTEM_FILE, ShownKey};
use super::run::{self, StartError};
use super::stdout::Stdout;
use super::{ConfigFlags, EX_CONFIG, log};
use crate::config::{Address, Config, NamedFile};
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
    /// Print each key with its value and where it comes from. A value that is wrong, or cannot come into force, has an error besides
    /// (exit status 78); a file that this user may not read has a warning.
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
        Ok(()) => ExitCode::SUCCESS,
        Err(wrong) => {
            log::complain(&wrong);
            ExitCode::from(EX_CONFIG)
        }
    }
}

/// A check of a key's value beyond its form.
type Check = fn(&Config) -> Result<(), StartError>;
/// The further checks but those of listeners, each with the beginning of the keys that it depends on.
const FURTHER: [(&str, Check); 6] = [
    ("hostname", hostname),
    ("log.filter", filter),
    ("dns.", resolver),
    ("tls.ca", roots),
    ("store.", run::store_files),
    ("tlsrpt.", reports),
];

/// How a rule that has ended is judged.
enum EndedRules {
    Told,
    Fault,
}

fn check(settings: &ConfigFlags, judged: EndedRules) -> Result<(), String> {
    let (config, places, mut wrong, ended, files) = match settings.load() {
        Ok(Loaded { config, keys, places, files, ended }) => {
            replaced_listener(&config, &keys).iter().for_each(|note| log::remark(note));
            unused_page(&config).iter().for_each(|note| log::caution(note));
            (config, places, Vec::new(), ended, files)
        }
        Err(LoadError::Wrong { lines, rest: Some(rest) }) => (rest.config, rest.places, lines, rest.ended, Vec::new()),
        Err(error) => return Err(error.to_string()),
    };
    match judged {
        EndedRules::Fault => wrong.extend(ended),
        EndedRules::Told => ended.iter().for_each(|line| log::caution(line)),
    }
    wrong.extend(further(&config, &places, &wrong));
    if !wrong.is_empty() {
        return Err(wrong.join("\n"));
    }
    Stdout::print(&match &files[..] {
        [] => format!("the configuration is good; there is no {SYSTEM_FILE}, and none was named\n"),
        [file] => format!("the configuration is good; its file is {file}\n"),
        files => format!("the configuration is good; its files are {}\n", files.join(", ")),
    });
    Ok(())
}

/// The faults of values that are well-formed and cannot come into force. The keys of those that are told already are not looked at: a
/// default in the place of a wrong key does not tell the intended value.
fn further(config: &Config, places: &KeyPlaces, told: &[String]) -> Vec<String> {
    let is_open = |keys: &str| !told.iter().any(|line| line.starts_with(keys));
    let checks = FURTHER.iter().filter(|(keys, _)| is_open(keys));
    let faults = checks.filter_map(|(_, check)| check(config).err()).map(|StartError { why, .. }| why);
    let listeners = is_open("listener").then(|| settings::listeners(config));
    let of_listeners = listeners.into_iter().flatten().filter_map(Result::err).map(|error| error.to_string());
    faults.chain(of_listeners).map(|why| places.told(&why)).collect()
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

fn hostname(config: &Config) -> Result<(), StartError> {
    run::hostname(config).map(drop)
}

fn reports(config: &Config) -> Result<(), StartError> {
    super::reports::settings(config).map(drop)
}

fn filter(config: &Config) -> Result<(), StartError> {
    log::filter(&config.log.filter).map(drop).map_err(StartError::config)
}

/// The files that it names are read; no server is asked.
fn resolver(config: &Config) -> Result<(), StartError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(StartError::system)?;
    let _within = runtime.enter();
    run::resolver(config).map(drop)
}

fn roots(config: &Config) -> Result<(), StartError> {
    run::roots(config).map(drop)
}

/// The keys, and the faults of values that cannot come into force. A file that this user may not read is none: danelaw may run as
/// another one.
fn show(settings: &ConfigFlags, arguments: &ShowArguments) -> Result<(), String> {
    let (Loaded { config, keys, places, files: _, ended }, mut wrong) = match settings.load() {
        Ok(loaded) => (loaded, Vec::new()),
        Err(LoadError::Wrong { lines, rest: Some(rest) }) => (*rest, lines),
        Err(error) => return Err(error.to_string()),
    };
    let keys: Vec<_> =
        keys.into_iter().filter(|key| !(arguments.changed && key.is_default)).map(ShownKey::masked).collect();
    Stdout::print(&if arguments.json { in_json(&keys) } else { in_toml(&keys) });
    ended.iter().for_each(|line| log::caution(line));
    let closed = closed_files(&config);
    closed.iter().for_each(|file| log::caution(&places.told(&not_readable(file))));
    let is_closed = |line: &String| closed.iter().any(|file| line.starts_with(&format!("{}: ", file.key)));
    let others: Vec<String> = further(&config, &places, &wrong).into_iter().filter(|line| !is_closed(line)).collect();
    wrong.extend(others);
    if wrong.is_empty() { Ok(()) } else { Err(wrong.join("\n")) }
}

/// The files that this user may not read.
fn closed_files(config: &Config) -> Vec<NamedFile<'_>> {
    let is_closed =
        |file: &NamedFile<'_>| File::open(file.path).is_err_and(|error| error.kind() == ErrorKind::PermissionDenied);
    config.files().into_iter().filter(is_closed).collect()
}

fn not_readable(file: &NamedFile<'_>) -> String {
    format!(
        "{}: {} is not readable by this user, so it was not checked; danelaw's user must be able to read it: run `danelaw config \
         check` as that user",
        file.key,
        file.path.display()
    )
}

fn in_json(keys: &[ShownKey]) -> String {
    let line = |key: &ShownKey| {
        let object = json!({ "key": key.name, "value": key.value, "source": key.source });
        format!("{object}\n")
    };
    keys.iter().map(line).collect()
}

fn in_toml(keys: &[ShownKey]) -> String {
    let lines: Vec<(String, &str)> =
        keys.iter().map(|key| (format!("{} = {}", key.name, key.toml()), key.source.as_str())).collect();
    let width = lines.iter().map(|(line, _)| line.chars().count()).filter(|width| *width <= 60).max().unwrap_or(0);
    lines.into_iter().map(|(line, source)| format!("{line:<width$}  # {source}\n")).collect()
}
