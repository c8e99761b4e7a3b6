//! Where the configuration comes from: embedded defaults, a file, the environment, flags; later wins.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use figment::error::Kind;
use figment::providers::{Env, Format, Toml};
use figment::value::{Dict, Map, Value};
use figment::{Figment, Metadata, Profile, Provider};
use time::OffsetDateTime;

use crate::config::{Config, DEFAULTS, Unsound};

/// The file that is read if none is named, and may be absent.
const SYSTEM_FILE: &str = "/etc/danelaw/danelaw.toml";

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub(super) enum LoadError {
    #[error("cannot read the configuration file {path}: {error}", path = .path.display())]
    Unreadable { path: PathBuf, error: std::io::Error },
    #[error("--set {0}: write it as KEY=VALUE, as in --set dns.timeout=2s")]
    Flag(String),
    #[error("{0}")]
    Wrong(String),
    #[error("{0}")]
    Unsound(#[from] Unsound),
}

/// The configuration that is in force.
pub(super) fn load(file: Option<&Path>, flags: &[String]) -> Result<Config, LoadError> {
    let mut figment = Figment::from(Text { name: "the built-in defaults".to_owned(), toml: DEFAULTS.to_owned() });
    if let Some(text) = read(file)? {
        figment = figment.merge(text);
    }
    figment = figment.merge(Env::prefixed("DANELAW_").split("__"));
    for flag in flags {
        figment = figment.merge(Flag::parse(flag)?);
    }
    let config: Config = figment.extract().map_err(|error| LoadError::Wrong(explain(error)))?;
    config.check(OffsetDateTime::now_utc().date())?;
    Ok(config)
}

fn read(file: Option<&Path>) -> Result<Option<Text>, LoadError> {
    let path = file.unwrap_or(Path::new(SYSTEM_FILE));
    match std::fs::read_to_string(path) {
        Ok(toml) => Ok(Some(Text { name: path.display().to_string(), toml })),
        Err(error) if file.is_none() && error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(LoadError::Unreadable { path: path.to_owned(), error }),
    }
}

/// A line for each thing that is wrong: the key, where it stands, what was found and what is allowed.
fn explain(error: figment::Error) -> String {
    let mut lines = String::new();
    for error in error {
        let place = error.metadata.as_ref().map_or_else(|| "the configuration".into(), |data| data.name.clone());
        let mut key = error.path.clone();
        let what = match &error.kind {
            Kind::UnknownField(field, allowed) => {
                if key.last() != Some(field) {
                    key.push(field.clone());
                }
                format!("there is no such key; it may be one of: {}", allowed.join(", "))
            }
            Kind::MissingField(field) => {
                key.push(field.clone().into_owned());
                "this key is missing".to_owned()
            }
            kind => kind.to_string(),
        };
        if !lines.is_empty() {
            lines.push('\n');
        }
        let key = if key.is_empty() { String::new() } else { format!("{}: ", key.join(".")) };
        let _ = write!(lines, "{key}{what} (in {place})");
    }
    lines
}

/// A TOML text with the name that errors give it.
struct Text {
    name: String,
    toml: String,
}

impl Provider for Text {
    fn metadata(&self) -> Metadata {
        Metadata::named(self.name.clone())
    }

    fn data(&self) -> figment::Result<Map<Profile, Dict>> {
        Toml::string(&self.toml).data()
    }
}

/// One `--set KEY=VALUE`.
struct Flag {
    key: String,
    value: Value,
}

impl Flag {
    fn parse(text: &str) -> Result<Self, LoadError> {
        let (key, value) = text.split_once('=').ok_or_else(|| LoadError::Flag(text.to_owned()))?;
        if key.trim().is_empty() {
            return Err(LoadError::Flag(text.to_owned()));
        }
        let Ok(value) = value.parse();
        Ok(Self { key: key.trim().to_owned(), value })
    }
}

impl Provider for Flag {
    fn metadata(&self) -> Metadata {
        Metadata::named(format!("--set {}", self.key))
    }

    fn data(&self) -> figment::Result<Map<Profile, Dict>> {
        let nested = figment::util::nest(&self.key, self.value.clone());
        let dict = nested.into_dict().unwrap_or_default();
        Ok(Profile::Default.collect(dict))
    }
}
