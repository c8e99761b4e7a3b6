//! `danelaw completions`: the script with which a shell completes danelaw's commands, options and reasons.

use std::process::ExitCode;

use clap::CommandFactory;
use clap_complete::Shell;

use super::stdout::Stdout;

/// For which shell.
#[derive(Debug, clap::Args)]
pub(super) struct CompletionsArguments {
    /// The shell.
    shell: Shell,
}

/// Prints the script.
pub(super) fn run(arguments: &CompletionsArguments) -> ExitCode {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut super::Arguments::command(), "danelaw", &mut script);
    Stdout::print(&String::from_utf8_lossy(&script));
    ExitCode::SUCCESS
}
