//! The error of a key, in an operator's words: the key, the value that was found, the values that would do, and how to
//! mend it.

use std::borrow::Cow;

use figment::error::{Actual, Kind};
use figment::providers::{Format, Toml};
use figment::value::{Dict, Value};
use figment::{Profile, Provider};

use super::layers::PREFIX;
use super::left_out::{self, LeftOutKeys, TABLES};
use super::masked::without_secret;
use crate::config::{DEFAULTS, EntryKey};
use crate::excerpt::cut;

/// The key that is wrong, as the operator counts, where these are left out.
pub(super) fn path(error: &figment::Error, without: &LeftOutKeys) -> Vec<String> {
    match &error.kind {
        Kind::UnknownField(field, _) => {
            // Any key, and no place in a list.
            let above = error.path.strip_suffix(std::slice::from_ref(field)).unwrap_or(&error.path);
            [without.original(above), vec![field.clone()]].concat()
        }
        // Of a table in the place of a word the library names the first key, as if that were the word.
        Kind::UnknownVariant(word, _) => {
            without.original(error.path.strip_suffix(std::slice::from_ref(word)).unwrap_or(&error.path))
        }
        Kind::MissingField(field) => [without.original(&error.path), vec![field.clone().into_owned()]].concat(),
        _ => without.original(&error.path),
    }
}

/// The values of a layer that stand in the place of a table of the defaults. The library reads a list, as `[[tls]]` makes one, as the
/// values of the table in the order of its keys. Any other value replaces the defaults of the table, and a table of a higher layer hides
/// that value.
pub(super) fn no_tables(layer: Dict, defaults: &Dict) -> impl Iterator<Item = (String, Value)> {
    let is_table = move |name: &str| defaults.get(name).is_some_and(|value| value.as_dict().is_some());
    layer.into_iter().filter(move |(name, value)| value.as_dict().is_none() && is_table(name))
}

/// The first entry of a list of tables that is no table, with its path. The library reads a list as the values of the entry in the order
/// of its keys.
pub(super) fn no_entry(merged: &Value) -> Option<(Vec<String>, &Value)> {
    TABLES.iter().find_map(|name| {
        let entries = merged.find_ref(name)?.as_array()?;
        let place = entries.iter().position(|entry| entry.as_dict().is_none())?;
        Some((vec![(*name).to_owned(), place.to_string()], &entries[place]))
    })
}

/// The line for a value that stands in the place of a table.
pub(super) fn no_table(path: &[String], found: &Value, place: &str) -> String {
    match (path, found) {
        ([name], Value::Array(..)) => list_for_table(name, place),
        _ => line(&Kind::InvalidType(found.to_actual(), "struct ".to_owned()).into(), path, place),
    }
}

/// The line for a list in the place of a table.
fn list_for_table(name: &str, place: &str) -> String {
    let written = match is_no_file(place) {
        true => format!("set its keys one by one, as in {name}.KEY"),
        false => format!("in single brackets: write [{name}] in the place of [[{name}]], once"),
    };
    format!("{name}: a list of tables is not allowed; it must be one table, {written} (in {place})")
}

/// One line for a fault of this key, which stands in this place.
pub(super) fn line(error: &figment::Error, path: &[String], place: &str) -> String {
    let what = match &error.kind {
        Kind::UnknownField(_, allowed) => renamed(path, place).unwrap_or_else(|| {
            format!("there is no such key; it may be one of: {}{}", allowed.join(", "), advice(path, place, allowed))
        }),
        Kind::MissingField(_) => "this key is missing; each entry needs it".to_owned(),
        Kind::UnknownVariant(found, allowed) => {
            // The empty word would not be seen.
            let words: Vec<_> = allowed.iter().map(|word| if word.is_empty() { "\"\"" } else { word }).collect();
            format!("{:?} is not allowed; it may be one of: {}", cut(found, MAX_SHOWN), words.join(", "))
        }
        Kind::InvalidType(found, wanted) | Kind::InvalidValue(found, wanted) => {
            format!("{} is not allowed; it must be {}", shown(found), in_toml(wanted, path, found))
        }
        kind => kind.to_string().trim_end().to_owned(),
    };
    if path.is_empty() {
        return match no_toml(&what) {
            Some((line, what)) => format!("{what} (in {place}:{line})"),
            None => format!("{what} (in {place})"),
        };
    }
    // Places in lists are no keys: the text counts listeners and rules from 1, and the path from 0.
    let unknown = matches!(error.kind, Kind::UnknownField(..)).then(|| path.len() - 1);
    let is_key = |(at, part): &(usize, &str)| part.parse::<usize>().is_err() || unknown == Some(*at);
    let keys: Vec<_> =
        path.iter().map(String::as_str).enumerate().filter(is_key).map(|(_, part)| written(part)).collect();
    let key = keys.join(".");
    let of_entry = left_out::entry(path).map(|entry| EntryKey { key: &key, entry: entry[1].parse().unwrap_or(0) });
    let subject = of_entry.map_or_else(|| key.clone(), |of_entry| of_entry.to_string());
    format!("{subject}: {what} (in {place})")
}

/// A part of a key as TOML has it. One of other characters stands in quotes; it may steer the terminal that shows it.
fn written(part: &str) -> Cow<'_, str> {
    match is_bare(part) {
        true => part.into(),
        false => format!("{part:?}").into(),
    }
}

fn is_bare(part: &str) -> bool {
    !part.is_empty() && part.bytes().all(|octet| octet.is_ascii_alphanumeric() || matches!(octet, b'_' | b'-'))
}

/// The new name of a key in the section that was called ledger, for the place that has the old one.
fn renamed(path: &[String], place: &str) -> Option<String> {
    let [section] = path else { return None };
    let (section, in_environment) = (section.to_lowercase(), place.to_uppercase().starts_with(PREFIX));
    let is_old = section == "ledger" || in_environment && section.starts_with("ledger_");
    let new = match place.strip_prefix("--set ") {
        Some(key) => format!("--set {}", key.replacen("ledger", "store", 1)),
        None if in_environment => {
            let name = place.to_uppercase();
            let (_, key) = name.split_once("LEDGER").unwrap_or_default();
            format!("{PREFIX}STORE__{}", key.trim_start_matches(['_', '.']))
        }
        None => "[store], with the keys path, entries and expiry".to_owned(),
    };
    is_old.then(|| format!("the section ledger is called store now; write {new}"))
}

/// Further advice on a key that does not exist.
fn advice(path: &[String], place: &str, allowed: &[&str]) -> String {
    let Some(written) = path.last() else { return String::new() };
    let (key, in_environment) = (written.to_lowercase(), place.to_uppercase().starts_with(PREFIX));
    if key != *written && allowed.contains(&key.as_str()) {
        return format!("; write it in small letters: {key}");
    }
    if path.len() > 1 {
        return elsewhere(&key, place);
    }
    if let Some((table, rest)) = in_table(&key) {
        return match in_environment {
            true => format!(
                "; two underscores stand for the dot, as in {PREFIX}{}__{}",
                table.to_uppercase(),
                rest.to_uppercase()
            ),
            false => format!("; write it with a dot and without quotes: {table}.{rest}"),
        };
    }
    match in_environment {
        false => elsewhere(&key, place),
        true if key == "port" || key.starts_with("port_") || key.starts_with("service_") => {
            "; Kubernetes sets this for a Service of the name danelaw: set enableServiceLinks: false in the pod".into()
        }
        true => {
            "; every variable that begins with DANELAW_ is taken for a setting: unset it or correct its name".into()
        }
    }
}

/// The table and the key in it, where another character stands in the place of the dot.
fn in_table(key: &str) -> Option<(String, &str)> {
    defaults().into_iter().find_map(|(table, value)| {
        let rest = key.strip_prefix(&table)?;
        let rest = rest.strip_prefix("__").or_else(|| rest.strip_prefix(['_', '.', '-']))?;
        value.as_dict()?.contains_key(rest).then_some((table, rest))
    })
}

/// The tables that have a key of this name: in TOML a key belongs to the table of the header above it.
fn elsewhere(key: &str, place: &str) -> String {
    if !is_bare(key) {
        return String::new();
    }
    let defaults = defaults();
    if defaults.get(key).is_some_and(|value| value.as_dict().is_none() && value.as_array().is_none()) {
        return format!("; {key} stands above the first line in brackets");
    }
    let has = |value: &Value| match value {
        Value::Array(_, entries) => entries.iter().any(|entry| entry.find_ref(key).is_some()),
        value => value.find_ref(key).is_some(),
    };
    let found: Vec<&String> = defaults.iter().filter(|(_, value)| has(value)).map(|(table, _)| table).collect();
    let listed = |form: &dyn Fn(&str) -> String| found.iter().map(|table| form(table)).collect::<Vec<_>>();
    let header = |table: &str| match TABLES.contains(&table) {
        true => format!("[[{table}]]"),
        false => format!("[{table}]"),
    };
    match (found.is_empty(), is_no_file(place)) {
        (true, _) => String::new(),
        (false, true) => format!("; there is {}", listed(&|table| format!("{table}.{key}")).join(" and ")),
        // The file of the package has a "#" before the header of a list as well.
        (false, false) => format!(
            "; there is {}: write it below {}, whose # must go too",
            listed(&|table| format!("{table}.{key}")).join(" and "),
            listed(&header).join(" or ")
        ),
    }
}

/// Whether a key stands in a flag or a variable, which name its table.
fn is_no_file(place: &str) -> bool {
    place.contains("--set ") || place.to_uppercase().starts_with(PREFIX)
}

fn defaults() -> Dict {
    let data = Toml::string(DEFAULTS).data().ok().and_then(|mut data| data.remove(&Profile::Default));
    data.unwrap_or_default()
}

/// How many characters of a line or of a value are shown: the file may be another one than was meant.
const MAX_SHOWN: usize = 100;

/// The error of a file that is not TOML: the line, and the fault in it.
fn no_toml(message: &str) -> Option<(usize, String)> {
    let mut lines = message.lines();
    let (line, column) = lines.next()?.strip_prefix("TOML parse error at line ")?.split_once(", column ")?;
    let text = lines.by_ref().find_map(|shown| shown.strip_prefix(line)?.trim_start().strip_prefix("| "))?;
    let what: Vec<&str> = lines.skip(1).collect();
    let what = what.join(", ");
    // Of a value, and of no header.
    let hint = match what.contains("expected") && text.contains('=') {
        true if text.contains(['\u{201c}', '\u{201d}', '\u{201e}', '\u{2018}', '\u{2019}']) => {
            "; write straight quotes (\") in the place of those of a text processor"
        }
        true => "; texts, days, durations and sizes stand in quotes, as in timeout = \"3s\"",
        false => "",
    };
    let text = cut(without_secret("", text), MAX_SHOWN);
    Some((line.parse().ok()?, format!("{text:?} is no TOML at column {column}: {what}{hint}")))
}

/// The value that was found, as it is written.
fn shown(found: &Actual) -> String {
    match found {
        Actual::Bool(truth) => truth.to_string(),
        Actual::Unsigned(number) => number.to_string(),
        Actual::Signed(number) => number.to_string(),
        Actual::Float(number) => format!("{number:?}"),
        Actual::Char(char) => format!("\"{char}\""),
        Actual::Str(text) => format!("{:?}", cut(without_secret("", text), MAX_SHOWN)),
        Actual::Map => "a table of keys".to_owned(),
        Actual::Seq => "a list".to_owned(),
        other => other.to_string(),
    }
}

/// The expectation in the types' own errors, as an operator writes it.
fn in_toml(wanted: &str, path: &[String], found: &Actual) -> String {
    let tables = |name: &str, keys: &str| {
        format!(
            "a list of tables, each under [[{name}]] in the file; --set and the environment take the list as a whole, as in \
             --set '{name}=[{{{keys}}}]'"
        )
    };
    let text = match (wanted, path) {
        ("a sequence", _) if is_torn(found) => return torn(path, found),
        ("a sequence", [list]) if list == "listener" => return tables("listener", "address=\"127.0.0.1:10025\""),
        ("a sequence", [list]) if list == "rule" => {
            return tables("rule", "domain=\"example.com\",level=\"dane-only\"");
        }
        ("a sequence", [list]) if list == "negative_trust_anchor" => {
            return tables(list, "zone=\"cluster.local\",reason=\"ticket 4711\",until=\"2027-01-31\"");
        }
        ("a sequence", _) => match found {
            Actual::Str(text) => return format!("a list in brackets: [{text:?}]"),
            _ => example_of_list(path),
        },
        ("a duration", _) => "a number with its unit in quotes, such as \"30s\" or \"4m\"",
        ("a boolean", _) => "true or false, without quotes",
        ("a string", [.., key]) if key == "until" => "a day, such as 2027-01-31",
        ("a string", _) => "text in quotes",
        ("u16", _) => "a whole number from 1 to 65535",
        ("usize" | "u64", _) => "a whole number from 0 up",
        // These are the byte sizes' words.
        ("parsable string" | "integer overflow" | "an integer or string", _) => "a size such as \"100MiB\"",
        (wanted, [list, _]) if wanted.starts_with("struct ") && TABLES.contains(&list.as_str()) => {
            return format!("a table of keys, such as [[{list}]] and a line below it for each key");
        }
        (wanted, _) if wanted.starts_with("struct ") => {
            return format!("a table of keys, such as [{}] and a line below it for each key", path.join("."));
        }
        (wanted, _) if wanted == "enum" || wanted.starts_with("enum ") => {
            "one of its words, in quotes (danelaw.toml(5) has them)"
        }
        (wanted, _) => wanted,
    };
    text.to_owned()
}

/// Whether a text begins as a list does, and is none.
fn is_torn(found: &Actual) -> bool {
    matches!(found, Actual::Str(text) if text.trim_start().starts_with('['))
}

/// The expectation in place of such a text.
fn torn(path: &[String], found: &Actual) -> String {
    // Flags and variables take no single quotes.
    let has_single_quotes = matches!(found, Actual::Str(text) if text.contains('\'') && !text.contains('"'));
    let fault = if has_single_quotes { "write double quotes" } else { "a bracket, a quote or a comma is missing" };
    format!("{}; {fault}", example_of_list(path))
}

fn example_of_list(path: &[String]) -> &'static str {
    match path {
        [list] if list == "listener" => "a list of tables, such as [{address=\"127.0.0.1:10025\"}]",
        [list] if list == "rule" => "a list of tables, such as [{domain=\"example.com\",level=\"dane-only\"}]",
        [list] if list == "negative_trust_anchor" => {
            "a list of tables, such as [{zone=\"cluster.local\",reason=\"ticket 4711\",until=\"2027-01-31\"}]"
        }
        _ => "a list in brackets, such as [\"..\", \"..\"]",
    }
}
