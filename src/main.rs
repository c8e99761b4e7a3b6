//! The `danelaw` program: see the library's documentation for the story of a message.

use std::process::ExitCode;

use mimalloc::MiMalloc;

/// A session moves between threads, and with it what it has allocated; threads that free one another's memory wait for
/// one another in the C library's allocator.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    danelaw::cli::main()
}
