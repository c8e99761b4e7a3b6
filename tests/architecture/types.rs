//! The names of types: each means one thing.

use std::collections::BTreeMap;

use super::sources;

/// The words that define a type wherever they stand.
const DEFINITIONS: &[&str] = &["struct", "enum", "union", "trait"];

/// The names of the types that `code` defines. A `type` that is indented belongs to a trait, which gives it its meaning.
fn defined(code: &str) -> impl Iterator<Item = &str> {
    code.lines().filter_map(|line| {
        let is_indented = line.starts_with(' ');
        let (word, rest) = without_visibility(line.trim_start()).split_once(' ')?;
        let defines = DEFINITIONS.contains(&word) || (word == "type" && !is_indented);
        let name = rest.split(|c: char| !c.is_alphanumeric() && c != '_').next();
        name.filter(|name| defines && !name.is_empty())
    })
}

fn without_visibility(line: &str) -> &str {
    match line.strip_prefix("pub(") {
        Some(rest) => rest.split_once(") ").map_or(line, |(_, rest)| rest),
        None => line.strip_prefix("pub ").unwrap_or(line),
    }
}

#[test]
fn each_type_name_means_one_thing() {
    let mut homes = BTreeMap::<String, Vec<String>>::new();
    // A model of a test may have the name of its original.
    for (module, code) in sources().into_iter().filter(|(module, _)| !module.ends_with("/tests")) {
        for name in defined(&code) {
            homes.entry(name.to_owned()).or_default().push(module.clone());
        }
    }
    assert!(homes.len() > 300, "only {} types are found", homes.len());
    homes.retain(|_, modules| modules.len() > 1);
    assert_eq!(homes, BTreeMap::new());
}

#[test]
fn definitions_are_read() {
    let code = "pub struct A<T>(T);\nenum B {\n    type Err = C;\n}\ntype D = A<u8>;\npub(super) trait E: F {}\nlet structure = 1;\n    struct G;";
    assert_eq!(defined(code).collect::<Vec<_>>(), ["A", "B", "D", "E", "G"]);
}
