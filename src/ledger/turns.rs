//! Who goes behind the others of a message the next time.
//!
//! Of recipients who part, those named first are taken. If they are deferred each time, and named first each time, the
//! others would never hear that they have the message, until the client gives it up and all bounce. So whoever had a turn
//! of its own and was deferred is told to wait, once.

use std::collections::HashSet;
use std::sync::{PoisonError, RwLock};

use super::key::Pair;

/// More than so many are not noted: all are forgotten then, and some message waits for one attempt more.
const MOST: usize = 100_000;

/// Those who had their turn. They end with the process: all that it costs is another turn.
#[derive(Debug, Default)]
pub struct Turns(RwLock<HashSet<Pair>>);

impl Turns {
    /// These have had theirs, and were deferred.
    pub fn had(&self, pairs: impl IntoIterator<Item = Pair>) {
        let mut had = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if had.len() >= MOST {
            had.clear();
        }
        had.extend(pairs);
    }

    /// Whether this one goes behind the others now. The next time it does not.
    pub fn goes_behind(&self, pair: Pair) -> bool {
        // Nearly always there is nobody, and looking keeps nobody else from looking.
        let had = self.0.read().unwrap_or_else(PoisonError::into_inner).contains(&pair);
        had && self.0.write().unwrap_or_else(PoisonError::into_inner).remove(&pair)
    }
}
