//! Servers as child processes: started in a process group of their own, killed and waited for on drop, and never
//! awaited by a sleep.

use std::fs::OpenOptions;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// Long enough for a loaded machine with two cores; a working transfer stays far below it, even of 25 MB.
const PATIENCE: Duration = Duration::from_secs(60);

/// A server in the foreground: it lives as long as this value.
pub(crate) struct Daemon {
    name: String,
    child: Child,
}

impl Daemon {
    /// Starts `command`, with its output at the end of the file `output`.
    pub(crate) fn start(name: impl Into<String>, command: &mut Command, output: &Path) -> Self {
        let name = name.into();
        let log = OpenOptions::new().create(true).append(true).open(output).expect("the lab's directory is writable");
        let child = command
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a file can be shared"))
            .stderr(log)
            .process_group(0)
            .spawn()
            .unwrap_or_else(|error| panic!("{name} does not start ({error}): run the tests by tests/run"));
        Self { name, child }
    }

    /// Panics when the server has ended, which a server under test does not do by itself.
    pub(crate) fn assert_running(&mut self) {
        if let Some(status) = self.child.try_wait().expect("our own child") {
            panic!("{} has ended: {status}", self.name);
        }
    }

    /// Ends the server as the kernel does, without a word.
    pub(crate) fn kill(&mut self) {
        self.signal("KILL");
        let _ = self.child.wait();
    }

    fn signal(&self, signal: &str) {
        // The group, because Postfix is many processes; one that has ended already is no error.
        let kill = format!("kill -{signal} -{} 2>/dev/null", self.child.id());
        let _ = Command::new("sh").args(["-c", &kill]).status();
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.signal("TERM");
        let deadline = Instant::now() + Duration::from_secs(5);
        while matches!(self.child.try_wait(), Ok(None)) && Instant::now() < deadline {
            sleep(Duration::from_millis(10));
        }
        self.signal("KILL");
        let _ = self.child.wait();
    }
}

/// Runs `command` to its end, which has to be a good one.
pub(crate) fn run(command: &mut Command) -> String {
    let output = output(command);
    assert!(output.status.success(), "{command:?}: {}\n{}", output.status, String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}

/// Runs `command` to its end, whatever that is.
pub(crate) fn output(command: &mut Command) -> Output {
    command
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|error| panic!("{command:?} does not start ({error}): run the tests by tests/run"))
}

/// Asks until there is an answer, for as long as [`PATIENCE`] lasts.
#[track_caller]
pub(crate) fn eventually<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    progressing(what, || ask().ok_or(()))
}

/// The same, counted from the last progress that was seen.
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
