//! The policy of a domain (RFC 8461 §3): its TXT record, the policy host, and the policies that are kept.
//!
//! [`MtaSts::policy_for`] says what is in force for a mail. Its reason comes with each answer, so that the reason for "no
//! policy" reaches log and metric. A policy that is kept is used while its TXT record has the same id. If the id differs or no
//! policy is kept, one [`fetch`] for each domain goes on, and the mails of that domain wait for it, but not for longer than
//! the settings say. A fetch that is slower goes on, and its policy counts for the next mail. A bounded number goes on at a time,
//! in [`places`] that are given out fairly.
//!
//! | TXT record | policy kept, in force | the mail gets |
//! |---|---|---|
//! | one, the same id | yes | the kept one |
//! | one, another id or none kept | | the one that is fetched; if that fails, the kept one; else [`StsFound::Unfetched`] |
//! | none, several, malformed | yes | the kept one (RFC 8461 §3.1) |
//! | none, several, malformed | no | [`StsFound::Absent`] |
//! | lookup failed | yes | the kept one |
//! | lookup failed | no | [`StsFound::LookupFailed`] |
//!
//! Nothing but a fetch ends a kept policy before its `max_age` (RFC 8461 §5.1). [`MtaSts::refresh_due`] fetches each anew every
//! day, whether its id has changed or not (RFC 8461 §10.2).

mod fetch;
mod kept;
mod places;
mod refresh;
mod stored;

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::{Instant, timeout_at};

use crate::dns::{Failure, FailureReason, Lookup, RawTxt, Resolver, Rtype, Security};
use crate::http::HttpsClient;
use crate::mta_sts::cache::FetchedPolicy;
use crate::mta_sts::record::{policy_id, record_owner};
use crate::mta_sts::{NoStsRecord, StsFetchError, StsId, StsPolicy, StsUse};
use crate::name::Name;

use self::fetch::{FetchFor, FetchId, Patience};
pub use self::kept::{RunningPolicy, StsFigures, StsPolicies};

/// The operator's settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StsSettings {
    /// Whether policies count.
    pub usage: StsUse,
    /// How many policies are kept at most.
    pub entries: usize,
    /// How long a mail waits for the TXT record, and as long again for the policy host.
    pub timeout: Duration,
    /// How often each policy is fetched anew.
    pub refresh: Duration,
}

/// A policy that is in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StsInForce {
    /// The id that it was fetched under.
    pub id: StsId,
    /// The policy, of any mode.
    pub policy: Arc<StsPolicy>,
    /// When it was fetched.
    pub fetched: SystemTime,
    /// How long ago that is.
    pub age: Duration,
    /// How it was found.
    pub source: StsSource,
}

/// How a policy was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StsSource {
    /// It was fetched for this mail.
    Fetched(Security),
    /// It was fetched anew, after mail had failed by the one before.
    Renewed,
    /// It was kept, and the TXT record has its id; the security is the record's, and asks for nothing.
    Kept(Security),
    /// It was kept, and the TXT record has another id, under which no policy can be fetched.
    Unfetched(StsFetchError),
    /// It was kept, and there is no TXT record now.
    NoRecord(NoStsRecord),
    /// It was kept, and the lookup of the TXT record failed.
    LookupFailed(Failure),
}

impl fmt::Display for StsSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fetched(record) => write!(f, "TXT record {record}"),
            Self::Renewed => f.write_str("fetched anew"),
            Self::Kept(record) => write!(f, "kept, TXT record {record}"),
            Self::Unfetched(error) => write!(f, "kept: the one of the TXT record cannot be fetched ({error})"),
            Self::NoRecord(why) => write!(f, "kept: {why}"),
            Self::LookupFailed(failure) => write!(f, "kept: {failure}"),
        }
    }
}

/// The policy of a domain, or why there is none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StsFound {
    /// This one is in force.
    InForce(StsInForce),
    /// The domain publishes none that can be understood, and none is kept.
    Absent(NoStsRecord),
    /// There is a TXT record, but its policy cannot be fetched, or not in time, and none is kept. RFC 8461 §3.3: as if there
    /// were none, unless this host was too busy to ask the policy host, or had no socket.
    Unfetched(StsFetchError),
    /// It is not known whether there is one, and none is kept.
    LookupFailed(Failure),
    /// Policies do not count.
    Off,
}

impl StsFound {
    /// The policy in force.
    pub fn in_force(&self) -> Option<&StsInForce> {
        match self {
            Self::InForce(found) => Some(found),
            Self::Absent(_) | Self::Unfetched(_) | Self::LookupFailed(_) | Self::Off => None,
        }
    }

    /// The failed lookup for which mail has to wait: forged answers may hide a policy, or the domain is signed, so that its
    /// lookups do not fail for lack of care; or there was no socket here to ask by. Any other failed lookup counts as no policy,
    /// with a warning: an attacker could suppress the record anyway.
    ///
    /// A signed domain's mail waits also where its record's name is an alias, and the zone that this leads to is not signed and
    /// does not answer. Its record would bind, as no record has to be secure (RFC 8461 §3.1: HTTPS proves the policy), and to
    /// silence the servers of a zone is less than to forge their answers. A rule with `mta_sts = "ignore"` ends the wait.
    pub fn defers(&self, mx: Security) -> Option<&Failure> {
        match self {
            Self::LookupFailed(failure) => {
                let by_reason = matches!(failure.reason, FailureReason::Bogus(_) | FailureReason::Scarce(_));
                (by_reason || mx == Security::Secure).then_some(failure)
            }
            Self::InForce(_) | Self::Absent(_) | Self::Unfetched(_) | Self::Off => None,
        }
    }

    /// The word in logs: the mode of the policy in force, `unfetched`, `failed` for a lookup of the record, `off`; none where the
    /// domain has no policy.
    pub fn label(&self) -> Option<&'static str> {
        match self {
            Self::InForce(found) => Some(found.policy.mode().as_str()),
            Self::Unfetched(_) => Some("unfetched"),
            Self::LookupFailed(_) => Some("failed"),
            Self::Off => Some("off"),
            Self::Absent(_) => None,
        }
    }
}

/// Finds the policies of domains. Clones share everything.
#[derive(Debug)]
pub struct MtaSts<R> {
    inner: Arc<StsInner<R>>,
}

#[derive(Debug)]
struct StsInner<R> {
    https: HttpsClient<R>,
    settings: StsSettings,
    policies: StsPolicies,
}

impl<R> Clone for MtaSts<R> {
    fn clone(&self) -> Self {
        Self { inner: Arc::clone(&self.inner) }
    }
}

impl<R: Resolver> MtaSts<R> {
    /// Takes up the kept policies under these settings.
    pub fn new(https: HttpsClient<R>, settings: StsSettings, policies: StsPolicies) -> Self {
        policies.set_bounds(&settings);
        Self { inner: Arc::new(StsInner { https, settings, policies }) }
    }

    /// Whether policies count.
    pub fn usage(&self) -> StsUse {
        self.inner.settings.usage
    }

    /// The kept policies, which outlive a change of the settings.
    pub fn policies(&self) -> &StsPolicies {
        &self.inner.policies
    }

    /// The policy of a domain: that of the recipient, or the next hop that a rule names (RFC 8461 §3.4). Returns by `until`, or
    /// sooner by the settings.
    pub async fn policy_for(&self, domain: &Name, until: Instant) -> StsFound {
        match self.inner.settings.usage {
            StsUse::Off => return StsFound::Off,
            StsUse::Enforce | StsUse::Observe => {}
        }
        let (policies, patience) = (self.policies(), Patience { asked: self.inner.settings.timeout, until });
        match self.record(domain, until.min(Instant::now() + patience.asked)).await {
            Ok(StsRecordFound { id: Ok(id), security }) => {
                policies.note_lookup(domain, "found");
                self.by_id(domain, id, security, patience).await
            }
            Ok(StsRecordFound { id: Err(why), .. }) => {
                policies.note_lookup(domain, lookup_label(&why));
                if why == NoStsRecord::Absent {
                    policies.drop_withdrawn(domain);
                }
                match policies.in_force(domain, StsSource::NoRecord(why.clone())) {
                    Some(found) => StsFound::InForce(found),
                    None => {
                        policies.note_lapse(domain);
                        StsFound::Absent(why)
                    }
                }
            }
            Err(failure) => {
                policies.note_failed_lookup(domain, &failure);
                match policies.in_force(domain, StsSource::LookupFailed(failure.clone())) {
                    Some(found) => StsFound::InForce(found),
                    None => StsFound::LookupFailed(failure),
                }
            }
        }
    }

    /// The policy of a domain whose exchanges have failed `before`, if there is another one by now (RFC 8461 §5.1: a newer policy
    /// may be there, even under the same id): one that was fetched meanwhile, or is fetched anew. It is not fetched if that was
    /// tried within the last five minutes.
    pub async fn refetch(&self, domain: &Name, before: &StsPolicy, until: Instant) -> Option<StsInForce> {
        let is_other = |policy: &StsPolicy| policy.body() != before.body();
        if let Some(kept) = self.policies().in_force(domain, StsSource::Renewed).filter(|kept| is_other(&kept.policy)) {
            return Some(kept);
        }
        let kept = self.policies().stale(domain)?;
        let patience = Patience { asked: self.inner.settings.timeout, until };
        let record = self.record(domain, until.min(Instant::now() + patience.asked)).await;
        let id = FetchId::of(record, kept.id);
        let fetched = self.fetch(domain, &id, FetchFor::Renewal).wait(patience).await.ok()?;
        self.policies().note_use(domain);
        is_other(&fetched.policy).then(|| in_force_now(fetched, StsSource::Renewed))
    }

    async fn by_id(&self, domain: &Name, id: StsId, security: Security, patience: Patience) -> StsFound {
        if let Some(found) = self.policies().in_force_under(domain, &id, StsSource::Kept(security)) {
            return StsFound::InForce(found);
        }
        match self.fetch(domain, &FetchId::Seen(id), FetchFor::Mail).wait(patience).await {
            Ok(fetched) => {
                self.policies().note_use(domain);
                StsFound::InForce(in_force_now(fetched, StsSource::Fetched(security)))
            }
            Err(error) => match self.policies().in_force(domain, StsSource::Unfetched(error.clone())) {
                Some(found) => StsFound::InForce(found),
                None => {
                    // The policy host was not asked, so it may have another one.
                    if !error.is_own() {
                        self.policies().note_lapse(domain);
                    }
                    StsFound::Unfetched(error)
                }
            },
        }
    }

    /// Asks for the TXT record.
    async fn record(&self, domain: &Name, until: Instant) -> Result<StsRecordFound, Failure> {
        let Ok(owner) = record_owner(domain) else {
            // The name is too long to exist.
            return Ok(StsRecordFound { id: Err(NoStsRecord::Absent), security: Security::Secure });
        };
        let failure = |reason| Failure { name: owner.clone(), rtype: Rtype::TXT, reason };
        let asked = timeout_at(until, self.inner.https.dns().txt(&owner)).await;
        let lookup: Lookup<RawTxt> = asked.unwrap_or_else(|_| Err(failure(FailureReason::Timeout)))?;
        let texts = lookup.answer.records().iter().map(|text| text.0.as_slice());
        Ok(StsRecordFound { id: policy_id(texts), security: lookup.security() })
    }
}

/// The outcome of a lookup of the TXT record.
struct StsRecordFound {
    id: Result<StsId, NoStsRecord>,
    security: Security,
}

fn lookup_label(why: &NoStsRecord) -> &'static str {
    match why {
        NoStsRecord::Absent => "absent",
        NoStsRecord::Several(_) => "several",
        NoStsRecord::NoId | NoStsRecord::SeveralIds | NoStsRecord::BadId(_) => "malformed",
    }
}

fn in_force_now(fetched: FetchedPolicy, source: StsSource) -> StsInForce {
    in_force(&fetched, Duration::ZERO, source)
}

fn in_force(fetched: &FetchedPolicy, age: Duration, source: StsSource) -> StsInForce {
    let since = Duration::from_secs(u64::try_from(fetched.fetched).unwrap_or(0));
    let FetchedPolicy { id, policy, .. } = fetched.clone();
    StsInForce { id, policy, fetched: UNIX_EPOCH + since, age, source }
}
