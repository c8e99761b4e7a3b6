//! Logging.

use serde::Deserialize;

/// Logging.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogSection {
    /// "text" for people, "json" for machines; one event a line on standard error.
    pub format: LogFormat,
    /// How much to log: error, warn, info, debug, or one of these with others for modules, such as "info,danelaw::upstream=debug".
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
