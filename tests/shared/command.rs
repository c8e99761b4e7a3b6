//! Helpers of several test binaries: they run commands to their end, and wait for results.

use std::process::{Command, Output, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// Long enough for a loaded machine with two cores; a working transfer stays far below it, even of 25 MB.
const PATIENCE: Duration = Duration::from_secs(60);

/// Runs `command` to its end and returns its standard output. An exit status other than success is a panic.
#[track_caller]
pub(crate) fn run(command: &mut Command) -> String {
    let output = output(command);
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{command:?}: {}\n{stdout}\n{stderr}", output.status);
    stdout.into_owned()
}

/// Runs `command` to its end, with any exit status.
#[track_caller]
pub(crate) fn output(command: &mut Command) -> Output {
    let output = command.stdin(Stdio::null()).output();
    output.unwrap_or_else(|error| panic!("{command:?} does not start ({error}): run the tests by tests/run"))
}

/// Calls `ask` until it returns a value. Panics after [`PATIENCE`].
#[track_caller]
pub(crate) fn eventually<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    progressing(what, || ask().ok_or(()))
}

/// The same, with the time counted from the last progress.
#[track_caller]
pub(crate) fn progressing<T, P: PartialEq>(what: &str, mut ask: impl FnMut() -> Result<T, P>) -> T {
    let mut deadline = Instant::now() + PATIENCE;
    let mut before = None;
    loop {
        let progress = match ask() {
            Ok(answer) => return answer,
            Err(progress) => Some(progress),
        };
        if before != progress {
            before = progress;
            deadline = Instant::now() + PATIENCE;
        }
        assert!(Instant::now() < deadline, "waited for {what} in vain");
        sleep(Duration::from_millis(20));
    }
}
