//! Counts of the store's operations, for metrics.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use crate::latency::{Latency, LatencyFigures};

/// The operations that are timed.
const OPERATIONS: [&str; 12] =
    ["served", "claim", "put", "take", "release", "tidy", "lease", "tally", "reports", "policies", "mails", "watch"];
/// The kinds of errors.
const KINDS: [&str; 6] = ["busy", "claim-ended", "lease-ended", "timeout", "down", "other"];
/// The upper bounds of the buckets of a latency, in seconds.
const BOUNDS: [f64; 10] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.5, 1.0, 5.0];

/// The counts since the start.
#[derive(Debug)]
pub(super) struct StoreCounts {
    operations: [Latency; OPERATIONS.len()],
    errors: [AtomicU64; KINDS.len()],
    unknown: AtomicU64,
}

impl Default for StoreCounts {
    fn default() -> Self {
        Self {
            operations: std::array::from_fn(|_| Latency::new(&BOUNDS)),
            errors: Default::default(),
            unknown: AtomicU64::new(0),
        }
    }
}

/// The numbers for metrics.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct StoreFigures {
    /// Whether the store answers.
    pub is_up: bool,
    /// The tasks that one danelaw of all does, and whether this one does them.
    pub leads: Vec<(&'static str, bool)>,
    /// The latency of each operation.
    pub operations: Vec<OperationFigures>,
    /// Errors by kind.
    pub errors: Vec<(&'static str, u64)>,
    /// Messages that a danelaw left in the middle: it died, or lost the store. This danelaw has found them.
    pub unknown: u64,
}

/// The latency of an operation.
#[derive(Debug, Clone, PartialEq)]
pub struct OperationFigures {
    /// Its name.
    pub operation: &'static str,
    /// The bound of each bucket in seconds, and the number of calls in that bucket alone.
    pub buckets: Vec<(f64, u64)>,
    /// All of them together, in seconds.
    pub seconds: f64,
}

impl StoreCounts {
    pub(super) fn count(&self, operation: &'static str, took: Duration, error: Option<&'static str>) {
        if let Some(place) = OPERATIONS.iter().position(|known| *known == operation) {
            self.operations[place].observe(took);
        }
        if let Some(place) = error.and_then(|error| KINDS.iter().position(|known| *known == error)) {
            self.errors[place].fetch_add(1, Relaxed);
        }
    }

    /// Counts messages with a claim that has ended by time.
    pub(super) fn count_unknown(&self, messages: u64) {
        self.unknown.fetch_add(messages, Relaxed);
    }

    /// All of them, of a store that answers.
    pub(super) fn figures(&self) -> StoreFigures {
        let operation = |(operation, latency): (&'static str, &Latency)| {
            let LatencyFigures { buckets, seconds } = latency.figures();
            OperationFigures { operation, buckets, seconds }
        };
        StoreFigures {
            is_up: true,
            leads: Vec::new(),
            operations: OPERATIONS.into_iter().zip(&self.operations).map(operation).collect(),
            errors: KINDS.into_iter().zip(self.errors.iter().map(|count| count.load(Relaxed))).collect(),
            unknown: self.unknown.load(Relaxed),
        }
    }
}
