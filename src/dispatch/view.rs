//! The counts of a day for people.

use std::ops::Bound;

use serde::{Deserialize, Serialize};
use time::Date;

use super::{Dispatch, DispatchState, rows};
use crate::dns::Resolver;
use crate::name::Name;
use crate::store::Error;
use crate::tlsrpt::document::policies_json;
use crate::tlsrpt::event::ReportedPolicy;
use crate::tlsrpt::tally::TalliedDomain;

/// How many policies and failures make a page full.
const MAX_ROWS: usize = 2000;

/// A part of the counts of a day, in the order of the domains.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct CountsPage {
    /// The domains.
    pub domains: Vec<CountedDomain>,
    /// Sessions with domains for which there was no room.
    pub unnamed: UnnamedCounts,
    /// Whether more domains follow.
    pub more: bool,
}

/// The counts of a domain.
#[derive(Debug, Serialize, Deserialize)]
pub struct CountedDomain {
    /// The domain.
    pub domain: String,
    /// Its policies without their strings, each as in a report (RFC 8460 §4.4).
    pub policies: Vec<serde_json::Value>,
}

/// Sessions with domains that have no name in the counts.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct UnnamedCounts {
    /// Those that went well.
    pub success: u64,
    /// Those that failed.
    pub failed: u64,
}

/// A part of the counts of a day, before it is written.
#[derive(Debug, Default)]
struct CountsPart {
    domains: Vec<(String, TalliedDomain)>,
    unnamed: UnnamedCounts,
    more: bool,
}

impl<R: Resolver + Clone> Dispatch<R> {
    /// The counts of a day that this danelaw has made: the domains behind this one, as many as a page has.
    pub fn counts(&self, day: Date, after: Option<&Name>) -> CountsPage {
        // The lock does not last for what follows, which takes a while.
        let part = self.state.lock().counts_part(day, after);
        part.page()
    }

    /// The same of all danelaws that share the store.
    ///
    /// # Errors
    /// The store cannot be read.
    pub async fn counts_of_all(&self, day: Date, after: Option<&Name>) -> Result<CountsPage, Error> {
        Ok(match self.state_of_all(day).await? {
            Some(state) => state.counts_part(day, after).page(),
            None => self.counts(day, after),
        })
    }

    /// The counts of a day by a database, and the addresses that get no reports; none if this danelaw has them in memory.
    pub(super) async fn state_of_all(&self, day: Date) -> Result<Option<DispatchState>, Error> {
        let Some(pool) = &self.pool else { return Ok(None) };
        let mut state = DispatchState::default();
        rows::restore_counts(&mut state.kept, pool.tallies(i64::from(day.to_julian_day())).await?);
        rows::restore_suppressions(&mut state.book, pool.suppressed().await?);
        Ok(Some(state))
    }
}

impl DispatchState {
    fn counts_part(&self, day: Date, after: Option<&Name>) -> CountsPart {
        let Some(tallied) = self.kept.tally().day(day) else { return CountsPart::default() };
        let unnamed = UnnamedCounts { success: tallied.unnamed().success, failed: tallied.unnamed().failed() };
        let behind = after.map_or(Bound::Unbounded, Bound::Excluded);
        let mut left = tallied.domains().range::<Name, _>((behind, Bound::Unbounded)).peekable();
        let (mut domains, mut rows) = (Vec::new(), 0);
        while rows < MAX_ROWS
            && let Some((domain, policies)) = left.next()
        {
            let policies = without_strings(policies);
            rows += policies.values().map(|counts| 1 + counts.failures.len()).sum::<usize>();
            domains.push((domain.to_string(), policies));
        }
        CountsPart { domains, unnamed, more: left.peek().is_some() }
    }
}

impl CountsPart {
    fn page(self) -> CountsPage {
        let written = |(domain, policies)| CountedDomain { domain, policies: policies_json(&policies) };
        let Self { domains, unnamed, more } = self;
        CountsPage { domains: domains.into_iter().map(written).collect(), unnamed, more }
    }
}

/// The counts by type and domain of the policies.
fn without_strings(policies: &TalliedDomain) -> TalliedDomain {
    let mut summed = TalliedDomain::new();
    for (policy, counts) in policies {
        summed.entry(ReportedPolicy::plain(policy.kind, &policy.domain)).or_default().merge(counts);
    }
    summed
}
