//! The limits of the lock file: the lists of `deny.toml`, and the `rust-version` that the manifest and README name.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;
use std::{env, fs};

use serde_json::Value;
use toml::Table;

fn read(file: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).unwrap()
}

fn table(file: &str) -> Table {
    toml::from_str(&read(file)).unwrap()
}

/// The output of cargo, which may not ask the network.
fn cargo(arguments: &[&str]) -> String {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo).args(arguments).current_dir(env!("CARGO_MANIFEST_DIR")).output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// The names and licences of all that is built for this machine, benchmarks, tests and fuzz targets included.
fn built() -> BTreeSet<(String, String)> {
    let tree = cargo(&[
        "tree",
        "--workspace",
        "--locked",
        "--offline",
        "--edges",
        "all",
        "--prefix",
        "none",
        "--format",
        "{p}|{l}",
    ]);
    let packages = tree.lines().filter_map(|line| line.trim_end_matches(" (*)").split_once('|'));
    packages.map(|(package, licence)| (package.split(' ').next().unwrap().to_owned(), licence.to_owned())).collect()
}

/// Whether a licence expression can be met by these licences: each AND within an OR has to be, and so each bracket.
fn is_met(expression: &str, allowed: &[&str]) -> bool {
    // The innermost brackets first; crates of old write a slash for OR.
    let mut expression = expression.replace('/', " OR ");
    while let Some(end) = expression.find(')') {
        let start = expression[..end].rfind('(').unwrap();
        let verdict = if is_met(&expression[start + 1..end], allowed) { "yes" } else { "no" };
        expression.replace_range(start..=end, verdict);
    }
    let is_allowed = |licence: &str| licence.trim() == "yes" || allowed.contains(&licence.trim());
    expression.split(" OR ").any(|all| all.split(" AND ").all(is_allowed))
}

/// The strings of a list, or the values of `crate` in its tables.
fn list<'a>(rules: &'a Table, section: &str, key: &str) -> Vec<&'a str> {
    let entries = rules[section][key].as_array().unwrap();
    entries.iter().map(|entry| entry.get("crate").unwrap_or(entry).as_str().unwrap()).collect()
}

#[test]
fn licence_expressions_are_read() {
    for (expression, verdict) in [
        ("MIT", true),
        ("GPL-3.0-only", false),
        ("MIT OR GPL-3.0-only", true),
        ("MIT/GPL-3.0-only", true),
        ("MIT AND GPL-3.0-only", false),
        ("ISC AND (GPL-3.0-only OR MIT)", true),
        ("ISC AND (GPL-3.0-only OR (MIT AND OpenSSL))", false),
        ("ISC WITH exception", false),
        ("", false),
    ] {
        assert_eq!(is_met(expression, &["MIT", "ISC"]), verdict, "{expression}");
    }
}

#[test]
fn each_role_has_one_library() {
    let rules = table("deny.toml");
    let denied = list(&rules, "bans", "deny");
    let built = built();
    assert!(built.iter().any(|(name, _)| name == "rustls"), "{built:?}");
    let found: Vec<_> = built.iter().filter(|(name, _)| denied.contains(&name.as_str())).collect();
    assert!(found.is_empty(), "{found:?}");
}

#[test]
fn licences_are_allowed() {
    let rules = table("deny.toml");
    let allowed = list(&rules, "licenses", "allow");
    let built = built();
    let found: Vec<_> = built.iter().filter(|(_, licence)| !is_met(licence, &allowed)).collect();
    assert!(found.is_empty(), "{found:?}");
}

#[test]
fn sources_are_one_registry() {
    let lock = table("Cargo.lock");
    let packages = lock["package"].as_array().unwrap();
    let (foreign, ours): (Vec<_>, Vec<_>) = packages.iter().partition(|package| package.get("source").is_some());
    // danelaw, and its fuzz targets.
    assert_eq!(ours.len(), 2, "{ours:?}");
    let sources: BTreeSet<_> = foreign.iter().map(|package| package["source"].as_str().unwrap()).collect();
    assert!(sources.len() == 1 && sources.iter().all(|source| source.starts_with("registry+")), "{sources:?}");
    assert!(foreign.iter().all(|package| package.get("checksum").is_some()));
}

/// A version of Rust as cargo writes it: `1.94` or `1.94.0`.
fn version(text: &str) -> Vec<u32> {
    text.split('.').chain(["0"]).take(3).map(|part| part.parse().unwrap()).collect()
}

#[test]
fn each_dependency_has_a_version() {
    assert_eq!(table("deny.toml")["bans"]["wildcards"].as_str(), Some("deny"));
    for file in ["Cargo.toml", "fuzz/Cargo.toml"] {
        let manifest = table(file);
        let sections = ["dependencies", "dev-dependencies", "build-dependencies"];
        for (name, wanted) in sections.iter().filter_map(|section| manifest.get(*section)?.as_table()).flatten() {
            let version = wanted.as_str().or_else(|| wanted.get("version")?.as_str());
            let is_ours = wanted.get("path").is_some();
            assert!(is_ours || version.is_some_and(|version| !version.contains('*')), "{file}: {name}");
        }
    }
}

#[test]
fn versions_with_known_holes_are_not_locked() {
    // older rustls takes TLS 1.3 messages at the wrong encryption level (RUSTSEC-2026-0285). Older hickory has
    // loops at NSEC3 records and costly name compression (RUSTSEC-2026-0118 to 0120).
    let lock = table("Cargo.lock");
    let packages = lock["package"].as_array().unwrap();
    for (name, least) in [("rustls", "0.23.45"), ("hickory-proto", "0.26.3"), ("hickory-resolver", "0.26.3")] {
        let locked: Vec<_> = packages.iter().filter(|package| package["name"].as_str() == Some(name)).collect();
        assert!(!locked.is_empty(), "{name}");
        for package in locked {
            let locked = package["version"].as_str().unwrap();
            assert!(version(locked) >= version(least), "{name} {locked}");
        }
    }
}

#[test]
fn the_rust_version_is_what_the_dependencies_need() {
    let about = cargo(&["-vV"]);
    let host = about.lines().find_map(|line| line.strip_prefix("host: ")).unwrap();
    let metadata = cargo(&["metadata", "--locked", "--offline", "--format-version", "1", "--filter-platform", host]);
    let metadata: Value = serde_json::from_str(&metadata).unwrap();
    let ours = table("Cargo.toml")["package"]["rust-version"].as_str().unwrap().to_owned();
    let newest = metadata["packages"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|package| package["name"] != "danelaw")
        .filter_map(|package| Some((version(package["rust_version"].as_str()?), package["name"].as_str()?)))
        .max()
        .unwrap();
    assert_eq!(version(&ours), newest.0, "Cargo.toml says {ours}, {} needs more, or all need less", newest.1);
    assert!(read("README.md").contains(&format!("Rust {ours} or newer")), "README names another version");
}
