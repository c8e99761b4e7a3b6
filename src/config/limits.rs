//! Bounds.

use std::ops::RangeInclusive;

use bytesize::ByteSize;
use serde::Deserialize;

use super::check::{Faults, more_than_none};
use crate::smtp::data::BareNewlines;

/// The smallest and the largest bound for a message, beyond which it is a slip of the pen. Less than RFC 5321 §4.5.3.1.7
/// asks for is the operator's to say.
const MESSAGE_SIZES: RangeInclusive<u64> = 1000..=1024 * 1024 * 1024 * 1024;

/// Bounds.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LimitsSection {
    /// Client sessions at a time; above it a client is told 421 4.3.2 at once. Each takes two open files, one of them for
    /// the remote; danelaw raises its own limit as far as the system lets it, and says so where that is too little.
    pub sessions: usize,
    /// Recipients in one transaction (RFC 5321 §4.5.3.1.8 wants at least 100); above it 452 4.5.3.
    pub recipients: usize,
    /// The largest message we pass on; announced as SIZE. RFC 5321 §4.5.3.1.7 wants 64KiB at least.
    pub message_size: ByteSize,
    /// A bare CR or LF in a message: "normalize" it (LF becomes CRLF, CR a space) or "reject" the message. Neither is ever
    /// passed on, because receivers disagree on whether it ends a line. A NUL, which no message may have, is rejected by
    /// "reject" too; "normalize" makes a space of one that starts a line, and passes any other on.
    #[serde(with = "super::word::BareNewlinesWord")]
    pub bare_newlines: BareNewlines,
}

impl LimitsSection {
    pub(super) fn check(&self, faults: &mut Faults) {
        more_than_none(faults, "limits.sessions", self.sessions);
        if self.recipients < 100 {
            faults.add("limits.recipients", format!("{} is below the 100 of RFC 5321", self.recipients));
        }
        if !MESSAGE_SIZES.contains(&self.message_size.as_u64()) {
            let problem = format!(
                "{} is not between 1kB and 1TiB; write the size with its unit, as in \"100MiB\"",
                self.message_size
            );
            faults.add("limits.message_size", problem);
        }
    }
}
