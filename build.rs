//! The build data that `--version` prints: the commit, where it is known without the network, and the compiler.

use std::env;
use std::process::Command;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    // Packagers build from an archive without git, and set the commit here. (DANELAW_.. is configuration.)
    println!("cargo:rerun-if-env-changed=BUILD_COMMIT");
    let given = env::var("BUILD_COMMIT").ok().filter(|commit| !commit.is_empty());
    // Only a release looks it up: a build during development would be repeated after each commit.
    let of_git = || if env::var("PROFILE").as_deref() == Ok("release") { commit() } else { None };
    let commit = given.or_else(of_git).unwrap_or_else(|| "unknown".to_owned());
    let compiler = env::var("RUSTC").ok().and_then(|rustc| said(&rustc, &["--version"]));
    println!("cargo:rustc-env=BUILD_COMMIT={commit}");
    println!("cargo:rustc-env=BUILD_RUSTC={}", compiler.unwrap_or_else(|| "rustc unknown".to_owned()));
    println!("cargo:rustc-env=BUILD_TARGET={}", env::var("TARGET").unwrap_or_default());
}

fn commit() -> Option<String> {
    // git adds a line to this file at each commit and each change of branch.
    let log = said("git", &["rev-parse", "--git-path", "logs/HEAD"])?;
    println!("cargo:rerun-if-changed={log}");
    said("git", &["rev-parse", "--short=12", "HEAD"])
}

fn said(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).output().ok().filter(|output| output.status.success())?;
    Some(String::from_utf8(output.stdout).ok()?.trim().to_owned())
}
