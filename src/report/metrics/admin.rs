//! The requests at the admin port. No path and no name is ever a label.

use crate::words::words;

/// The part of the admin port that a request is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, strum::IntoStaticStr)]
#[strum(serialize_all = "kebab-case")]
pub enum AdminPart {
    /// `/livez` and `/readyz`.
    Health,
    /// `/metrics`.
    Metrics,
    /// The pages for browsers, and their style sheet.
    Page,
    /// The accounts of attempts, as text.
    Explain,
    /// All other paths, known or not.
    Other,
}

words!(AdminPart);

/// The result of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, strum::IntoStaticStr)]
#[strum(serialize_all = "kebab-case")]
pub enum AdminResult {
    /// The client has its answer.
    Ok,
    /// There is no such thing.
    NotFound,
    /// The client or the form of the request is not allowed.
    Refused,
    /// danelaw is not ready, or the store cannot be read.
    Unavailable,
}

words!(AdminResult);

impl super::Metrics {
    /// Counts a request at the admin port.
    pub fn asked(&self, what: AdminPart, result: AdminResult) {
        self.admin.count([what.as_str(), result.as_str()]);
    }
}
