//! Values without secrets: the output of `danelaw config show`, and the text of a fault, are sent to others.

use figment::value::{Tag, Value};

use super::ShownKey;

/// The place of a secret.
const MASK: &str = "..";

impl ShownKey {
    /// The key without a password or a private key, whether the value is well-formed or not.
    pub(crate) fn masked(self) -> Self {
        let value = masked(&self.name, self.value);
        Self { value, ..self }
    }
}

/// The value of a key with this name, which has its section in front, or of an entry of a list below it.
fn masked(name: &str, value: Value) -> Value {
    match value {
        _ if names_secret(name) => Value::String(Tag::Default, MASK.to_owned()),
        Value::String(tag, text) => Value::String(tag, without_secret(name, &text)),
        Value::Array(tag, entries) => Value::Array(tag, entries.into_iter().map(|entry| masked(name, entry)).collect()),
        Value::Dict(tag, keys) => {
            let within = |(key, value)| {
                let value = masked(&format!("{name}.{key}"), value);
                (key, value)
            };
            Value::Dict(tag, keys.into_iter().map(within).collect())
        }
        Value::Char(..) | Value::Bool(..) | Value::Num(..) | Value::Empty(..) => value,
    }
}

/// Whether the value of such a key is a secret. There is none: secrets stand in files, and this one was to be the name of a file.
fn names_secret(name: &str) -> bool {
    let name = name.rsplit('.').next().unwrap_or_default().to_ascii_lowercase();
    ["password", "pepper", "secret"].iter().any(|word| name.contains(word)) && !name.ends_with("_file")
}

/// The text of a key without its secret: a private key, or the password of a database's URL or connection string.
pub(super) fn without_secret(name: &str, text: &str) -> String {
    if text.contains("PRIVATE KEY") {
        return MASK.to_owned();
    }
    // Where a password ends is not known in a wrong form.
    let (text, end) = match text.to_ascii_lowercase().find("password=") {
        Some(at) => (&text[..at + "password=".len()], MASK),
        None => (text, ""),
    };
    let is_of_database = name.starts_with("store") || text.starts_with("postgres");
    let user = text.rfind('@').and_then(|end| {
        let scheme = text[..end].find("://").map(|at| at + "://".len());
        let begin = scheme.or_else(|| is_of_database.then(|| scheme_of_database(text)))?;
        Some((begin + text[begin..end].find(':')?, end))
    });
    match user {
        Some((begin, at)) => format!("{}:{MASK}{}{end}", &text[..begin], &text[at..]),
        None => format!("{text}{end}"),
    }
}

/// The octets of a scheme without slashes.
fn scheme_of_database(text: &str) -> usize {
    ["postgresql:", "postgres:"].iter().find(|scheme| text.starts_with(**scheme)).map_or(0, |scheme| scheme.len())
}
