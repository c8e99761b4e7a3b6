//! The `danelaw` program: see the library's documentation for the story of a message.

use std::process::ExitCode;

fn main() -> ExitCode {
    danelaw::cli::main()
}
