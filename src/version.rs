//! The version, the commit and the compiler of this build: the facts that `build.rs` found.

/// The version of danelaw.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
/// The commit it was built from, or `unknown`.
pub const COMMIT: &str = env!("BUILD_COMMIT");
/// The compiler, as it names itself.
pub const RUSTC: &str = env!("BUILD_RUSTC");

/// All of it in a few lines.
pub const LONG: &str = concat!(
    env!("CARGO_PKG_VERSION"),
    "\ncommit ",
    env!("BUILD_COMMIT"),
    "\nbuilt by ",
    env!("BUILD_RUSTC"),
    "\nfor ",
    env!("BUILD_TARGET"),
);
