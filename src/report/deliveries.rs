//! Deliveries as the watch sees them: the addresses that were verified by DANE, and the domains whose mail is refused for want of
//! TLS or of a proof. It counts no mail and no recipient.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use time::OffsetDateTime;

use super::{Outcome, Verdict};
use crate::dane::verify::Match;
use crate::excerpt;
use crate::name::Name;
use crate::refusal::{Label, Shortfall};
use crate::tls::{KeyProof, Protection};

/// The most addresses.
const MAX_ADDRESSES: usize = 20_000;
/// The most domains.
const MAX_DOMAINS: usize = 2_000;
/// How long an address is known, in seconds: as long as the watch spares it.
const KNOWN: i64 = 24 * 60 * 60;
/// Refusals so soon after another are one, in seconds: a client repeats its mail.
const APART: i64 = 10 * 60;
/// The most characters of a refusal.
const MAX_TEXT: usize = 200;

/// The last deliveries.
#[derive(Debug, Default)]
pub struct DeliveryNotes(Mutex<NotedDeliveries>);

#[derive(Debug, Default)]
struct NotedDeliveries {
    verified: HashMap<(Name, IpAddr), VerifiedAddress>,
    refused: HashMap<Name, RefusedDomain>,
}

/// An address that a delivery has verified by DANE.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedAddress {
    /// When, in seconds since 1970.
    pub at: i64,
    /// The record that matched.
    pub matched: Match,
}

/// A domain whose last mail was refused for want of TLS or of a proof.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefusedDomain {
    /// The last refusal, in seconds since 1970.
    pub last: i64,
    /// How many refusals lie apart from each other.
    pub times: usize,
    /// Its reason.
    pub label: Label,
    /// In words, with the words of the host, as they came.
    pub text: String,
}

impl DeliveryNotes {
    /// Notes an attempt that is over now.
    pub(super) fn note(&self, outcome: &Outcome, now: OffsetDateTime) {
        let at = now.unix_timestamp();
        let refusal = outcome.reason.filter(|label| label.shortfall() == Shortfall::Proof);
        match (outcome.verdict, refusal) {
            (Verdict::Delivered, _) => self.delivered(outcome, at),
            (Verdict::Deferred | Verdict::Rejected, Some(label)) => self.refused(outcome, label, at),
            (Verdict::Deferred | Verdict::Rejected | Verdict::Aborted, _) => {}
        }
    }

    fn delivered(&self, outcome: &Outcome, at: i64) {
        let mut noted = self.lock();
        noted.refused.remove(&outcome.domain);
        let Some(remote) = outcome.remote.as_ref().filter(|remote| remote.earlier_mails == 0) else { return };
        let proof = remote.channel.protection().and_then(Protection::proof).and_then(KeyProof::record);
        let Some(matched) = proof.filter(|_| remote.peer.port.is_none()) else { return };
        if noted.verified.len() >= MAX_ADDRESSES {
            noted.verified.retain(|_, address| at - address.at < KNOWN);
        }
        let is_full = noted.verified.len() >= MAX_ADDRESSES;
        let key = (remote.peer.exchange.clone(), remote.peer.address);
        if !is_full || noted.verified.contains_key(&key) {
            noted.verified.insert(key, VerifiedAddress { at, matched: matched.clone() });
        }
    }

    fn refused(&self, outcome: &Outcome, label: Label, at: i64) {
        let mut noted = self.lock();
        let is_full = noted.refused.len() >= MAX_DOMAINS;
        match noted.refused.get_mut(&outcome.domain) {
            Some(refused) => {
                if at - refused.last >= APART {
                    (refused.times, refused.last) = (refused.times + 1, at);
                }
                refused.label = label;
            }
            None if is_full => {}
            None => {
                let text = excerpt::cut(&outcome.text, MAX_TEXT);
                noted.refused.insert(outcome.domain.clone(), RefusedDomain { last: at, times: 1, label, text });
            }
        }
    }

    /// The addresses that were verified after this time, in seconds since 1970.
    pub fn verified_since(&self, since: i64) -> Vec<((Name, IpAddr), VerifiedAddress)> {
        let noted = self.lock();
        let new = noted.verified.iter().filter(|(_, address)| address.at >= since);
        new.map(|(key, address)| (key.clone(), address.clone())).collect()
    }

    /// The domains whose last mail was refused.
    pub fn refused_domains(&self) -> Vec<(Name, RefusedDomain)> {
        self.lock().refused.iter().map(|(name, refused)| (name.clone(), refused.clone())).collect()
    }

    /// A panic elsewhere does not poison the notes: each is put in whole.
    fn lock(&self) -> MutexGuard<'_, NotedDeliveries> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
