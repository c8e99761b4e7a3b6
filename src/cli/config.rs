//! `danelaw config`: whether a configuration is good, and what it amounts to.

use std::process::ExitCode;

use super::load::{self, LoadError, Loaded, SYSTEM_FILE};
use super::run::{self, Failed};
use super::{EX_CONFIG, Settings, log};
use crate::config::Config;

/// Arguments of the subcommand.
#[derive(Debug, clap::Subcommand)]
pub(super) enum Arguments {
    /// Say all that is wrong with the configuration, or that nothing is (exit status 78, or 0).
    Check {
        /// Judge as a start and a reload do: a rule that has ended is reported, and is no fault.
        #[arg(long)]
        allow_ended_rules: bool,
    },
    /// Print each key with the value in force and where it comes from.
    Show,
}

/// Does it.
pub(super) fn run(arguments: &Arguments, settings: &Settings) -> ExitCode {
    let done = match arguments {
        Arguments::Check { allow_ended_rules: true } => check(settings, Ended::Told),
        Arguments::Check { allow_ended_rules: false } => check(settings, Ended::Fault),
        Arguments::Show => show(settings),
    };
    match done {
        Ok(text) => {
            print!("{text}");
            ExitCode::SUCCESS
        }
        Err(wrong) => {
            log::complain(&wrong);
            ExitCode::from(EX_CONFIG)
        }
    }
}

/// What a key has to be good for beside its form.
type Check = fn(&Config) -> Result<(), String>;
/// What is looked at besides, and what the keys that it depends on begin with.
const FURTHER: [(&str, Check); 3] = [("hostname", hostname), ("log.filter", filter), ("dns.", resolver)];

/// How a rule that has ended is judged.
enum Ended {
    Told,
    Fault,
}

fn check(settings: &Settings, judged: Ended) -> Result<String, String> {
    let (config, mut wrong, ended, file) = match load::loaded(settings.config.as_deref(), &settings.set) {
        Ok(Loaded { config, keys: _, file, ended }) => (config, Vec::new(), ended, file),
        Err(LoadError::Wrong { lines, ended, rest: Some(rest) }) => (*rest, lines, ended, None),
        Err(error) => return Err(error.to_string()),
    };
    match judged {
        Ended::Fault => wrong.extend(ended),
        Ended::Told => ended.iter().for_each(|line| log::caution(line)),
    }
    for (keys, check) in FURTHER {
        // What stands in the place of a key that is wrong says nothing of what was meant.
        if !wrong.iter().any(|line| line.starts_with(keys)) {
            wrong.extend(check(&config).err());
        }
    }
    if !wrong.is_empty() {
        return Err(wrong.join("\n"));
    }
    Ok(match file {
        Some(file) => format!("the configuration is good; its file is {file}\n"),
        None => format!("the configuration is good; there is no {SYSTEM_FILE}, and none was named\n"),
    })
}

fn hostname(config: &Config) -> Result<(), String> {
    run::hostname(config).map(drop).map_err(|Failed { why, .. }| why)
}

fn filter(config: &Config) -> Result<(), String> {
    log::filter(&config.log.filter).map(drop)
}

/// The files that it names are read, and nobody is asked.
fn resolver(config: &Config) -> Result<(), String> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|error| error.to_string())?;
    let _within = runtime.enter();
    run::resolver(config).map(drop).map_err(|Failed { why, .. }| why)
}

fn show(settings: &Settings) -> Result<String, String> {
    let loaded = load::loaded(settings.config.as_deref(), &settings.set);
    let Loaded { config: _, keys, file: _, ended: _ } = loaded.map_err(|error| error.to_string())?;
    let lines: Vec<(String, String)> =
        keys.into_iter().map(|key| (format!("{} = {}", key.name, key.value), key.source)).collect();
    let width = lines.iter().map(|(line, _)| line.chars().count()).filter(|width| *width <= 60).max().unwrap_or(0);
    Ok(lines.into_iter().map(|(line, source)| format!("{line:<width$}  # {source}\n")).collect())
}
