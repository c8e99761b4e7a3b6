//! The keys of the configuration on the pages.

use std::collections::BTreeSet;
use std::path::Path;

use danelaw::config::DEFAULTS;

/// The words of all pages.
fn words(folder: &Path, found: &mut BTreeSet<String>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            words(&path, found);
        } else if path.extension().is_some_and(|end| end == "md") {
            let text = std::fs::read_to_string(path).unwrap();
            found.extend(text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').map(str::to_owned));
        }
    }
}

/// The keys of a table and of those in it, without the names of the tables.
fn keys(table: &toml::Table) -> Vec<&str> {
    table
        .iter()
        .flat_map(|(key, value)| match value {
            toml::Value::Table(table) => keys(table),
            _ => vec![key.as_str()],
        })
        .collect()
}

#[test]
fn each_key_stands_on_a_page() {
    let mut found = BTreeSet::new();
    words(&Path::new(env!("CARGO_MANIFEST_DIR")).join("config"), &mut found);
    let defaults: toml::Table = DEFAULTS.parse().unwrap();
    let missing: Vec<&str> = keys(&defaults).into_iter().filter(|key| !found.contains(*key)).collect();
    assert!(missing.is_empty(), "{missing:?} are on no page of config/");
}
