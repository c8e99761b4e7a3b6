//! Fetching a policy: one fetch for each domain at a time, and a bounded number in all (RFC 8461 §3.3).

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::kept::StsPolicies;
use super::places::FuturePlace;
use super::{MtaSts, StsRecordFound};
use crate::dns::{Failure, FailureReason, Resolver};
use crate::http::{HttpError, HttpHead, HttpLimits, HttpsError};
use crate::mta_sts::cache::FetchedPolicy;
use crate::mta_sts::fetch::{POLICY_PATH, PolicyHead};
use crate::mta_sts::record::policy_host;
use crate::mta_sts::{StsFetchError, StsId, StsPolicy};
use crate::name::Name;

/// How long a fetch waits for a place.
const PLACE_LIMIT: Duration = Duration::from_secs(30);
/// How long it may take then (RFC 8461 §3.3 suggests a minute).
const FETCH_LIMIT: Duration = Duration::from_secs(60);
/// The most that a policy host's answer may have (RFC 8461 §3.3 suggests 64 kilobytes of policy).
const LIMITS: HttpLimits = HttpLimits { head_octets: 16 * 1024, head_fields: 64, body_octets: 64 * 1024 };

/// The state of a fetch.
#[derive(Debug, Clone)]
enum FetchProgress {
    /// It waits for a place.
    Waiting,
    /// The policy host is asked since then.
    Underway(Instant),
    /// It has ended.
    Ended(Result<FetchedPolicy, StsFetchError>),
}

/// The id that a policy is fetched under.
#[derive(Debug, Clone)]
pub(super) enum FetchId {
    /// The TXT record has it now.
    Seen(StsId),
    /// The kept policy has it; the TXT record is not known.
    Remembered(StsId),
}

impl FetchId {
    /// The id under which a kept policy is fetched anew: that of the TXT record, or its own if there is no record to be had.
    pub(super) fn of(record: Result<StsRecordFound, Failure>, kept: StsId) -> Self {
        match record {
            Ok(StsRecordFound { id: Ok(id), .. }) => Self::Seen(id),
            Ok(StsRecordFound { id: Err(_), .. }) | Err(_) => Self::Remembered(kept),
        }
    }

    pub(super) fn id(&self) -> &StsId {
        match self {
            Self::Seen(id) | Self::Remembered(id) => id,
        }
    }
}

/// How long a mail waits for a fetch.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patience {
    /// The longest wait, from the moment at which the policy host was asked.
    pub(super) asked: Duration,
    /// The end of any wait.
    pub(super) until: Instant,
}

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
pub(super) struct PendingFetch(watch::Receiver<FetchProgress>);

impl PendingFetch {
    fn ended(end: Result<FetchedPolicy, StsFetchError>) -> Self {
        Self(watch::channel(FetchProgress::Ended(end)).1)
    }

    /// Waits for its end. The fetch goes on if that comes later. All mails together wait for a policy host only once: one that
    /// comes when it has had its time does not wait. It is to blame for a timeout only if it has had all of that time.
    pub(super) async fn wait(mut self, patience: Patience) -> Result<FetchedPolicy, StsFetchError> {
        let is_asked = |progress: &FetchProgress| !matches!(progress, FetchProgress::Waiting);
        let began = match timeout_at(patience.until, self.0.wait_for(is_asked)).await {
            Ok(Ok(progress)) => match *progress {
                FetchProgress::Underway(began) => began,
                FetchProgress::Waiting | FetchProgress::Ended(_) => Instant::now(),
            },
            Ok(Err(_)) | Err(_) => return Err(StsFetchError::Busy),
        };
        let last = began + patience.asked;
        let has_ended = |progress: &FetchProgress| matches!(progress, FetchProgress::Ended(_));
        let ended = timeout_at(last.min(patience.until), self.0.wait_for(has_ended)).await;
        match ended.map(|ended| ended.map(|progress| progress.clone())) {
            Ok(Ok(FetchProgress::Ended(end))) => end,
            // The task has ended without a result: it panicked, or the program ends.
            Ok(Ok(FetchProgress::Waiting | FetchProgress::Underway(_)) | Err(_)) => Err(StsFetchError::Busy),
            Err(_) if patience.until < last => Err(StsFetchError::Busy),
            Err(_) => Err(StsFetchError::Timeout),
        }
    }
}

impl<R: Resolver> MtaSts<R> {
    /// The fetch of a domain's policy that goes on, or a new one; or the end of one that failed a moment ago.
    pub(super) fn fetch(&self, domain: &Name, id: &FetchId, reason: FetchFor) -> PendingFetch {
        let mut state = self.policies().state();
        // A fetch may have ended since the caller looked.
        let kept = state.cache.in_force(domain, self.policies().clock()).filter(|kept| kept.id == *id.id());
        if let (Some(kept), FetchFor::Mail) = (kept, reason) {
            return PendingFetch::ended(Ok(kept.clone()));
        }
        if let Some(pending) = state.pending.get(domain) {
            return pending.clone();
        }
        if let Some(error) = self.policies().recent_failure(&state, domain, id.id()) {
            return PendingFetch::ended(Err(error));
        }
        let place = self.policies().inner.places.join(domain);
        let (progress, pending) = watch::channel(FetchProgress::Waiting);
        state.pending.insert(domain.clone(), PendingFetch(pending.clone()));
        drop(state);
        let guard = PendingGuard { policies: self.policies().clone(), domain: domain.clone() };
        let (this, id) = (self.clone(), id.clone());
        tokio::spawn(async move {
            let fetched = this.in_place(&guard.domain, place, &progress).await;
            let end = guard.policies.finish(&guard.domain, id, fetched);
            progress.send_replace(FetchProgress::Ended(end));
        });
        PendingFetch(pending)
    }

    /// Fetches, once this fetch has a place. It always has the time for which a mail waits; it has more while no other fetch
    /// waits for its place.
    async fn in_place(
        &self,
        domain: &Name,
        place: FuturePlace,
        progress: &watch::Sender<FetchProgress>,
    ) -> Result<StsPolicy, StsFetchError> {
        let Ok(Ok(place)) = timeout(PLACE_LIMIT, place).await else { return Err(StsFetchError::Busy) };
        progress.send_replace(FetchProgress::Underway(Instant::now()));
        let until_wanted = async {
            sleep(self.inner.settings.timeout).await;
            place.until_wanted().await;
        };
        tokio::select! {
            fetched = timeout(FETCH_LIMIT, self.fetch_now(domain)) => fetched.unwrap_or(Err(StsFetchError::Timeout)),
            () = until_wanted => Err(StsFetchError::Timeout),
        }
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
            HttpsError::Dns(Failure { reason: FailureReason::Scarce(scarcity), .. }) | HttpsError::Scarce(scarcity) => {
                Self::Scarce(scarcity)
            }
            HttpsError::Dns(failure) => Self::Dns(failure),
            HttpsError::NoAddress(_) | HttpsError::NotInFamily(..) => Self::NoAddress(error.to_string()),
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
