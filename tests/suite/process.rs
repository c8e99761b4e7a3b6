//! Processes: the program, run to its end, and tests that measure their whole process, its memory or its time on
//! processors.

use std::env;
use std::process::{Command, Output, Stdio};

use tokio::io::AsyncWriteExt;

/// Set in a process that was started for one test.
const ALONE: &str = "DANELAW_TEST_ALONE";

/// Whether this process runs the calling test alone, as a process of nextest does. If other tests run in it, the test is
/// run in a new process, has to pass there, and the caller returns.
///
/// `module` is the caller's `module_path!()`, `test` the name of its function.
pub(crate) fn is_alone(module: &str, test: &str) -> bool {
    let by_nextest = env::var("NEXTEST_EXECUTION_MODE").is_ok_and(|mode| mode == "process-per-test");
    if by_nextest || env::var_os(ALONE).is_some() {
        return true;
    }
    let (_, module) = module.split_once("::").expect("a test in a module");
    let mut child = Command::new(env::current_exe().unwrap());
    let output = child.args(["--exact", &format!("{module}::{test}")]).env(ALONE, "yes").output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
    false
}

/// The built program.
pub(crate) fn danelaw() -> Command {
    Command::new(env!("CARGO_BIN_EXE_danelaw"))
}

/// The result of a program.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) status: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl From<Output> for Said {
    fn from(output: Output) -> Self {
        let text = |octets| String::from_utf8(octets).unwrap();
        Self { status: output.status.code().unwrap(), out: text(output.stdout), err: text(output.stderr) }
    }
}

/// Runs a command to its end, with this standard input.
pub(crate) async fn said(command: Command, input: &str) -> Said {
    let mut command = tokio::process::Command::from(command);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // A program that does not read its standard input may have ended already.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes()).await;
    child.wait_with_output().await.unwrap().into()
}
