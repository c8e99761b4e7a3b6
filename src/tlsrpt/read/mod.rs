//! TLS reports that others sent: from a mail, an mbox, a compressed file or plain JSON to words.
//!
//! All of it is a stranger's text, so that each step is bounded before it is done: octets of a mail, octets that come out of
//! compression, parts of a mail, members of the JSON. Senders differ much, and reading is lenient: a member that is missing
//! or of another form is no reason to refuse a report.

pub mod compared;
pub mod mbox;
pub mod parts;
pub mod received;
pub mod signed;
pub mod unpack;
pub mod words;

use unpack::{UnpackError, Unpacked};

use received::ReceivedReport;

/// Why there is no report in an input.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReadReportError {
    /// It could not be unpacked.
    #[error("{0}")]
    Unpack(#[from] UnpackError),
    /// It is JSON and no report, or no JSON at all.
    #[error("{0}")]
    Json(#[from] received::NotAReport),
}

/// A report, and the proof of its sender.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundReport {
    /// The report.
    pub report: ReceivedReport,
    /// The domains whose signature the receiving server has verified, by its own word. Empty where no server said so.
    pub signed_by: Vec<String>,
}

/// All reports in one mail or file, each read when it is asked for. `authserv` is the name under which the receiving server
/// writes the results of its checks (RFC 8601 §2.2).
pub fn reports(octets: &[u8], authserv: Option<&str>) -> impl Iterator<Item = Result<FoundReport, ReadReportError>> {
    let (unpacking, error) = match unpack::unpack(octets, authserv) {
        Ok(unpacking) => (Some(unpacking), None),
        Err(error) => (None, Some(Err(error))),
    };
    let read = |unpacked: Result<Unpacked, UnpackError>| {
        let Unpacked { json, signed_by } = unpacked?;
        Ok(FoundReport { report: ReceivedReport::read(&json)?, signed_by })
    };
    unpacking.into_iter().flatten().chain(error).map(read)
}
