//! Where a key was set, as an operator finds it.

use std::collections::{BTreeMap, HashMap};

/// The place of each key that the operator has set, for faults that show when a value is used.
#[derive(Debug, Default)]
pub(crate) struct KeyPlaces(BTreeMap<String, String>);

impl KeyPlaces {
    /// Adds the place of a key. A text about it begins with this: the key, and behind it the entry of a list as the operator counts, as
    /// in `listener.key: listener 1`.
    pub(super) fn add(&mut self, key: &str, place: String) {
        self.0.insert(key.to_owned(), place);
    }

    /// The text of a fault with the place of the key that it begins with, if the operator has set that.
    pub(crate) fn told(&self, why: &str) -> String {
        let beginnings = why.match_indices(": ").take(2).map(|(end, _)| &why[..end]);
        let place = beginnings.filter_map(|beginning| self.0.get(beginning)).last();
        place.map_or_else(|| why.to_owned(), |place| format!("{why} (in {place})"))
    }
}

/// The line of a file that holds a key, or the table that it is in, as far as the file is written in the usual way.
pub(super) fn line(toml: &str, path: &[String]) -> Option<usize> {
    // How many entries each list of tables has so far.
    let mut entries: HashMap<String, usize> = HashMap::new();
    let mut table: Vec<String> = Vec::new();
    // The nearest so far: how much of the path it has, and its line.
    let mut nearest: Option<(usize, usize)> = None;
    for (number, line) in toml.lines().enumerate() {
        let line = line.trim();
        let here = if let Some(header) = line.strip_prefix("[[") {
            let name = header.split(']').next().unwrap_or_default().trim().to_owned();
            let before = entries.entry(name.clone()).or_default();
            table = [parts(&name), vec![before.to_string()]].concat();
            *before += 1;
            table.clone()
        } else if let Some(header) = line.strip_prefix('[') {
            table = parts(header.split(']').next().unwrap_or_default());
            table.clone()
        } else if let Some((key, _)) = line.split_once('=').filter(|_| !line.starts_with('#')) {
            [table.clone(), parts(key)].concat()
        } else {
            continue;
        };
        let same = if path.starts_with(&here) || here.starts_with(path) { here.len().min(path.len()) } else { 0 };
        if same > nearest.map_or(0, |(most, _)| most) {
            nearest = Some((same, number + 1));
        }
    }
    nearest.map(|(_, line)| line)
}

/// The parts of a key. A dot in quotes is none between parts.
fn parts(key: &str) -> Vec<String> {
    let mut open = None;
    let is_dot = |c: char| {
        open = match (open, c) {
            (Some(quote), _) if quote == c => None,
            (None, '"' | '\'') => Some(c),
            (open, _) => open,
        };
        open.is_none() && c == '.'
    };
    key.split(is_dot).map(|part| part.trim().trim_matches(['"', '\'']).to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_keys() {
        let text = "mode = 1\n# level = 0\n[tls]\nlevel = 2\n\n[[rule]]\ndomain = 'a'\n[[rule]]\n'domain' = 'b'\nuntil = 3\n\
                    [dns]\nservers = [\n  'x',\n]\n[[ rule ]]\n";
        for (key, expected) in [
            ("mode", Some(1)),
            ("tls", Some(3)),
            ("tls.level", Some(4)),
            ("rule", Some(6)),
            ("rule.0.domain", Some(7)),
            // A missing key is reported at the beginning of its entry.
            ("rule.0.until", Some(6)),
            ("rule.1.domain", Some(9)),
            ("rule.1.until", Some(10)),
            ("rule.1", Some(8)),
            ("dns.servers.1", Some(12)),
            ("rule.2.level", Some(15)),
            ("hostname", None),
        ] {
            assert_eq!(line(text, &parts(key)), expected, "{key}");
        }
    }
}
