//! Programs that a test runs, and what it waits for.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// Long enough for a loaded machine with two cores; nothing that works comes near it.
const PATIENCE: Duration = Duration::from_secs(60);

/// A file of this repository.
pub(crate) fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// What `tests/packages/prepare` has made.
pub(crate) fn prepared(name: &str) -> PathBuf {
    let path = repository("target/packages").join(name);
    assert!(path.exists(), "{} is missing: run tests/packages/prepare, as tests/run does", path.display());
    path
}

/// A program in the foreground, for as long as this value lives.
pub(crate) struct Running(pub(crate) Child);

impl Running {
    pub(crate) fn start(command: &mut Command) -> Self {
        let child = command.stdin(Stdio::null()).spawn();
        Self(child.unwrap_or_else(|error| panic!("{command:?} does not start ({error}): run the tests by tests/run")))
    }

    pub(crate) fn signal(&self, signal: &str) {
        run(Command::new("kill").arg(format!("-{signal}")).arg(self.0.id().to_string()));
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Runs `command` to its end, which has to be a good one; what it printed on standard output.
#[track_caller]
pub(crate) fn run(command: &mut Command) -> String {
    let output = output(command);
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{command:?}: {}\n{stdout}\n{stderr}", output.status);
    stdout.into_owned()
}

/// Runs `command` to its end, whatever that is.
#[track_caller]
pub(crate) fn output(command: &mut Command) -> Output {
    let output = command.stdin(Stdio::null()).output();
    output.unwrap_or_else(|error| panic!("{command:?} does not start ({error}): run the tests by tests/run"))
}

/// Asks until there is an answer, for as long as [`PATIENCE`] lasts.
#[track_caller]
pub(crate) fn eventually<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < deadline, "waited for {what} in vain");
        sleep(Duration::from_millis(20));
    }
}
