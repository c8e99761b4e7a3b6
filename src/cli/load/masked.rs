//! Values without secrets: the output of `danelaw config show` is sent to others.

use figment::value::Value;

use super::ShownKey;

impl ShownKey {
    /// The key without the password of a URL.
    pub(crate) fn masked(self) -> Self {
        let value = match self.value {
            Value::String(tag, text) => Value::String(tag, without_password(&text)),
            value => value,
        };
        Self { value, ..self }
    }
}

/// A URL without its password, whether the rest is well-formed or not.
fn without_password(text: &str) -> String {
    let Some((scheme, rest)) = text.split_once("://") else { return text.to_owned() };
    let (user, rest) = rest.rsplit_once('@').map_or((None, rest), |(user, rest)| (Some(user), rest));
    let user =
        user.map(|user| user.split_once(':').map_or_else(|| format!("{user}@"), |(user, _)| format!("{user}:..@")));
    let parameters = rest.split('&').map(|part| match part.split_once("password=") {
        Some((before, _)) => format!("{before}password=.."),
        None => part.to_owned(),
    });
    let rest: Vec<String> = parameters.collect();
    format!("{scheme}://{}{}", user.unwrap_or_default(), rest.join("&"))
}
