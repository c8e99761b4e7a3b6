//! The `danelaw` program: see the library's documentation for the story of a message.

use std::process::ExitCode;

use mimalloc::MiMalloc;

/// A session moves between threads, and its allocations move with it. In the C library's allocator, threads that free
/// one another's memory wait for one another.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    danelaw::cli::main()
}
