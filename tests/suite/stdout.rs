//! Standard output that takes no more, for every command that prints.

use std::fs::OpenOptions;
use std::process::{Command, Stdio};

use crate::process::danelaw;

/// Commands that print without a name server or a running danelaw.
const COMMANDS: [&[&str]; 14] = [
    &["config", "show"],
    &["config", "check"],
    &["refusals"],
    &["man"],
    &["completions", "bash"],
    &["rules"],
    &["--help"],
    &["-h"],
    &["help"],
    &["--version"],
    &["-V"],
    &["check", "--help"],
    &["check", "-h"],
    &["help", "check"],
];

fn commands() -> impl Iterator<Item = Command> {
    COMMANDS.iter().map(|arguments| {
        let mut command = danelaw();
        command.args(["--config", "/dev/null"]).args(*arguments).stderr(Stdio::piped());
        command
    })
}

#[test]
fn a_reader_that_has_seen_enough_ends_a_command_quietly() {
    for mut command in commands() {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let output = command.stdout(writer).output().unwrap();
        assert_eq!((output.status.code(), output.stderr.as_slice()), (Some(141), b"".as_slice()), "{command:?}");
    }
}

#[test]
fn a_full_disk_is_told() {
    for mut command in commands() {
        let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
        let output = command.stdout(full).output().unwrap();
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(71), "{command:?} {error}");
        assert!(error.starts_with("danelaw: standard output: No space left on device"), "{command:?} {error}");
    }
}
