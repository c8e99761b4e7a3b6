//! Fetching kept policies anew (RFC 8461 §10.2): daily, also under an unchanged TXT record.

use futures_util::StreamExt as _;
use futures_util::stream;
use tokio::time::Instant;

use super::fetch::{FetchFor, FetchId, Patience};
use super::places::MAX_FETCHES;
use super::{MtaSts, StsRecordFound};
use crate::dns::Resolver;
use crate::mta_sts::{NoStsRecord, StsMode, StsUse};
use crate::name::Name;

/// How many of the fetches at a time may be of this kind, so that mail need not wait for them.
const MAX_REFRESHES: usize = MAX_FETCHES / 2;
/// Longer than any fetch takes, the wait for a place included.
const LONGEST: std::time::Duration = std::time::Duration::from_secs(5 * 60);

impl<R: Resolver> MtaSts<R> {
    /// Learns of the policies of other danelaws, fetches those anew that are due, and returns when that is done. To be called every
    /// minute or so.
    pub async fn refresh_due(&self) {
        match self.usage() {
            StsUse::Off => return,
            StsUse::Enforce | StsUse::Observe => {}
        }
        self.policies().learn().await;
        let due = self.policies().due();
        stream::iter(due).for_each_concurrent(MAX_REFRESHES, |domain| async move { self.refresh(&domain).await }).await;
    }

    async fn refresh(&self, domain: &Name) {
        let Some(kept) = self.policies().kept(domain) else { return };
        let patience = Patience { asked: LONGEST, until: Instant::now() + LONGEST };
        let record = self.record(domain, patience.until).await;
        if matches!(record, Ok(StsRecordFound { id: Err(NoStsRecord::Absent), .. }))
            && kept.policy.mode() == StsMode::None
        {
            return self.policies().drop_withdrawn(domain);
        }
        let id = FetchId::of(record, kept.id);
        // Its end is noted and told there.
        let _ = self.fetch(domain, &id, FetchFor::Renewal).wait(patience).await;
    }
}
