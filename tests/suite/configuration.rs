//! The configuration file of the package: every key of the defaults, and none set.

use std::path::{Path, PathBuf};
use std::process::Command;

use danelaw::config::DEFAULTS;

use crate::process::danelaw;

fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// The file as `config/debian/build` makes it.
fn packaged() -> String {
    let mut sed = Command::new("sed");
    sed.arg("-E").arg("-f").arg(repository("config/debian/commented.sed")).arg(repository("config/danelaw.toml"));
    let output = sed.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// The keys that differ from the defaults with this file, and the warnings.
fn changed(text: &str) -> String {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("danelaw.toml");
    std::fs::write(&file, text).unwrap();
    let mut command = danelaw();
    command.args(["config", "show", "--changed", "--config"]).arg(&file);
    let output = command.output().unwrap();
    String::from_utf8([output.stdout, output.stderr].concat()).unwrap()
}

#[test]
fn the_file_of_the_package_changes_nothing() {
    let packaged = packaged();
    for line in packaged.lines() {
        let is_table = line.starts_with('[') && !line.starts_with("[[");
        assert!(line.is_empty() || line.starts_with('#') || is_table, "{line:?} is set");
    }
    assert_eq!(changed(&packaged), "");
}

#[test]
fn the_file_of_the_package_is_the_defaults_without_its_marks() {
    let line = |line: &str| match line.strip_prefix('#') {
        Some(key) if !key.is_empty() && !key.starts_with(' ') => format!("{key}\n"),
        Some(_) | None => format!("{line}\n"),
    };
    let unmarked: String = packaged().lines().map(line).collect();
    assert_eq!(unmarked, DEFAULTS);
    assert_eq!(changed(&unmarked), "");
}

#[test]
fn danelaw_alone_on_a_terminal_says_what_follows_and_nowhere_else() {
    if Path::new("/etc/danelaw").exists() {
        return;
    }
    // It ends at once, since its port is taken.
    let _port = std::net::TcpListener::bind("127.0.0.1:10025");
    const HELP: &str = "\"danelaw --help\" lists the commands";
    let on_terminal = |line: &str| {
        let output = Command::new("script").args(["-qec", line, "/dev/null"]).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    let program = env!("CARGO_BIN_EXE_danelaw");
    let said = on_terminal(program);
    assert!(said.contains("takes mail at 127.0.0.1:10025") && said.contains(HELP), "{said}");
    assert!(said.contains("cannot listen on 127.0.0.1:10025"), "{said}");
    for line in
        [format!("{program} run"), format!("{program} --config /dev/null"), format!("{program} --set mode=enforce")]
    {
        let said = on_terminal(&line);
        assert!(said.contains("cannot listen on 127.0.0.1:10025") && !said.contains(HELP), "{said}");
    }
    let output = danelaw().output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("cannot listen on 127.0.0.1:10025") && !said.contains(HELP), "{said}");
}
