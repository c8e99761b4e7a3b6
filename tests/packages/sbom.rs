//! The bill of materials of the packages: all crates that are compiled into the program, and no other.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;
use std::{env, fs};

use serde_json::Value;
use tempfile::TempDir;

use crate::command::run;
use crate::program::repository;
use crate::{debian, rpm};

/// The target of ARM64.
pub(crate) const ARM64: &str = "aarch64-unknown-linux-gnu";

/// A crate by its name and version.
type Crate = (String, String);

/// The file in a package that is unpacked.
fn bill_in(tree: &Path) -> String {
    fs::read_to_string(tree.join("usr/share/doc/danelaw/danelaw.cdx.json")).unwrap()
}

fn of_debian() -> String {
    let directory = TempDir::new().unwrap();
    run(Command::new("dpkg-deb").arg("-x").arg(debian::package()).arg(directory.path()));
    bill_in(directory.path())
}

fn of_rpm() -> String {
    let directory = TempDir::new().unwrap();
    let unpack = r#"rpm2archive - <"$0" | tar --extract --gzip"#;
    run(Command::new("sh").args(["-ec", unpack]).arg(rpm::package()).current_dir(directory.path()));
    bill_in(directory.path())
}

fn text(value: &Value, key: &str) -> String {
    value[key].as_str().unwrap_or_else(|| panic!("no {key} in {value}")).to_owned()
}

/// The crates that cargo compiles into the program of this target, by its own plan of the build.
fn compiled(target: &str) -> BTreeSet<Crate> {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let arguments = ["build", "-Zunstable-options", "--unit-graph", "--locked", "--offline", "--package", "danelaw"];
    // The plan needs the unstable options of cargo. Nothing is built.
    let mut plan = Command::new(cargo);
    plan.args(arguments)
        .args(["--bin", "danelaw", "--target", target])
        .current_dir(repository(""))
        .env("RUSTC_BOOTSTRAP", "1");
    let plan: Value = serde_json::from_str(&run(&mut plan)).unwrap();
    let index = |value: &Value| usize::try_from(value.as_u64().unwrap()).unwrap();
    let mut open: Vec<_> = plan["roots"].as_array().unwrap().iter().map(index).collect();
    let (mut seen, mut crates) = (BTreeSet::new(), BTreeSet::new());
    while let Some(next) = open.pop() {
        let unit = &plan["units"][next];
        // Build scripts and their crates are compiled, and are no part of the program.
        if !seen.insert(next) || unit["mode"] != "build" || unit["target"]["kind"][0] == "custom-build" {
            continue;
        }
        let id = text(unit, "pkg_id");
        let (name, version) = id.rsplit_once('#').unwrap().1.split_once('@').unwrap();
        crates.insert((name.to_owned(), version.to_owned()));
        open.extend(unit["dependencies"].as_array().unwrap().iter().map(|dependency| index(&dependency["index"])));
    }
    crates
}

/// The checksums of the lock.
fn locked() -> BTreeMap<Crate, Option<String>> {
    let lock: toml::Table = fs::read_to_string(repository("Cargo.lock")).unwrap().parse().unwrap();
    let packages = lock["package"].as_array().unwrap().iter();
    let text = |package: &toml::Value, key: &str| package.get(key).map(|value| value.as_str().unwrap().to_owned());
    let entry = |package| {
        let name = (text(package, "name").unwrap(), text(package, "version").unwrap());
        (name, text(package, "checksum"))
    };
    packages.map(entry).collect()
}

#[test]
fn both_packages_list_all_crates_of_the_program_and_no_other() {
    let bill = of_debian();
    assert_eq!(bill, of_rpm());
    assert_lists_all(&serde_json::from_str(&bill).unwrap());
}

#[test]
fn a_bill_for_another_processor_lists_the_crates_of_that() {
    let bill = run(Command::new(repository("config/debian/sbom")).arg(ARM64).current_dir(repository("")));
    let bill: Value = serde_json::from_str(&bill).unwrap();
    assert_eq!(bill["metadata"]["properties"][0]["value"], ARM64);
    assert_lists_all(&bill);
}

/// Asserts that a bill lists each crate of the program for its target once, with the checksum of the lock and the crates below it.
#[track_caller]
fn assert_lists_all(bill: &Value) {
    let program = &bill["metadata"]["component"];
    assert_eq!((text(program, "name"), text(program, "version")), {
        ("danelaw".to_owned(), env!("CARGO_PKG_VERSION").to_owned())
    });
    let components: Vec<&Value> = bill["components"].as_array().unwrap().iter().chain([program]).collect();
    let name_of = |component: &&Value| (text(component, "name"), text(component, "version"));
    let listed: BTreeSet<_> = components.iter().map(name_of).collect();
    assert_eq!(listed.len(), components.len(), "a crate is there twice");
    let compiled = compiled(&text(&bill["metadata"]["properties"][0], "value"));
    assert!(compiled.len() > 200, "{compiled:?}");
    assert_eq!(listed, compiled);
    let locked = locked();
    for component in &components {
        let name = name_of(component);
        assert_eq!(component["hashes"][0]["content"].as_str(), locked[&name].as_deref(), "{name:?}");
        assert_eq!(component["purl"], format!("pkg:cargo/{}@{}", name.0, name.1.replace('+', "%2B")));
    }
    // Each has an entry with the crates that it depends on, and all but the program have a crate above them.
    let dependencies = bill["dependencies"].as_array().unwrap();
    let references: BTreeSet<_> = components.iter().map(|component| text(component, "bom-ref")).collect();
    let entries: BTreeSet<_> = dependencies.iter().map(|entry| text(entry, "ref")).collect();
    assert_eq!(entries, references);
    let below = dependencies.iter().flat_map(|entry| entry["dependsOn"].as_array().unwrap());
    let mut below: BTreeSet<_> = below.map(|reference| reference.as_str().unwrap().to_owned()).collect();
    below.insert(text(program, "bom-ref"));
    assert_eq!(below, references);
}

#[test]
fn the_bill_of_materials_is_cyclonedx() {
    let library = repository("target/clients/cyclonedx");
    assert!(library.exists(), "tests/real/prepare installs cyclonedx-python-lib");
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("bill.json");
    let verify = |bill: &str| {
        fs::write(&file, bill).unwrap();
        let program = "import sys\n\
                       from cyclonedx.schema import SchemaVersion\n\
                       from cyclonedx.validation.json import JsonStrictValidator\n\
                       print(JsonStrictValidator(SchemaVersion.V1_6).validate_str(open(sys.argv[1]).read()))";
        run(Command::new("python3").env("PYTHONPATH", &library).args(["-c", program]).arg(&file))
    };
    let bill = of_debian();
    assert_eq!(verify(&bill), "None\n");
    // The schema is asked.
    assert!(verify(&bill.replace("\"SHA-256\"", "\"SHA-255\"")).contains("SHA-255"));
}
