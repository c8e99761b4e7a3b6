//! Fetching a policy: one fetch for each domain at a time, and a bounded number in all (RFC 8461 §3.3).

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, timeout, timeout_at};

use super::MtaSts;
use super::kept::{StsPolicies, clock};
use crate::dns::Resolver;
use crate::http::{HttpError, HttpHead, HttpLimits, HttpsError};
use crate::mta_sts::cache::FetchedPolicy;
use crate::mta_sts::fetch::{POLICY_PATH, PolicyHead};
use crate::mta_sts::record::policy_host;
use crate::mta_sts::{StsFetchError, StsId, StsPolicy};
use crate::name::Name;

/// How long a fetch may take in all, the wait for its turn included (RFC 8461 §3.3 suggests a minute).
const FETCH_LIMIT: Duration = Duration::from_secs(60);
/// How many fetches may go on or wait for their turn.
const MAX_PENDING: usize = 1000;
/// The most that a policy host's answer may have (RFC 8461 §3.3 suggests 64 kilobytes of policy).
const LIMITS: HttpLimits = HttpLimits { head_octets: 16 * 1024, head_fields: 64, body_octets: 64 * 1024 };

/// The end of a fetch, once it is known.
type FetchEnd = Option<Result<FetchedPolicy, StsFetchError>>;

/// The reason for a fetch.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum FetchFor {
    /// A mail, which is content with a policy that another mail's fetch has brought.
    Mail,
    /// A policy that is kept and in force under this id is to be fetched anew.
    Renewal,
}

/// A fetch that goes on, or has ended.
#[derive(Clone)]
pub(super) struct PendingFetch(watch::Receiver<FetchEnd>);

impl PendingFetch {
    fn ended(end: Result<FetchedPolicy, StsFetchError>) -> Self {
        Self(watch::channel(Some(end)).1)
    }

    /// Waits for its end. The fetch goes on if that comes later.
    pub(super) async fn wait(mut self, until: Instant) -> Result<FetchedPolicy, StsFetchError> {
        match timeout_at(until, self.0.wait_for(Option::is_some)).await {
            Ok(Ok(end)) => end.clone().unwrap_or(Err(StsFetchError::Timeout)),
            // The task has ended without a result: it panicked, or the program ends.
            Ok(Err(_)) => Err(StsFetchError::Truncated("the fetch was given up".to_owned())),
            Err(_) => Err(StsFetchError::Timeout),
        }
    }
}

impl<R: Resolver> MtaSts<R> {
    /// The fetch of a domain's policy that goes on, or a new one; or the end of one that failed a moment ago.
    pub(super) fn fetch(&self, domain: &Name, id: &StsId, reason: FetchFor) -> PendingFetch {
        let mut state = self.policies().state();
        // A fetch may have ended since the caller looked.
        let kept = state.cache.in_force(domain, clock()).filter(|kept| kept.id == *id);
        if let (Some(kept), FetchFor::Mail) = (kept, reason) {
            return PendingFetch::ended(Ok(kept.clone()));
        }
        if let Some(pending) = state.pending.get(domain) {
            return pending.clone();
        }
        if let Some(error) = StsPolicies::recent_failure(&state, domain, id) {
            return PendingFetch::ended(Err(error));
        }
        if state.pending.len() >= MAX_PENDING {
            return PendingFetch::ended(Err(StsFetchError::Busy));
        }
        let (end, pending) = watch::channel(None);
        state.pending.insert(domain.clone(), PendingFetch(pending.clone()));
        drop(state);
        let (this, domain, id) = (self.clone(), domain.clone(), id.clone());
        tokio::spawn(async move { this.carry_out(domain, id, end).await });
        PendingFetch(pending)
    }

    async fn carry_out(self, domain: Name, id: StsId, end: watch::Sender<FetchEnd>) {
        let guard = PendingGuard { policies: self.policies().clone(), domain };
        let domain = &guard.domain;
        let fetched = timeout(FETCH_LIMIT, async {
            let _slot = self.policies().inner.slots.acquire().await;
            self.fetch_now(domain).await
        });
        let fetched = fetched.await.unwrap_or(Err(StsFetchError::Timeout));
        end.send_replace(Some(self.policies().finish(domain, id, fetched)));
    }

    async fn fetch_now(&self, domain: &Name) -> Result<StsPolicy, StsFetchError> {
        let host = policy_host(domain).map_err(|error| StsFetchError::Tls(error.to_string()))?;
        let response = self.inner.https.get(&host, POLICY_PATH, LIMITS).await?;
        let HttpHead { status, content_type, content_encoding } = &response.head;
        let (content_type, content_encoding) = (content_type.as_deref(), content_encoding.as_deref());
        PolicyHead { status: *status, content_type, content_encoding }.judge()?;
        Ok(StsPolicy::parse(&response.body().await?)?)
    }
}

/// Takes a fetch off the list of those that go on, however it ends.
struct PendingGuard {
    policies: StsPolicies,
    domain: Name,
}

impl Drop for PendingGuard {
    fn drop(&mut self) {
        self.policies.state().pending.remove(&self.domain);
    }
}

impl From<HttpsError> for StsFetchError {
    fn from(error: HttpsError) -> Self {
        match error {
            HttpsError::Dns(failure) => Self::Dns(failure),
            HttpsError::NoAddress(host) => Self::NoAddress(host),
            HttpsError::Reserved(..) => Self::Reserved(error.to_string()),
            HttpsError::Connect(..) => Self::Connect(error.to_string()),
            HttpsError::Tls(..) => Self::Tls(error.to_string()),
            HttpsError::Certificate(..) => Self::Certificate(error.to_string()),
            HttpsError::Http(error) => error.into(),
        }
    }
}

impl From<HttpError> for StsFetchError {
    fn from(error: HttpError) -> Self {
        match error {
            HttpError::Size => Self::Size,
            HttpError::Truncated(_) => Self::Truncated(error.to_string()),
            HttpError::NotHttp(why) => Self::Status(why),
        }
    }
}
