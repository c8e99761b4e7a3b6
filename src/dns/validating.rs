//! The resolver that validates in this process, and does not rely on the configured name servers for it.
//!
//! A reply is taken apart into record sets ([`sets`]); each that matters is verified with the keys of the zone that
//! signed it, which are proven from the root's keys down ([`zones`]). [`links`](super::links) decides what the record
//! sets prove, one question and one reply at a time. The DNS library decodes the records and does the cryptography; it makes
//! no verdict. Only this file and its submodules know it.
//!
//! | the record sets that answer are | it is |
//! |---|---|
//! | signed by their zone, or a denial by such sets | secure |
//! | not signed, and a signed parent says that the zone of the name is not | insecure |
//! | anything else: bogus, an error, an unknown error, no reply in time | a failure |
//!
//! So "insecure" never rests on records that are missing from a reply: a name is in an unsigned zone if signed records
//! of a parent say so about one of its ancestors (RFC 4035 §5.2), and those records are asked for and read here.
//!
//! One server may be stale, or lie, while another is right: a resolver of several, or an authoritative server of a zone. So a
//! reply that proves nothing leads to one more question, to another server. Its reply has to be proven like any other.

mod anchors;
pub(super) mod convert;
mod load;
mod master_file;
#[cfg(any(test, fuzzing))]
pub(super) mod reading;
mod sets;
pub(super) mod source;
mod unsupported;
mod verified;
mod workers;
mod zones;

use std::cell::Cell;
use std::sync::Arc;
use std::time::Duration;

use hickory_resolver::proto::op::Message;
use hickory_resolver::proto::rr::{Name, RecordType};

pub(super) use self::anchors::Anchors;
use self::convert::{canonical, hasher, unix_time};
use self::load::{Load, load};
use self::sets::{Section, Set, ZoneKeys, group};
use self::source::{Queried, ReceivedReply, Replier, ReplySource};
use self::zones::{Trust, Zones};
use super::budget::{Budget, LookupBudget, Questions};
use super::cache::WithTtl;
use super::links::{Link, LinkStatus, Question, judge};
use super::memory::now;
use super::query::Purpose;
use super::reply::Proof;
use super::{FailureReason, Security};

/// Directives for a log filter: the library reports each oddity of each reply with the reply in full, so that a remote
/// zone could fill the log. Our own events report the facts that matter.
pub const QUIET: &str = "hickory_net=off,hickory_proto=off,hickory_resolver=off";

/// The most zones that may have signed the records of one reply: the name's own, those of a DNAME or a wildcard above
/// it.
const MAX_SIGNERS: usize = 4;
/// How many record sets of one reply are validated. A denial has a SOA and at most three others.
const MAX_SETS: usize = 32;

/// Trusts signatures only.
pub(super) struct Validating {
    zones: Zones,
}

/// The zones that signed the records of a reply.
#[derive(Default)]
struct Signers {
    known: Vec<(Name, Trust)>,
    /// Why another one is not known.
    unknown: Option<FailureReason>,
}

impl Signers {
    fn keys(&self) -> impl Iterator<Item = &ZoneKeys> {
        self.known.iter().filter_map(|(_, trust)| match trust {
            Trust::Keys(keys) => Some(&**keys),
            Trust::Unsigned(_) => None,
        })
    }
}

impl Validating {
    /// Prepares to ask this source; no question is sent yet. Failures are remembered for so long.
    pub(super) fn new(source: ReplySource, anchors: Anchors, failures: Duration) -> Self {
        Self { zones: Zones::new(source, anchors, failures) }
    }

    /// Answers one question about one name, with the time for which the answer holds: the reply is judged, and its
    /// claims are decided.
    ///
    /// # Errors
    /// The answer is not proven.
    pub(super) async fn link(
        &self,
        question: &Question,
        budget: &mut LookupBudget,
    ) -> Result<WithTtl<Link<Security>>, FailureReason> {
        let (asked, whole) = (Queried::new(question.clone())?, budget.work);
        let ReceivedReply { message, from } = self.zones.source.ask(&asked, &budget.questions).await?;
        let message = Arc::new(message);
        let proven = match self.proven(&asked, &message, budget).await {
            Err(FailureReason::Bogus(_)) if self.zones.renew(&question.name) => {
                // On the heap: hardly ever is a reply looked at twice.
                Box::pin(self.proven(&asked, &message, budget)).await
            }
            proven => proven,
        };
        match proven {
            Err(reason @ (FailureReason::Bogus(_) | FailureReason::Malformed(_))) => {
                // A bad reply must not use up the work for a good one.
                budget.work = whole;
                Box::pin(self.proven_by_another(&asked, from, budget)).await.ok_or(reason)
            }
            proven => proven,
        }
    }

    /// The answer of another server, if it is proven. One of them may be stale, or lie.
    async fn proven_by_another(
        &self,
        asked: &Queried,
        from: Replier,
        budget: &mut LookupBudget,
    ) -> Option<WithTtl<Link<Security>>> {
        let message = Arc::new(self.zones.source.ask_another(asked, from, &budget.questions).await?);
        self.proven(asked, &message, budget).await.ok()
    }

    /// Answers one question of which nothing is to be validated. The answer is insecure.
    ///
    /// # Errors
    /// There is no answer, or it does not fit the question.
    pub(super) async fn unvalidated(
        &self,
        question: &Question,
        purpose: Purpose,
        left: &Questions,
    ) -> Result<WithTtl<Link<Security>>, FailureReason> {
        let asked = Queried::new(question.clone())?;
        let message = self.zones.source.ask_unvalidated(&asked, purpose, left).await?;
        let reply = convert::reply(&message, |_, _| Proof::Insecure)?;
        let value = judge(question, &reply, &|_, _| None)?.with(Security::Insecure);
        Ok(WithTtl { value, ttl: reply.ttl })
    }

    async fn proven(
        &self,
        asked: &Queried,
        message: &Arc<Message>,
        budget: &mut LookupBudget,
    ) -> Result<WithTtl<Link<Security>>, FailureReason> {
        let mut signers = self.signers(asked, message, budget).await?;
        let unknown = signers.unknown.take();
        let judged = match load(message, asked.question.name.depth(), signers.keys()) {
            Load::Light => judged(asked, message, &signers, &mut budget.work),
            load @ (Load::Ordinary | Load::Heavy) => {
                let (work, mut spent) = ((asked.clone(), Arc::clone(message)), budget.work);
                let judging = move || (judged(&work.0, &work.1, &signers, &mut spent), spent);
                let (judged, spent) = self.zones.workers.run(load, judging).await?;
                budget.work = spent;
                judged
            }
        };
        let WithTtl { value, mut ttl } = judged.map_err(|reason| match reason {
            FailureReason::Bogus(_) if budget.work.is_spent() => {
                FailureReason::Bogus("it costs too much to check".to_owned())
            }
            FailureReason::Bogus(_) => unknown.unwrap_or(reason),
            reason => reason,
        })?;
        // RFC 7672 §2.1.3: each link of a chain has a status of its own.
        let value = match value {
            Link::Records(records, status) => Link::Records(records, self.settle(status, &mut ttl, budget).await?),
            Link::Alias(target, status) => Link::Alias(target, self.settle(status, &mut ttl, budget).await?),
            Link::Denied(denied, status) => Link::Denied(denied, self.settle(status, &mut ttl, budget).await?),
        };
        Ok(WithTtl { value, ttl })
    }

    /// Finds the keys of the zones that signed the relevant records of the reply.
    async fn signers(
        &self,
        asked: &Queried,
        message: &Message,
        budget: &mut LookupBudget,
    ) -> Result<Signers, FailureReason> {
        let mut found = Signers::default();
        for signer in signers(asked, message)? {
            match self.zones.trust(&canonical(&signer), budget).await {
                Ok(trust) => found.known.push((signer, trust)),
                // It may be no zone at all. Records signed in its name are not proven; the other records may still be.
                Err(reason @ FailureReason::Bogus(_)) => found.unknown = Some(reason),
                Err(reason) => return Err(reason),
            }
        }
        Ok(found)
    }

    /// Turns a claim of insecurity into knowledge: finds the ancestor, top down, that a signed parent delegates
    /// unsigned (RFC 4035 §4.3, §5.2).
    async fn settle(
        &self,
        status: LinkStatus,
        ttl: &mut Duration,
        budget: &mut LookupBudget,
    ) -> Result<Security, FailureReason> {
        let claimed = match status {
            LinkStatus::Proven(security) => return Ok(security),
            LinkStatus::Claimed(name) => name,
        };
        match self.zones.trust(&claimed, budget).await? {
            Trust::Unsigned(until) => {
                *ttl = now().left_until(until).min(*ttl);
                Ok(Security::Insecure)
            }
            Trust::Keys(_) => {
                Err(FailureReason::Bogus(format!("no unsigned delegation above {claimed}, and no signature")))
            }
        }
    }
}

/// The zones whose keys are needed.
fn signers(asked: &Queried, message: &Message) -> Result<Vec<Name>, FailureReason> {
    let mut signers: Vec<Name> = Vec::new();
    for (section, records) in [(Section::Answer, &message.answers), (Section::Authority, &message.authorities)] {
        for set in group(records).iter().filter(|set| matters(asked, section, set)) {
            // Records of a zone are evidence about names of that zone only.
            // A set with too many signatures is not looked at: `proof` refuses it.
            for signer in set.signers().into_iter().flatten().filter(|signer| signer.zone_of(asked.name())) {
                if signers.len() < MAX_SIGNERS && !signers.contains(signer) {
                    signers.push(signer.clone());
                }
            }
        }
    }
    Ok(signers)
}

/// Whether anything may be decided by a set.
fn matters(asked: &Queried, section: Section, set: &Set<'_>) -> bool {
    match (section, set.rtype) {
        (Section::Authority, rtype) => matches!(rtype, RecordType::SOA | RecordType::NSEC | RecordType::NSEC3),
        (Section::Answer, RecordType::DNAME) => set.owner.zone_of(asked.name()),
        (Section::Answer, rtype) => (rtype == RecordType::CNAME || rtype == asked.rtype()) && set.owner == asked.name(),
    }
}

/// The reply, validated and judged.
fn judged(
    asked: &Queried,
    message: &Message,
    signers: &Signers,
    budget: &mut Budget,
) -> Result<WithTtl<Link>, FailureReason> {
    let (now, mut sets) = (unix_time(), 0);
    let reply = convert::reply(message, |section, set| {
        if !matters(asked, section, set) {
            return Proof::Unproven("not looked at");
        }
        sets += 1;
        if sets > MAX_SETS { Proof::Unproven("one of too many") } else { proof(set, &signers.known, now, budget) }
    })?;
    let left = Cell::new(*budget);
    let link = judge(&asked.question, &reply, &hasher(&left));
    *budget = left.get();
    Ok(WithTtl { value: link?, ttl: reply.ttl })
}

/// The proof for a set, by the keys of its signers.
fn proof(set: &Set<'_>, signers: &[(Name, Trust)], now: u32, budget: &mut Budget) -> Proof {
    let mut why = None;
    let mut unsigned = false;
    let names = match set.signers() {
        Ok(names) => names,
        Err(why) => return Proof::Unproven(why),
    };
    for signer in names {
        match signers.iter().find(|(name, _)| name == signer) {
            Some((_, Trust::Keys(keys))) if keys.apex() == signer => match keys.verify(set, now, budget) {
                Ok(signature) => return Proof::Secure(signature),
                Err(reason) => why = Some(reason),
            },
            Some((_, Trust::Unsigned(_))) => unsigned = true,
            Some((_, Trust::Keys(_))) => why = Some("signed in the name of what is no zone"),
            None => why = Some("no chain of signatures leads to its zone"),
        }
    }
    // RFC 4035 §4.3: without a signature that could count, its zone is unsigned, or it is bogus. A later step decides which.
    match why {
        Some(why) if !unsigned => Proof::Unproven(why),
        Some(_) | None => Proof::Insecure,
    }
}
