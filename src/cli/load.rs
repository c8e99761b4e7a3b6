//! Where the configuration comes from: embedded defaults, a file, the environment, flags; later wins.

mod layers;

use std::path::{Path, PathBuf};

use figment::Figment;
use figment::error::Kind;
use time::OffsetDateTime;

use crate::config::Config;

pub(super) use layers::{Flag, SYSTEM_FILE};
use layers::{Key, Layers};

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub(super) enum LoadError {
    #[error("cannot read the configuration file {path}: {error}", path = .path.display())]
    Unreadable { path: PathBuf, error: std::io::Error },
    #[error("{0}")]
    Wrong(String),
}

/// The configuration that is in force.
pub(super) fn load(file: Option<&Path>, flags: &[Flag]) -> Result<Config, LoadError> {
    loaded(file, flags).map(|loaded| loaded.config)
}

/// The configuration that is in force, and where each key of it comes from.
pub(super) struct Loaded {
    pub(super) config: Config,
    pub(super) keys: Vec<Key>,
    /// The file that was read, if one was.
    pub(super) file: Option<String>,
}

/// The configuration that is in force, with the place of each key.
///
/// Whatever is wrong is told at once, and not one thing after the other: a key that is wrong is left out, and the rest is
/// looked at again.
pub(super) fn loaded(file: Option<&Path>, flags: &[Flag]) -> Result<Loaded, LoadError> {
    let layers = Layers::read(file, flags)?;
    let (mut wrong, mut without) = (Vec::new(), Vec::new());
    loop {
        let figment = layers.merged(&without);
        let found = match figment.extract::<Config>() {
            Ok(config) => match config.check(OffsetDateTime::now_utc().date()) {
                Ok(()) if wrong.is_empty() => {
                    return Ok(Loaded { config, keys: layers.keys(&figment), file: layers.file() });
                }
                Ok(()) => break,
                Err(unsound) => {
                    let path = unsound.key.split('.').map(str::to_owned).collect();
                    vec![(path, format!("{unsound} (in {})", place(&figment, unsound.key)))]
                }
            },
            Err(error) => error.into_iter().map(|error| (path(&error), explain(&error))).collect(),
        };
        for (path, line) in found {
            // What is wrong without the key too cannot be got out of the way.
            if path.is_empty() || without.contains(&path) {
                if wrong.is_empty() {
                    wrong.push(line);
                }
                return Err(LoadError::Wrong(wrong.join("\n")));
            }
            wrong.push(line);
            without.push(path);
        }
    }
    Err(LoadError::Wrong(wrong.join("\n")))
}

/// Where a key was set last.
fn place(figment: &Figment, key: &str) -> String {
    // Keys of a list's entries have no place by name; the list itself has one.
    let list = key.split('.').next().unwrap_or(key);
    let found = figment.find_metadata(key).or_else(|| figment.find_metadata(list));
    found.map_or_else(|| "the configuration".to_owned(), |data| data.name.to_string())
}

/// The key that is wrong.
fn path(error: &figment::Error) -> Vec<String> {
    let mut path = error.path.clone();
    match &error.kind {
        Kind::UnknownField(field, _) if path.last() != Some(field) => path.push(field.clone()),
        Kind::MissingField(field) => path.push(field.clone().into_owned()),
        _ => {}
    }
    path
}

/// What is wrong: the key, where it stands, what was found and what is allowed.
fn explain(error: &figment::Error) -> String {
    let place = error.metadata.as_ref().map_or_else(|| "the configuration".into(), |data| data.name.clone());
    let what = match &error.kind {
        Kind::UnknownField(_, allowed) => format!("there is no such key; it may be one of: {}", allowed.join(", ")),
        Kind::MissingField(_) => "this key is missing".to_owned(),
        Kind::UnknownVariant(found, allowed) => {
            format!("\"{found}\" does not do; it may be one of: {}", allowed.join(", "))
        }
        Kind::InvalidType(found, wanted) | Kind::InvalidValue(found, wanted) => {
            format!("{found} does not do; it must be {}", in_toml(wanted))
        }
        kind => kind.to_string().trim_end().to_owned(),
    };
    let key = path(error);
    let key = if key.is_empty() { String::new() } else { format!("{}: ", key.join(".")) };
    format!("{key}{what} (in {place})")
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

#[cfg(test)]
mod tests {
    use super::*;

    fn error(flag: &str) -> String {
        load(Some(Path::new("/dev/null")), &[flag.parse().unwrap()]).unwrap_err().to_string()
    }

    #[test]
    fn everything_that_is_wrong_is_told_at_once() {
        let flags =
            ["tls.level=DANE", "dns.timeout=3", "nonsense=1", "remote.prot=25", "limits.sessions=0", "remote.port=0"];
        let error =
            load(Some(Path::new("/dev/null")), &flags.map(|flag| flag.parse().unwrap())).unwrap_err().to_string();
        for flag in flags {
            let key = flag.split('=').next().unwrap();
            assert!(error.lines().any(|line| line.starts_with(&format!("{key}: "))), "{key} in {error}");
        }
        assert_eq!(error.lines().count(), flags.len(), "{error}");
        // What is wrong together with a default cannot be got out of the way.
        let error = load(Some(Path::new("/dev/null")), &["dns.timeout=1m".parse().unwrap()]).unwrap_err().to_string();
        assert!(error.starts_with("dns.deadline: ") && error.lines().count() == 1, "{error}");
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "[dns\n").unwrap();
        assert!(load(Some(file.path()), &[]).is_err());
    }

    #[test]
    fn where_each_key_comes_from() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let text = "received = false\n\n[tls]\n# why\nlevel = \"dane-only\"\n[[listener]]\naddress = \"127.0.0.1:1\"\n";
        std::fs::write(file.path(), text).unwrap();
        let keys = loaded(Some(file.path()), &["dns.attempts=7".parse().unwrap()]).unwrap().keys;
        let shown = |name: &str| {
            let key = keys.iter().find(|key| key.name == name).unwrap();
            (key.value.clone(), key.source.clone())
        };
        let path = file.path().display();
        assert_eq!(shown("received"), ("false".into(), format!("{path}:1")));
        assert_eq!(shown("tls.level"), ("\"dane-only\"".into(), format!("{path}:5")));
        assert_eq!(shown("listener"), ("[{ address = \"127.0.0.1:1\" }]".into(), format!("{path}:6")));
        assert_eq!(shown("dns.attempts"), ("7".into(), "--set dns.attempts".into()));
        assert_eq!(shown("timeouts.route"), ("\"4m\"".into(), "default".into()));
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
        ] {
            assert_eq!(error(flag), said);
        }
    }
}
