//! Programs in the foreground, and the files that the tests examine.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::command::run;

/// A file of this repository.
pub(crate) fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// A file that `tests/packages/prepare` has built.
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
