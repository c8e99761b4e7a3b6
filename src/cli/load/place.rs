//! Where a key was set, as an operator finds it.

use std::collections::HashMap;

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

fn parts(key: &str) -> Vec<String> {
    key.split('.').map(|part| part.trim().trim_matches(['"', '\'']).to_owned()).collect()
}

/// The environment variables, among those of these names, that set a key or a part of it; else those of the tables that
/// it is in.
pub(super) fn variables(names: &[String], prefix: &str, path: &[String]) -> Option<String> {
    (1..=path.len()).rev().find_map(|most| {
        let wanted = format!("{prefix}{}", path[..most].join("__").to_uppercase());
        let below = format!("{wanted}__");
        let found = names.iter().filter(|name| {
            let name = name.to_uppercase();
            name == wanted || name.starts_with(&below)
        });
        let found: Vec<&str> = found.map(String::as_str).collect();
        (!found.is_empty()).then(|| found.join(", "))
    })
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

    #[test]
    fn variables_of_keys() {
        let names =
            ["DANELAW_TLS__LEVEL", "danelaw_foo", "DANELAW_LISTENER__ADDRESS", "DANELAW_LISTENER__KIND", "PATH"];
        let names = names.map(str::to_owned);
        for (key, expected) in [
            ("tls.level", Some("DANELAW_TLS__LEVEL")),
            ("foo", Some("danelaw_foo")),
            ("listener", Some("DANELAW_LISTENER__ADDRESS, DANELAW_LISTENER__KIND")),
            ("listener.0.kind", Some("DANELAW_LISTENER__ADDRESS, DANELAW_LISTENER__KIND")),
            ("path", None),
            ("dns.servers", None),
        ] {
            assert_eq!(variables(&names, "DANELAW_", &parts(key)).as_deref(), expected, "{key}");
        }
    }
}
