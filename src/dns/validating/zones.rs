//! The keys of a zone, proven from the root down.
//!
//! The path to a zone begins at the trust anchor and goes down one label at a time (RFC 4035 §5). At each name the
//! parent is asked for DS records, and its answer is verified with the parent's keys and no others. Either a signed
//! zone begins there, whose keys the DS records name; or an unsigned one begins, and the path ends; or no zone begins.
//! The result is kept for as long as its records and their signatures allow, so that a lookup mostly costs the
//! signature of its own answer. A name at which no proof tells whether a zone begins is looked at anew by each lookup.
//!
//! A step is made once, even if many lookups wait for it, and has a budget of its own: a zone with keys that are costly
//! to check costs all lookups below it one such check together and not one each. A step that has failed is kept like a
//! lookup that has, and not for as long as its records say (RFC 9520 §3.2); one that has failed for want of a reply that
//! can be read is kept for a second.

use std::cell::Cell;
use std::sync::Arc;
use std::time::Duration;

use hickory_resolver::proto::dnssec::rdata::{DNSSECRData, DS};
use hickory_resolver::proto::op::Message;
use hickory_resolver::proto::rr::{Name, RData, RecordType};

use super::super::FailureReason;
use super::super::answers::DnsResult;
use super::super::budget::{Budget, LookupBudget, Questions};
use super::super::cache::{CacheBounds, ClockReading, EntryWeight, WithTtl};
use super::super::canonical::CanonicalName;
use super::super::links::{Delegation, Question, delegation};
use super::super::memory::{Memory, now};
use super::super::reply::{Proof, Rtype};
use super::anchors::Anchors;
use super::convert::{self, hasher, least_ttl, unix_time};
use super::load::{load, load_of_keys};
use super::sets::{Set, Trusted, ZoneKeys, group};
use super::source::{Queried, ReceivedReply, ReplySource};
use super::unsupported;
use super::verified::VerifiedSignatures;
use super::workers::Workers;

/// How much is remembered: some hundred octets for an unsigned zone, a thousand for a signed one.
const MEMORY: CacheBounds = CacheBounds { entries: 32_768, octets: 16 << 20 };
/// The longest time, even if the TTL is longer.
const LONGEST: Duration = Duration::from_secs(3600);
/// An older step is made again before a lookup fails by it (A19): a zone may have changed its keys with more haste than
/// RFC 6781 §4.1 has.
const RENEW_AFTER: Duration = Duration::from_secs(30);

/// How long a step that has failed for want of a reply is remembered (RFC 9520 §3.2: a second at least).
const TRANSPORT_FAILURE: Duration = Duration::from_secs(1);

/// The proven state of the zone that a name is said to lie in.
#[derive(Clone)]
pub(super) enum Trust {
    /// Signed, by these keys.
    Keys(Arc<ZoneKeys>),
    /// It lies below a delegation that is proven to be unsigned. This holds until one of the clocks reaches its time.
    Unsigned(ClockReading),
}

/// Knows the way to zones. Clones share everything.
#[derive(Clone)]
pub(super) struct Zones {
    pub(super) source: ReplySource,
    pub(super) workers: Workers,
    anchors: Anchors,
    steps: Memory<CanonicalName, ZoneStep>,
    verified: Arc<VerifiedSignatures>,
    /// How long one that has failed is remembered.
    failures: Duration,
}

/// The result for one name on the path.
struct ZoneStep {
    begins: Begins,
    since: tokio::time::Instant,
    until: ClockReading,
}

/// The zone that begins at a name.
#[derive(Clone)]
enum Begins {
    Signed(Arc<ZoneKeys>),
    Unsigned,
    /// No zone, or none that is proven.
    Nothing,
}

impl Zones {
    /// Knows only the trust anchor yet.
    pub(super) fn new(source: ReplySource, anchors: Anchors, failures: Duration) -> Self {
        let (workers, steps, verified) = (Workers::new(), Memory::new(MEMORY), Arc::new(VerifiedSignatures::new()));
        Self { source, workers, anchors, steps, verified, failures }
    }

    /// The proven state of the deepest zone at or above `name`.
    ///
    /// # Errors
    /// Somewhere on the way there is neither a proof nor a denial.
    pub(super) async fn trust(&self, name: &CanonicalName, budget: &mut LookupBudget) -> Result<Trust, FailureReason> {
        let mut keys = None;
        for depth in 0..=name.depth() {
            let step = self.step(name.ancestor(depth), keys.clone(), budget).await;
            let step = step.as_ref().as_ref().map_err(Clone::clone)?;
            match &step.begins {
                Begins::Signed(found) => keys = Some(Arc::clone(found)),
                Begins::Unsigned => return Ok(Trust::Unsigned(step.until)),
                Begins::Nothing => {}
            }
        }
        keys.map(Trust::Keys).ok_or_else(|| bogus(name, "the root has no keys"))
    }

    /// Drops the results for `name` and its ancestors that are not quite new; tells whether there were any.
    pub(super) fn renew(&self, name: &CanonicalName) -> bool {
        let mut any = false;
        for place in (0..=name.depth()).map(|depth| name.ancestor(depth)) {
            let found = self.steps.recall(&place);
            if found.is_some_and(|found| found.as_ref().as_ref().is_ok_and(|step| step.since.elapsed() > RENEW_AFTER)) {
                self.steps.forget(&place);
                any = true;
            }
        }
        any
    }

    async fn step(
        &self,
        place: CanonicalName,
        parent: Option<Arc<ZoneKeys>>,
        budget: &mut LookupBudget,
    ) -> Arc<DnsResult<ZoneStep>> {
        if let Some(known) = self.steps.recall(&place) {
            return known;
        }
        if !budget.work.spend_step() {
            return Arc::new(Err(bogus(&place, "there are too many places on the way to it")));
        }
        if !budget.questions.are_left() {
            // It is the lookup's own failure: others make the step with the budget that each step has.
            return Arc::new(Err(FailureReason::Network(format!("the way to {place} takes too many questions"))));
        }
        // None of them is sent if another lookup makes the step.
        let (zones, questions) = (self.clone(), budget.questions.of_step());
        let make = move |place: CanonicalName| async move {
            let begins = zones.look(&place, parent, &questions).await;
            let ttl = match &begins {
                Ok(begins) => begins.ttl.min(LONGEST),
                // One reply that was lost or garbled must not cost a whole top-level domain its mail: only those that wait now
                // share it. A resolver shows the reply that it has lost as SERVFAIL.
                Err(
                    FailureReason::Timeout
                    | FailureReason::Network(_)
                    | FailureReason::Refused(_)
                    | FailureReason::Malformed(_),
                ) => zones.failures.min(TRANSPORT_FAILURE),
                Err(_) => zones.failures,
            };
            let (since, now) = (tokio::time::Instant::now(), now());
            let until = now.after(ttl).unwrap_or(now);
            (begins.map(|WithTtl { value: begins, .. }| ZoneStep { begins, since, until }), ttl)
        };
        self.steps.find(place, make).await
    }

    /// Finds out which zone begins at a name. The TTL is zero, if there is no proof.
    async fn look(
        &self,
        place: &CanonicalName,
        parent: Option<Arc<ZoneKeys>>,
        questions: &Questions,
    ) -> Result<WithTtl<Begins>, FailureReason> {
        let Some(parent) = parent else {
            return self.keys(place, Trusted::Anchors(self.anchors.clone()), questions).await;
        };
        let asked = Queried::new(Question { name: place.clone(), rtype: Rtype::DS })?;
        let ReceivedReply { message, from } = self.source.ask(&asked, questions).await?;
        let mut found = self.delegated(&asked, &parent, message).await;
        // One server of the parent may be stale, or lie.
        if proves_nothing(&found)
            && let Some(other) = self.source.ask_another(&asked, from, questions).await
        {
            let other = self.delegated(&asked, &parent, other).await;
            found = if proves_nothing(&other) { found } else { other };
        }
        let DelegationReply { delegation, records, lasts, .. } = found?;
        let lasting = |value| WithTtl { value, ttl: lasts };
        match delegation {
            Delegation::Signed => {
                let WithTtl { value, ttl } = self.keys(place, Trusted::Ds(records), questions).await?;
                Ok(WithTtl { value, ttl: ttl.min(lasts) })
            }
            Delegation::Unsigned => {
                // The parent has DS records, so the algorithms alone make the zone an unsigned one.
                if !records.is_empty() {
                    let algorithms = unsupported::described(&records);
                    tracing::info!(zone = %place, algorithms, "a zone counts as unsigned: its algorithms are not supported");
                }
                Ok(lasting(Begins::Unsigned))
            }
            Delegation::None => Ok(lasting(Begins::Nothing)),
            Delegation::Unproven => Ok(WithTtl { value: Begins::Nothing, ttl: Duration::ZERO }),
        }
    }

    /// Reads a reply to a DS question, by the keys of the parent.
    async fn delegated(
        &self,
        asked: &Queried,
        parent: &Arc<ZoneKeys>,
        message: Message,
    ) -> Result<DelegationReply, FailureReason> {
        let load = load(&message, asked.question.name.depth(), std::iter::once(&**parent));
        let (asked, parent) = (asked.clone(), Arc::clone(parent));
        let reading = move || {
            let delegation = held_against(&parent, &asked.question, &message)?;
            let alias = message.answers.iter().any(|record| record.record_type() == RecordType::CNAME);
            let records = ds_records(asked.name(), &message);
            let whose = if alias { DsOwner::Alias } else { DsOwner::Other };
            Ok(DelegationReply { delegation, records, lasts: least_ttl(&message), whose })
        };
        self.workers.run(load, reading).await?
    }

    /// Asks for the keys of a zone whose first keys are known.
    async fn keys(
        &self,
        apex: &CanonicalName,
        trusted: Trusted,
        questions: &Questions,
    ) -> Result<WithTtl<Begins>, FailureReason> {
        let asked = Queried::new(Question { name: apex.clone(), rtype: Rtype::DNSKEY })?;
        let ReceivedReply { message, from } = self.source.ask(&asked, questions).await?;
        let mut found = self.proven_keys(&asked, &trusted, message).await;
        if matches!(found, Err(FailureReason::Bogus(_)))
            && let Some(other) = self.source.ask_another(&asked, from, questions).await
        {
            found = self.proven_keys(&asked, &trusted, other).await.or(found);
        }
        let KeysReply { keys, lasts } = found?;
        Ok(WithTtl { value: Begins::Signed(Arc::new(keys)), ttl: lasts })
    }

    /// Reads a reply to a DNSKEY question, by the evidence for the first keys.
    async fn proven_keys(
        &self,
        asked: &Queried,
        trusted: &Trusted,
        message: Message,
    ) -> Result<KeysReply, FailureReason> {
        let (work, lasts) = ((asked.clone(), trusted.clone()), least_ttl(&message));
        let proven = self.workers.run(load_of_keys(&message), move || {
            let (asked, trusted) = work;
            let sets = group(&message.answers);
            let set = sets.iter().find(|set| set.owner == asked.name() && set.rtype == RecordType::DNSKEY);
            let set = set.ok_or("its keys are not there")?;
            ZoneKeys::proven(set, &trusted, unix_time(), &mut Budget::step())
        });
        let keys = proven.await?.map_err(|why| bogus(&asked.question.name, why))?;
        Ok(KeysReply { keys: keys.remembering(&self.verified), lasts })
    }
}

/// A reply to a DS question, read.
struct DelegationReply {
    delegation: Delegation,
    records: Vec<DS>,
    lasts: Duration,
    whose: DsOwner,
}

/// Whether the name that is asked for DS records is an alias by the reply, so that a proof about it is not to be expected.
#[derive(Clone, Copy, PartialEq, Eq)]
enum DsOwner {
    Alias,
    Other,
}

/// A reply to a DNSKEY question, read.
struct KeysReply {
    keys: ZoneKeys,
    lasts: Duration,
}

/// Whether another server of the parent may do better.
fn proves_nothing(found: &Result<DelegationReply, FailureReason>) -> bool {
    match found {
        Ok(reply) => (reply.delegation, reply.whose) == (Delegation::Unproven, DsOwner::Other),
        Err(reason) => matches!(reason, FailureReason::Bogus(_)),
    }
}

/// Reads a reply to a DS question, by the keys of the parent alone.
fn held_against(parent: &ZoneKeys, question: &Question, message: &Message) -> Result<Delegation, FailureReason> {
    let (now, mut budget) = (unix_time(), Budget::step());
    let reply = convert::reply(message, |_, set: &Set<'_>| match set.signers() {
        Err(why) => Proof::Unproven(why),
        Ok(signers) if !signers.contains(&parent.apex()) => Proof::Insecure,
        Ok(_) => parent.verify(set, now, &mut budget).map_or_else(Proof::Unproven, Proof::Secure),
    })?;
    delegation(&question.name, &reply, &hasher(&Cell::new(budget)))
}

/// The DS records at a name.
fn ds_records(owner: &Name, message: &Message) -> Vec<DS> {
    let records = message.answers.iter().filter(|record| record.name == *owner);
    let records = records.filter_map(|record| match &record.data {
        RData::DNSSEC(DNSSECRData::DS(ds)) => Some(ds.clone()),
        _ => None,
    });
    records.collect()
}

fn bogus(place: &CanonicalName, why: &str) -> FailureReason {
    FailureReason::Bogus(format!("zone {place}: {why}"))
}

impl EntryWeight for ZoneStep {
    fn octets(&self) -> usize {
        // The key of the memory, a name, is of the same order.
        const NAME: usize = 128;
        let inside = match &self.begins {
            Begins::Signed(keys) => keys.octets(),
            Begins::Unsigned | Begins::Nothing => 0,
        };
        size_of::<Self>() + NAME + inside
    }
}
