//! Logging.

use serde::Deserialize;

/// Logging.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogSection {
    /// "text" for people, "json" for machines; one event a line on standard error.
    pub format: LogFormat,
    /// How much to log: off, error, warn, info, debug or trace, and a level for a module, as in "info,danelaw::session=debug".
    pub filter: String,
}

/// How log events are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    Text,
    /// For machines: one JSON object a line.
    Json,
}
