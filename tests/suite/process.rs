//! Tests that measure their whole process: its memory, or its time on processors.

use std::env;
use std::process::Command;

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
