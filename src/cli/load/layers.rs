//! The places that settings come from, one above the other.

use std::ffi::OsString;
use std::path::Path;
use std::str::FromStr;

use figment::value::{Dict, Map, Num, Value};
use figment::{Figment, Metadata, Profile, Provider};

use super::files::{ConfigFiles, TomlText};
use super::left_out::LeftOutKeys;
use super::place::KeyPlaces;
use super::{LoadError, wrong};
use crate::config::{DEFAULTS, EntryKey};

/// The prefix of environment variables that are settings.
pub(super) const PREFIX: &str = "DANELAW_";
/// The name of the lowest layer.
const BUILT_IN: &str = "the built-in defaults";

/// All layers; each one overrides those before it.
pub(super) struct Layers {
    defaults: TomlText,
    files: ConfigFiles,
    environment: Vec<Flag>,
    flags: Vec<Flag>,
}

/// One key: its value, and the layer that has set it.
#[derive(Debug)]
pub(crate) struct ShownKey {
    pub(crate) name: String,
    pub(crate) value: Value,
    pub(crate) source: String,
    /// Whether the value is that of the built-in defaults, wherever it comes from.
    pub(crate) is_default: bool,
}

impl ShownKey {
    /// The value as it would stand in a file.
    pub(crate) fn toml(&self) -> String {
        shown(&self.value)
    }
}

impl Layers {
    /// Reads the files.
    pub(super) fn read(file: Option<&Path>, flags: &[Flag]) -> Result<Self, LoadError> {
        Ok(Self {
            defaults: TomlText::new(BUILT_IN.to_owned(), DEFAULTS.to_owned()),
            files: ConfigFiles::read(file)?,
            environment: Flag::of_variables(std::env::vars_os()),
            flags: flags.to_vec(),
        })
    }

    /// The files that were read.
    pub(super) fn files(&self) -> Vec<String> {
        self.files.names()
    }

    /// The layers in one, without these keys of all but the defaults.
    pub(super) fn merged(&self, keys: &LeftOutKeys) -> Figment {
        let mut figment = Figment::from(&self.defaults);
        self.each(keys, |layer| figment = std::mem::take(&mut figment).merge(layer));
        figment
    }

    /// The values that stand in the place of a table, each with its layer. These keys do not count.
    pub(super) fn no_tables(&self, keys: &LeftOutKeys) -> Vec<(String, Value, Metadata)> {
        let defaults = self.defaults.data().unwrap_or_default().remove(&Profile::Default).unwrap_or_default();
        let mut found = Vec::new();
        self.each(keys, |layer| {
            let data = layer.data().unwrap_or_default().into_values();
            let values = data.flat_map(|dict| wrong::no_tables(dict, &defaults));
            found.extend(values.map(|(name, value)| (name, value, layer.metadata())));
        });
        found
    }

    /// Each layer above the defaults, the lowest first, without these keys.
    fn each(&self, keys: &LeftOutKeys, mut take: impl FnMut(Without<'_>)) {
        for file in self.files.layers() {
            take(Without { provider: file, keys });
        }
        self.environment.iter().chain(&self.flags).for_each(|flag| take(Without { provider: flag, keys }));
    }

    /// Each key that is in force, in the order of the alphabet, and the places of those that are not of the defaults. A place is looked for
    /// in the text of its file, so both are made at once.
    pub(super) fn keys(&self, figment: &Figment) -> (Vec<ShownKey>, KeyPlaces) {
        let (data, defaults) = (figment.data().unwrap_or_default(), Figment::from(&self.defaults));
        let (mut keys, mut places) = (Vec::new(), KeyPlaces::default());
        for dict in data.values() {
            leaves(dict, "", &mut |name, value| {
                let layer = figment.get_metadata(value.tag()).filter(|layer| !is_built_in(layer));
                let source = layer.map(|layer| {
                    if name == "listener" {
                        self.add_entries(&mut places, value, &layer.name);
                    }
                    let path: Vec<String> = name.split('.').map(str::to_owned).collect();
                    let place = self.place(&layer.name, &path);
                    places.add(&name, place.clone());
                    place
                });
                let source = source.unwrap_or_else(|| "default".to_owned());
                let is_default = defaults.find_value(&name).is_ok_and(|default| shown(&default) == shown(value));
                keys.push(ShownKey { source, value: value.clone(), name, is_default });
            });
        }
        (keys, places)
    }

    /// Adds the places of the keys of each listener.
    fn add_entries(&self, places: &mut KeyPlaces, listeners: &Value, layer: &str) {
        for (entry, key) in keys_of_entries(listeners) {
            let path = ["listener".to_owned(), entry.to_string(), key.clone()];
            let key = format!("listener.{key}");
            places.add(&EntryKey { key: &key, entry }.to_string(), self.place(layer, &path));
        }
    }

    /// Where a key stands that a layer of this name has set: file and line, variable or flag.
    pub(super) fn place(&self, layer: &str, path: &[String]) -> String {
        self.files.place(layer, path).unwrap_or_else(|| layer.to_owned())
    }
}

/// Whether this is the lowest layer.
pub(super) fn is_built_in(layer: &Metadata) -> bool {
    layer.name == BUILT_IN
}

/// The keys of each entry of a list of tables, with the place of the entry in the list.
fn keys_of_entries(list: &Value) -> impl Iterator<Item = (usize, &String)> {
    let entries = list.as_array().unwrap_or_default().iter().enumerate();
    entries.flat_map(|(entry, value)| value.as_dict().into_iter().flat_map(Dict::keys).map(move |key| (entry, key)))
}

fn leaves<'a>(dict: &'a Dict, above: &str, found: &mut impl FnMut(String, &'a Value)) {
    for (name, value) in dict {
        let name = if above.is_empty() { name.clone() } else { format!("{above}.{name}") };
        match value {
            Value::Dict(_, dict) => leaves(dict, &name, found),
            value => found(name, value),
        }
    }
}

/// A value as it is written in TOML.
fn shown(value: &Value) -> String {
    match value {
        Value::String(_, text) => format!("{text:?}"),
        Value::Char(_, char) => format!("\"{char}\""),
        Value::Bool(_, truth) => truth.to_string(),
        Value::Num(_, number) => match (number.to_i128(), number.to_u128(), number) {
            (Some(whole), ..) => whole.to_string(),
            (_, Some(whole), _) => whole.to_string(),
            (.., Num::F32(float)) => float.to_string(),
            (.., Num::F64(float)) => float.to_string(),
            _ => String::new(),
        },
        Value::Empty(..) => "\"\"".to_owned(),
        Value::Dict(_, dict) => {
            let pairs: Vec<String> = dict.iter().map(|(key, value)| format!("{key} = {}", shown(value))).collect();
            format!("{{ {} }}", pairs.join(", "))
        }
        Value::Array(_, items) => format!("[{}]", items.iter().map(shown).collect::<Vec<_>>().join(", ")),
    }
}

/// A layer without some keys.
struct Without<'a> {
    provider: &'a dyn Provider,
    keys: &'a LeftOutKeys,
}

impl Provider for Without<'_> {
    fn metadata(&self) -> Metadata {
        self.provider.metadata()
    }

    fn data(&self) -> figment::Result<Map<Profile, Dict>> {
        let mut data = self.provider.data()?;
        data.values_mut().for_each(|dict| self.keys.take_out_of(dict));
        Ok(data)
    }
}

/// One `--set KEY=VALUE`, or one variable of the environment.
#[derive(Debug, Clone)]
pub(crate) struct Flag {
    /// As the operator has written it.
    name: String,
    path: Vec<String>,
    value: Value,
}

/// A flag that sets no key.
#[derive(Debug, thiserror::Error)]
#[error("write it as KEY=VALUE, as in --set dns.timeout=2s")]
pub(crate) struct NoFlag;

impl Flag {
    fn new(name: String, key: &str, value: &str) -> Self {
        let Ok(value) = value.parse();
        Self { name, path: key.split('.').map(str::to_owned).collect(), value }
    }

    /// The variables that are settings, in the order of their names. Two underscores stand for the dot.
    fn of_variables(variables: impl Iterator<Item = (OsString, OsString)>) -> Vec<Self> {
        let mut variables: Vec<_> = variables.collect();
        variables.sort();
        let of = |(name, value): (OsString, OsString)| {
            let (name, value) = (name.to_string_lossy(), value.to_string_lossy());
            let key = name.to_lowercase().strip_prefix(&PREFIX.to_lowercase())?.replace("__", ".");
            Some(Self::new(name.into_owned(), &key, &value))
        };
        variables.into_iter().filter_map(of).collect()
    }
}

impl FromStr for Flag {
    type Err = NoFlag;

    fn from_str(text: &str) -> Result<Self, NoFlag> {
        let (key, value) = text.split_once('=').ok_or(NoFlag)?;
        if key.split('.').any(|part| part.trim().is_empty()) {
            return Err(NoFlag);
        }
        Ok(Self::new(format!("--set {}", key.trim()), key.trim(), value))
    }
}

impl Provider for Flag {
    fn metadata(&self) -> Metadata {
        Metadata::named(self.name.clone())
    }

    fn data(&self) -> figment::Result<Map<Profile, Dict>> {
        let above = |value: Value, part: &String| Value::from(Dict::from([(part.clone(), value)]));
        let nested = self.path.iter().rev().fold(self.value.clone(), above);
        Ok(Profile::Default.collect(nested.into_dict().unwrap_or_default()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_variable_is_a_flag_of_its_own_name() {
        let set = [
            ("DANELAW_TLS__LEVEL", "dane-only", Some("tls|level")),
            ("danelaw_tls.level", "dane-only", Some("tls|level")),
            ("DANELAW_DNS__SERVERS", "[\"9.9.9.9\"]", Some("dns|servers")),
            ("DANELAW_HOSTNAME", "", Some("hostname")),
            ("DANELAW_TLS__", "1", Some("tls|")),
            ("DANELAW_", "1", Some("")),
            ("DANELAW", "1", None),
            ("MY_DANELAW_TLS__LEVEL", "1", None),
        ];
        for (name, value, path) in set {
            let variables = [(name.into(), value.into())].into_iter();
            let flags = Flag::of_variables(variables);
            let found = flags.first().map(|flag| (flag.path.join("|"), flag.metadata().name.into_owned()));
            assert_eq!(found, path.map(|path| (path.to_owned(), name.to_owned())));
        }
    }
}
