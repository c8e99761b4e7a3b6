//! The deliveries of the last day, for the watch: addresses that were verified by DANE, domains that took mail, and domains with
//! mail that was refused for want of TLS or of a proof. No mail and no recipient is counted.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::hash::Hash;
use std::net::IpAddr;

use parking_lot::Mutex;
use time::OffsetDateTime;

use super::{Outcome, Verdict};
use crate::dane::tlsa::{Tlsa, Usage};
use crate::name::Name;
use crate::policy::{ListenerMail, VerifiedBy};
use crate::refusal::{Label, Shortfall};

/// The most notes of each kind. Where there is no room, the older half goes.
const MOST: usize = 10_000;
/// A note counts for a day, in seconds.
const DAY: i64 = 24 * 60 * 60;
/// Refusals so soon after another are one, in seconds: a client repeats its mail.
const APART: i64 = 10 * 60;

/// The deliveries of the last day.
#[derive(Debug, Default)]
pub struct DeliveryNotes(Mutex<NotedDeliveries>);

#[derive(Debug, Default)]
struct NotedDeliveries {
    verified: HashMap<(Name, IpAddr), VerifiedAddress>,
    delivered: HashMap<Name, DeliveredDomain>,
    refused: HashMap<Name, RefusedDomain>,
}

/// An address whose key a TLSA record of the DNS has verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedAddress {
    /// When, in seconds since 1970.
    pub at: i64,
    /// The record, of usage 3: one of usage 2 matches by names that belong to the domain.
    pub record: Tlsa,
}

/// The last deliveries to a domain, in seconds since 1970.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct DeliveredDomain {
    /// The last one.
    pub last: i64,
    /// The last one under TLS.
    pub under_tls: Option<i64>,
}

/// A domain whose last mail was refused for want of TLS or of a proof.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefusedDomain {
    /// The last refusal, in seconds since 1970.
    pub last: i64,
    /// The number of refusals that lie ten minutes apart from each other, and no longer than a day.
    pub times: usize,
    /// The reason of the last one.
    pub label: Label,
}

impl DeliveryNotes {
    /// Notes an attempt that is over now.
    pub(super) fn note(&self, outcome: &Outcome, now: OffsetDateTime) {
        // The watch looks as ordinary mail goes: not as mail with a tag, or by the terms of a listener.
        let is_ordinary = outcome.requiretls.is_none()
            && outcome.listener_level.is_none()
            && outcome.listener_mail == ListenerMail::Any;
        let at = now.unix_timestamp();
        let refusal = outcome.reason.filter(|_| is_ordinary && outcome.shortfall() == Shortfall::Proof);
        match (outcome.verdict, refusal) {
            (Verdict::Delivered, _) if is_ordinary => self.note_delivered(outcome, at),
            (Verdict::Deferred | Verdict::Rejected, Some(label)) => self.note_refused(outcome, label, at),
            (Verdict::Delivered | Verdict::Deferred | Verdict::Rejected | Verdict::Aborted, _) => {}
        }
    }

    fn note_delivered(&self, outcome: &Outcome, at: i64) {
        let mut noted = self.0.lock();
        noted.refused.remove(&outcome.domain);
        let protection = outcome.protection();
        let before = noted.delivered.get(&outcome.domain).and_then(|delivered| delivered.under_tls);
        let delivered = DeliveredDomain { last: at, under_tls: protection.map(|_| at).or(before) };
        put(&mut noted.delivered, outcome.domain.clone(), delivered, |delivered| delivered.last);
        let Some(remote) = outcome.remote.as_ref().filter(|remote| remote.peer.port.is_none()) else { return };
        let Some(protection) = protection else { return };
        // A session that served mail before was verified at that time.
        let is_by_dane = protection.verified_by() == Some(VerifiedBy::Dane) && remote.earlier_mails == 0;
        let record = protection.matched().map(|matched| &matched.record);
        if let Some(record) = record.filter(|record| is_by_dane && record.usage() == Usage::EndEntity) {
            let key = (remote.peer.exchange.clone(), remote.peer.address);
            put(&mut noted.verified, key, VerifiedAddress { at, record: record.clone() }, |address| address.at);
        }
    }

    fn note_refused(&self, outcome: &Outcome, label: Label, at: i64) {
        let mut noted = self.0.lock();
        let before = noted.refused.get(&outcome.domain).filter(|refused| at - refused.last < DAY);
        let (last, times) = match before {
            Some(before) if at - before.last < APART => (before.last, before.times),
            Some(before) => (at, before.times + 1),
            None => (at, 1),
        };
        let refused = RefusedDomain { last, times, label };
        put(&mut noted.refused, outcome.domain.clone(), refused, |refused| refused.last);
    }

    /// The addresses that were verified within the last day and after this time, in seconds since 1970.
    pub fn verified_since(&self, since: i64) -> Vec<((Name, IpAddr), VerifiedAddress)> {
        let noted = self.0.lock();
        let new = noted.verified.iter().filter(|(_, address)| address.at >= since);
        new.map(|(key, address)| (key.clone(), address.clone())).collect()
    }

    /// The last deliveries to a domain.
    pub fn delivered(&self, domain: &Name) -> DeliveredDomain {
        self.0.lock().delivered.get(domain).copied().unwrap_or_default()
    }

    /// The domains whose last mail was refused, after this time.
    pub fn refused_since(&self, since: i64) -> Vec<(Name, RefusedDomain)> {
        let noted = self.0.lock();
        let new = noted.refused.iter().filter(|(_, refused)| refused.last >= since);
        new.map(|(name, refused)| (name.clone(), refused.clone())).collect()
    }
}

/// Puts a note in the place of the one before. Where there is no room, the older half goes, so that a flood of new names
/// costs each of them little.
fn put<K: Eq + Hash, V>(notes: &mut HashMap<K, V>, key: K, value: V, at: impl Fn(&V) -> i64) {
    if notes.len() >= MOST && !notes.contains_key(&key) {
        let mut times: Vec<_> = notes.values().map(&at).collect();
        let (_, middle, newer) = times.select_nth_unstable(MOST / 2);
        // Many may be of one second.
        let mut of_middle = newer.iter().filter(|time| *time == middle).count();
        notes.retain(|_, note| match at(note).cmp(middle) {
            Ordering::Greater => true,
            Ordering::Equal => of_middle.checked_sub(1).map(|rest| of_middle = rest).is_some(),
            Ordering::Less => false,
        });
    }
    notes.insert(key, value);
}

#[cfg(test)]
mod tests {
    use super::super::tests::outcome;
    use super::*;
    use crate::requiretls::TagResult;

    const START: i64 = 1_000_000_000;

    fn note(notes: &DeliveryNotes, seconds: i64, change: impl FnOnce(&mut Outcome)) {
        let mut outcome = Outcome { verdict: Verdict::Deferred, reason: Some(Label::TlsaMismatch), ..outcome() };
        change(&mut outcome);
        notes.note(&outcome, OffsetDateTime::from_unix_timestamp(START + seconds).unwrap());
    }

    fn times(notes: &DeliveryNotes) -> Vec<usize> {
        notes.refused_since(0).into_iter().map(|(_, refused)| refused.times).collect()
    }

    #[test]
    fn refusals_count_apart_until_a_delivery_or_a_day() {
        let notes = DeliveryNotes::default();
        for (seconds, expected) in [(0, 1), (60, 1), (599, 1), (600, 2), (1200, 3), (1200 + DAY, 1)] {
            note(&notes, seconds, |_| {});
            assert_eq!(times(&notes), [expected], "{seconds}");
        }
        note(&notes, 2 * DAY, |outcome| {
            outcome.reason = Some(Label::StartTlsMissing);
        });
        let (_, refused) = notes.refused_since(START + 2 * DAY).remove(0);
        assert_eq!(refused.label, Label::StartTlsMissing);
        note(&notes, 2 * DAY, |outcome| (outcome.verdict, outcome.reason) = (Verdict::Delivered, None));
        assert!(times(&notes).is_empty());
    }

    #[test]
    fn other_mail_and_other_reasons_are_no_refusal_of_the_domain() {
        let notes = DeliveryNotes::default();
        note(&notes, 0, |outcome| outcome.requiretls = Some(TagResult::Sent));
        note(&notes, 0, |outcome| outcome.listener_mail = ListenerMail::TlsRequiredNo);
        note(&notes, 0, |outcome| outcome.reason = Some(Label::ConnectTimeout));
        note(&notes, 0, |outcome| outcome.verdict = Verdict::Aborted);
        note(&notes, 0, |outcome| {
            (outcome.reason, outcome.shortfall) = (Some(Label::EhloRefused), Some(Shortfall::Other));
        });
        // Mail that goes unverified by its own wish proves nothing for other mail.
        note(&notes, 0, |_| {});
        note(&notes, 0, |outcome| {
            (outcome.verdict, outcome.listener_mail) = (Verdict::Delivered, ListenerMail::TlsRequiredNo);
        });
        assert_eq!(times(&notes), [1]);
        note(&notes, 0, |outcome| (outcome.verdict, outcome.reason) = (Verdict::Delivered, None));
        assert!(times(&notes).is_empty());
    }

    #[test]
    fn a_flood_of_domains_pushes_the_oldest_out() {
        // All of one second, in groups of one second, and each of another one.
        for of_one_second in [2 * MOST, MOST - 1, 7, 1] {
            let notes = DeliveryNotes::default();
            for number in 0..=MOST {
                let domain = Name::parse(&format!("d{number}.example")).unwrap();
                note(&notes, i64::try_from(number / of_one_second).unwrap(), |outcome| outcome.domain = domain);
            }
            let kept = notes.refused_since(0);
            assert_eq!(kept.len(), MOST / 2, "{of_one_second}");
            assert!(kept.iter().any(|(name, _)| *name == Name::parse(&format!("d{MOST}.example")).unwrap()));
        }
    }
}
