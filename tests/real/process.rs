//! Servers as child processes: started in a process group of their own, killed and waited for on drop, and never
//! awaited by a sleep.

use std::fs::OpenOptions;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

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

    /// Panics when the server has ended: a server under test never ends by itself.
    pub(crate) fn assert_running(&mut self) {
        if let Some(status) = self.child.try_wait().expect("our own child") {
            panic!("{} has ended: {status}", self.name);
        }
    }

    /// Ends the server with SIGKILL, so that it cannot clean up.
    pub(crate) fn kill(&mut self) {
        self.signal("KILL");
        let _ = self.child.wait();
    }

    pub(crate) fn signal(&self, signal: &str) {
        // The whole group, because Postfix is many processes. A group that has ended already is no error.
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
