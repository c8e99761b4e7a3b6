//! Why the memory does not help.

use crate::smtp::reply::{Code, EnhancedCode, Reply};

/// Why the memory does not help now. The message is deferred.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// Another session has not heard the end of the same message to the same recipient.
    #[error("another session is still at the same message to the same recipient")]
    Busy,
    /// There is no room for further outcomes.
    #[error("the ledger is full ({0} outcomes); raise ledger.entries")]
    Full(usize),
    /// The store fails.
    #[error("the ledger cannot be used: {0}")]
    Store(#[from] sqlx::Error),
}

impl LedgerError {
    /// What the client is told.
    pub fn reply(&self) -> Reply {
        let detail = match self {
            Self::Busy => 5,
            // RFC 3463 §3.4: X.3.1, the mail system is full.
            Self::Full(_) => 1,
            Self::Store(_) => 0,
        };
        Reply::new(Code::LOCAL_ERROR, EnhancedCode::transient(3, detail), self.to_string())
    }

    /// Its name in the log.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Busy => "ledger-busy",
            Self::Full(_) => "ledger-full",
            Self::Store(_) => "ledger-failed",
        }
    }
}
