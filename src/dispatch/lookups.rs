//! Lookups of the records that say where domains want their reports.

use std::sync::Arc;

use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::dns::Resolver;
use crate::name::Name;
use crate::tlsrpt::lookup::{RecordLookupError, record_of};
use crate::tlsrpt::schedule::RecordFound;
use crate::tlsrpt::tally::DomainDay;

/// How many go on at a time.
const TOGETHER: usize = 64;

/// Begins them, each in a task of its own: a future of references is beyond the compiler.
pub(super) fn begin<R: Resolver + Clone>(dns: &R, lookups: Vec<DomainDay>) -> JoinSet<(DomainDay, RecordFound)> {
    let permits = Arc::new(Semaphore::new(TOGETHER));
    let mut tasks = JoinSet::new();
    for of in lookups {
        let (dns, permits) = (dns.clone(), Arc::clone(&permits));
        tasks.spawn(async move {
            let _permit = permits.acquire_owned().await;
            let found = found(&dns, &of.domain).await;
            (of, found)
        });
    }
    tasks
}

/// The addresses in a domain's record.
async fn found<R: Resolver>(dns: &R, domain: &Name) -> RecordFound {
    match record_of(dns, domain).await {
        Ok(record) => RecordFound::Addresses(record.addresses),
        Err(RecordLookupError::Record(_)) => RecordFound::None,
        Err(RecordLookupError::Dns(_)) => RecordFound::Failed,
    }
}
