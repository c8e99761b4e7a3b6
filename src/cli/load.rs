//! Where the configuration comes from: embedded defaults, a file, the environment, flags; later wins.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use figment::error::Kind;
use figment::providers::{Env, Format, Toml};
use figment::value::{Dict, Map, Value};
use figment::{Figment, Metadata, Profile, Provider};
use time::OffsetDateTime;

use crate::config::{Config, DEFAULTS};

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
    match config.check(OffsetDateTime::now_utc().date()) {
        Ok(()) => Ok(config),
        Err(unsound) => Err(LoadError::Wrong(format!("{unsound} (in {})", place(&figment, unsound.key)))),
    }
}

/// Where a key was set last.
fn place(figment: &Figment, key: &str) -> String {
    // Keys of a list's entries have no place by name; the list itself has one.
    let list = key.split('.').next().unwrap_or(key);
    let found = figment.find_metadata(key).or_else(|| figment.find_metadata(list));
    found.map_or_else(|| "the configuration".to_owned(), |data| data.name.to_string())
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
            Kind::UnknownVariant(found, allowed) => {
                format!("\"{found}\" does not do; it may be one of: {}", allowed.join(", "))
            }
            Kind::InvalidType(found, wanted) | Kind::InvalidValue(found, wanted) => {
                format!("{found} does not do; it must be {}", in_toml(wanted))
            }
            kind => kind.to_string().trim_end().to_owned(),
        };
        if !lines.is_empty() {
            lines.push('\n');
        }
        let key = if key.is_empty() { String::new() } else { format!("{}: ", key.join(".")) };
        let _ = write!(lines, "{key}{what} (in {place})");
    }
    lines
}

/// What the types' own errors call expected, as an operator writes it.
fn in_toml(wanted: &str) -> &str {
    match wanted {
        "a duration" => "a number with its unit in quotes, such as \"30s\" or \"4m\"",
        "a boolean" => "true or false",
        "a string" => "text in quotes",
        "a sequence" => "a list in brackets, such as [\"192.0.2.1\"]; a listener's table begins with [[listener]]",
        "u16" => "a whole number from 0 to 65535",
        "usize" => "a whole number from 0 up",
        // These are the byte sizes' words.
        "parsable string" | "integer overflow" | "an integer or string" => "a size such as \"100MiB\"",
        wanted if wanted.starts_with("struct ") => "a table of keys",
        wanted => wanted,
    }
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
        if key.split('.').any(|part| part.trim().is_empty()) {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn error(flag: &str) -> String {
        load(Some(Path::new("/dev/null")), &[flag.to_owned()]).unwrap_err().to_string()
    }

    #[test]
    fn an_error_says_the_key_what_was_found_what_is_allowed_and_where() {
        for (flag, said) in [
            (
                "tls.level=DANE",
                "tls.level: \"DANE\" does not do; it may be one of: dane, dane-only, encrypt (in --set tls.level)",
            ),
            (
                "tls.levle=dane",
                "tls.levle: there is no such key; it may be one of: level, insecure_mx, post_quantum, digests (in --set tls.levle)",
            ),
            ("tls=dane", "tls: string \"dane\" does not do; it must be a table of keys (in --set tls)"),
            (
                "timeouts.grace=30",
                "timeouts.grace: unsigned int `30` does not do; it must be a number with its unit in quotes, such as \"30s\" \
                 or \"4m\" (in --set timeouts.grace)",
            ),
            ("received=yes", "received: string \"yes\" does not do; it must be true or false (in --set received)"),
            (
                "remote.port=smtp",
                "remote.port: string \"smtp\" does not do; it must be a whole number from 0 to 65535 (in --set remote.port)",
            ),
            (
                "limits.sessions=1.5",
                "limits.sessions: float `1.5` does not do; it must be a whole number from 0 up (in --set limits.sessions)",
            ),
            (
                "limits.message_size=ten",
                "limits.message_size: string \"ten\" does not do; it must be a size such as \"100MiB\" (in --set limits.message_size)",
            ),
            (
                "dns.servers=9.9.9.9",
                "dns.servers: string \"9.9.9.9\" does not do; it must be a list in brackets, such as [\"192.0.2.1\"]; a \
                 listener's table begins with [[listener]] (in --set dns.servers)",
            ),
            (
                "listener=[{address=\"localhost:10025\"}]",
                "listener.0.address: \"localhost:10025\" is no address and port such as 127.0.0.1:10025 or [::1]:10025, and no \
                 unix:/path (in --set listener)",
            ),
            // What is well-formed and wrong has a place too.
            ("limits.sessions=0", "limits.sessions: 0 would stop all mail (in --set limits.sessions)"),
            ("listener=[]", "listener: there is none; give at least one address to listen on (in --set listener)"),
            (
                "listener=[{address=\"127.0.0.1:1\",allow=[]}]",
                "listener.allow: the list is empty; nobody could connect (in --set listener)",
            ),
            (".level=dane", "--set .level=dane: write it as KEY=VALUE, as in --set dns.timeout=2s"),
        ] {
            assert_eq!(error(flag), said);
        }
    }
}
