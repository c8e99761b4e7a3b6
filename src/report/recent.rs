//! The mail of the last day: by time, by reason and by domain, for `danelaw status`. It ends with the process.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;

use parking_lot::Mutex;
use time::OffsetDateTime;

use super::{Outcome, Verdict};
use crate::name::Name;
use crate::policy::ProtectionWord;
use crate::refusal::Label;
use crate::tls::Protection;

/// Seconds of mail that are counted together.
const SLICE: i64 = 5 * 60;
/// Slices of an hour and of a day.
const HOUR: i64 = 12;
const DAY: i64 = 24 * HOUR;
/// The most domains with a delivered last mail.
const WORKING: usize = 8_000;
/// The most domains with a last mail that was refused. They have places of their own: domains without faults cannot push them out.
const FAILING: usize = 2_000;

/// The counts and domains.
#[derive(Debug)]
pub struct RecentMail {
    since: OffsetDateTime,
    inner: Mutex<RecentState>,
}

#[derive(Debug)]
struct RecentState {
    slices: VecDeque<Slice>,
    reasons: BTreeMap<Label, ReasonCount>,
    working: DomainPlaces,
    failing: DomainPlaces,
}

#[derive(Debug)]
struct Slice {
    number: i64,
    counts: VerdictCounts,
}

#[derive(Debug)]
struct ReasonCount {
    times: u64,
    last: OffsetDateTime,
    domain: Name,
}

/// Attempts by their verdict.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct VerdictCounts {
    /// The remote took the message.
    pub delivered: u64,
    /// The client was told to try again.
    pub deferred: u64,
    /// The client was told that it will never work.
    pub rejected: u64,
    /// The client ended the transaction.
    pub aborted: u64,
}

impl VerdictCounts {
    fn add(&mut self, verdict: Verdict) {
        *match verdict {
            Verdict::Delivered => &mut self.delivered,
            Verdict::Deferred => &mut self.deferred,
            Verdict::Rejected => &mut self.rejected,
            Verdict::Aborted => &mut self.aborted,
        } += 1;
    }

    fn plus(self, other: Self) -> Self {
        Self {
            delivered: self.delivered + other.delivered,
            deferred: self.deferred + other.deferred,
            rejected: self.rejected + other.rejected,
            aborted: self.aborted + other.aborted,
        }
    }
}

/// The last mail to a domain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecentDomain {
    /// The last verdict that was not `aborted`.
    pub verdict: Verdict,
    /// The start of the present run of deliveries, or of refusals.
    pub since: OffsetDateTime,
    /// The end of the last attempt.
    pub last: OffsetDateTime,
    /// The id of that attempt.
    pub id: String,
    /// The exchange and the policy, if one was reached.
    pub remote: Option<(Name, &'static str)>,
    /// The word for the protection of the mail.
    pub protection: ProtectionWord,
    /// The version of TLS with the remote, if it had any.
    pub tls: Option<&'static str>,
    /// The reason for anything but a delivery.
    pub reason: Option<Label>,
    /// The attempts since the domain is remembered.
    pub counts: VerdictCounts,
}

/// A reason that was seen since the start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeenReason {
    /// The reason.
    pub label: Label,
    /// How often.
    pub times: u64,
    /// When it was last seen.
    pub last: OffsetDateTime,
    /// The domain at which it was last seen.
    pub domain: Name,
}

/// The mail of an hour and of a day.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecentSummary {
    /// The start of the counts.
    pub since: OffsetDateTime,
    /// The last hour.
    pub hour: VerdictCounts,
    /// The last 24 hours.
    pub day: VerdictCounts,
    /// The most frequent reason first.
    pub reasons: Vec<SeenReason>,
    /// How many domains are remembered.
    pub domains: usize,
    /// Domains with a last mail that was refused, the longest first; the first of them, if they are many.
    pub failing: Vec<(Name, RecentDomain)>,
    /// How many these are in all.
    pub failing_domains: usize,
}

/// Some of the domains, in their order.
#[derive(Debug, Default)]
pub struct ListedDomains {
    /// Each with its last mail.
    pub rows: Vec<(Name, RecentDomain)>,
    /// Whether more follow.
    pub more: bool,
}

impl ListedDomains {
    fn first(mut rows: Vec<(Name, RecentDomain)>, most: usize) -> Self {
        let more = rows.len() > most;
        rows.truncate(most);
        Self { rows, more }
    }
}

impl RecentMail {
    /// No mail yet.
    pub fn new(since: OffsetDateTime) -> Self {
        let inner = RecentState {
            slices: VecDeque::new(),
            reasons: BTreeMap::new(),
            working: DomainPlaces::new(WORKING),
            failing: DomainPlaces::new(FAILING),
        };
        Self { since, inner: Mutex::new(inner) }
    }

    /// Counts an attempt that is over now.
    pub(super) fn note(&self, outcome: &Outcome, now: OffsetDateTime) {
        let mut state = self.inner.lock();
        state.count(outcome.verdict, now);
        if let Some(label) = outcome.reason {
            let seen = ReasonCount { times: 0, last: now, domain: outcome.domain.clone() };
            let reason = state.reasons.entry(label).or_insert(seen);
            (reason.times, reason.last) = (reason.times + 1, now);
            reason.domain.clone_from(&outcome.domain);
        }
        state.place(outcome, now);
    }

    /// The state now, with so many of the domains that fail.
    pub fn summary(&self, now: OffsetDateTime, most: usize) -> RecentSummary {
        let state = self.inner.lock();
        let seen = |(label, reason): (&Label, &ReasonCount)| SeenReason {
            label: *label,
            times: reason.times,
            last: reason.last,
            domain: reason.domain.clone(),
        };
        let mut reasons: Vec<_> = state.reasons.iter().map(seen).collect();
        let mut failing: Vec<_> =
            state.failing.by_name.iter().map(|(name, (_, domain))| (name.clone(), domain.clone())).collect();
        let (hour, day, failing_domains) = (state.last(HOUR, now), state.last(DAY, now), failing.len());
        let domains = failing_domains + state.working.by_name.len();
        drop(state);
        reasons.sort_by_key(|reason| std::cmp::Reverse(reason.times));
        failing.sort_by(|one, other| (one.1.since, &one.0).cmp(&(other.1.since, &other.0)));
        failing.truncate(most);
        RecentSummary { since: self.since, hour, day, reasons, domains, failing, failing_domains }
    }

    /// The domains that fail behind this one, so many of them, in their order.
    pub fn failing(&self, after: Option<&Name>, most: usize) -> ListedDomains {
        let rows = self.inner.lock().failing.behind(after, most + 1);
        ListedDomains::first(rows, most)
    }

    /// All domains behind this one, so many of them, in their order.
    pub fn all(&self, after: Option<&Name>, most: usize) -> ListedDomains {
        let mut rows = {
            let state = self.inner.lock();
            let mut rows = state.failing.behind(after, most + 1);
            rows.extend(state.working.behind(after, most + 1));
            rows
        };
        rows.sort_by(|one, other| one.0.cmp(&other.0));
        ListedDomains::first(rows, most)
    }

    /// The last mail to a domain.
    pub fn domain(&self, name: &Name) -> Option<RecentDomain> {
        let state = self.inner.lock();
        let (_, domain) = state.failing.by_name.get(name).or_else(|| state.working.by_name.get(name))?;
        Some(domain.clone())
    }
}

impl RecentState {
    fn count(&mut self, verdict: Verdict, now: OffsetDateTime) {
        let number = now.unix_timestamp().div_euclid(SLICE);
        // A clock that goes back adds to the last slice.
        if self.slices.back().is_none_or(|last| last.number < number) {
            self.slices.push_back(Slice { number, counts: VerdictCounts::default() });
        }
        while self.slices.front().is_some_and(|first| first.number <= number - DAY) {
            self.slices.pop_front();
        }
        if let Some(last) = self.slices.back_mut() {
            last.counts.add(verdict);
        }
    }

    fn last(&self, slices: i64, now: OffsetDateTime) -> VerdictCounts {
        let begin = now.unix_timestamp().div_euclid(SLICE) - slices;
        let counts = self.slices.iter().filter(|slice| slice.number > begin).map(|slice| slice.counts);
        counts.fold(VerdictCounts::default(), VerdictCounts::plus)
    }

    /// Notes an attempt among the working domains or among the failing ones.
    fn place(&mut self, outcome: &Outcome, now: OffsetDateTime) {
        let name = &outcome.domain;
        let (same, other) = match is_working(outcome.verdict) {
            true => (&mut self.working, &mut self.failing),
            false => (&mut self.failing, &mut self.working),
        };
        // Most mail goes to a domain that is known, and takes no second look.
        if let Some(domain) = same.get_mut(name) {
            domain.go_on(outcome, now);
        } else if let Some(domain) = other.get_mut(name).filter(|_| outcome.verdict == Verdict::Aborted) {
            // An attempt that the client ended does not make a failing domain work.
            domain.counts.add(outcome.verdict);
        } else {
            let counts = other.take(name).map(|before| before.counts).unwrap_or_default();
            let mut domain = RecentDomain { counts, ..RecentDomain::of(outcome, now) };
            domain.counts.add(outcome.verdict);
            same.put(name.clone(), domain);
        }
    }
}

impl RecentDomain {
    fn of(outcome: &Outcome, now: OffsetDateTime) -> Self {
        Self {
            verdict: outcome.verdict,
            since: now,
            last: now,
            id: outcome.id.clone(),
            remote: outcome.remote.as_ref().map(|remote| (remote.peer.exchange.clone(), remote.policy)),
            protection: outcome.protection_word(),
            tls: outcome.protection().map(Protection::version),
            reason: outcome.reason,
            counts: VerdictCounts::default(),
        }
    }

    /// One more attempt that leaves the domain as it is.
    fn go_on(&mut self, outcome: &Outcome, now: OffsetDateTime) {
        self.counts.add(outcome.verdict);
        if outcome.verdict != Verdict::Aborted {
            let (since, counts) = (self.since, self.counts);
            *self = Self { since, counts, ..Self::of(outcome, now) };
        }
    }
}

/// Whether an attempt does not count against its domain.
fn is_working(verdict: Verdict) -> bool {
    matches!(verdict, Verdict::Delivered | Verdict::Aborted)
}

/// Domains up to a number; the one that has been among them for the longest time makes room.
#[derive(Debug)]
struct DomainPlaces {
    most: usize,
    next: u64,
    by_name: BTreeMap<Name, (u64, RecentDomain)>,
    by_age: BTreeMap<u64, Name>,
}

impl DomainPlaces {
    fn new(most: usize) -> Self {
        Self { most, next: 0, by_name: BTreeMap::new(), by_age: BTreeMap::new() }
    }

    fn behind(&self, after: Option<&Name>, most: usize) -> Vec<(Name, RecentDomain)> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let rows = self.by_name.range::<Name, _>((from, Bound::Unbounded));
        rows.take(most).map(|(name, (_, domain))| (name.clone(), domain.clone())).collect()
    }

    fn get_mut(&mut self, name: &Name) -> Option<&mut RecentDomain> {
        self.by_name.get_mut(name).map(|(_, domain)| domain)
    }

    fn take(&mut self, name: &Name) -> Option<RecentDomain> {
        let (age, domain) = self.by_name.remove(name)?;
        self.by_age.remove(&age);
        Some(domain)
    }

    fn put(&mut self, name: Name, domain: RecentDomain) {
        if self.by_name.len() >= self.most
            && let Some((_, oldest)) = self.by_age.pop_first()
        {
            self.by_name.remove(&oldest);
        }
        self.next += 1;
        self.by_age.insert(self.next, name.clone());
        self.by_name.insert(name, (self.next, domain));
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::outcome;
    use super::*;

    fn attempt(domain: &str, verdict: Verdict) -> Outcome {
        let reason = (verdict == Verdict::Deferred).then_some(Label::TlsaMismatch);
        Outcome { domain: Name::parse(domain).unwrap(), verdict, reason, ..outcome() }
    }

    #[test]
    fn the_mail_of_an_hour_and_of_a_day() {
        let start = OffsetDateTime::UNIX_EPOCH + time::Duration::days(20_000);
        let recent = RecentMail::new(start);
        let at = |minutes| start + time::Duration::minutes(minutes);
        for minutes in [0, 10, 70, 24 * 60 - 1] {
            recent.note(&attempt("a.example", Verdict::Delivered), at(minutes));
        }
        for (minutes, hour, day) in [(59, 2, 4), (65, 1, 4), (24 * 60 - 1, 1, 4), (24 * 60, 1, 3), (24 * 60 + 75, 0, 1)]
        {
            // Later mail has come already: only the begin of each span counts.
            let later = |counts: VerdictCounts| counts.delivered;
            let summary = recent.summary(at(minutes), 10);
            let after = [0, 10, 70, 24 * 60 - 1].iter().filter(|at| **at / 5 > minutes / 5).count() as u64;
            assert_eq!((later(summary.hour) - after, later(summary.day)), (hour, day), "{minutes}");
        }
    }

    #[test]
    fn a_domain_fails_from_its_first_failure_to_its_next_delivery() {
        let start = OffsetDateTime::UNIX_EPOCH;
        let recent = RecentMail::new(start);
        let at = |minutes| start + time::Duration::minutes(minutes);
        let name = Name::parse("a.example").unwrap();
        let note = |minutes, verdict| {
            recent.note(&attempt("a.example", verdict), at(minutes));
            let domain = recent.domain(&name).unwrap();
            (domain.verdict, domain.since, recent.summary(at(minutes), 10).failing_domains)
        };
        assert_eq!(note(0, Verdict::Aborted), (Verdict::Aborted, at(0), 0));
        assert_eq!(note(1, Verdict::Deferred), (Verdict::Deferred, at(1), 1));
        assert_eq!(note(2, Verdict::Rejected), (Verdict::Rejected, at(1), 1));
        assert_eq!(note(3, Verdict::Aborted), (Verdict::Rejected, at(1), 1));
        assert_eq!(note(4, Verdict::Delivered), (Verdict::Delivered, at(4), 0));
        assert_eq!(note(5, Verdict::Delivered), (Verdict::Delivered, at(4), 0));
        let counts = recent.domain(&name).unwrap().counts;
        assert_eq!(counts, VerdictCounts { delivered: 2, deferred: 1, rejected: 1, aborted: 2 });
        let reasons = recent.summary(at(5), 10).reasons;
        assert_eq!((reasons.len(), reasons[0].label, reasons[0].times), (1, Label::TlsaMismatch, 1));
    }

    #[test]
    fn domains_without_faults_do_not_push_out_those_with_one() {
        let recent = RecentMail::new(OffsetDateTime::UNIX_EPOCH);
        recent.note(&attempt("bad.example", Verdict::Deferred), OffsetDateTime::UNIX_EPOCH);
        for number in 0..WORKING + 100 {
            recent.note(&attempt(&format!("d{number}.example"), Verdict::Delivered), OffsetDateTime::UNIX_EPOCH);
        }
        let summary = recent.summary(OffsetDateTime::UNIX_EPOCH, 10);
        assert_eq!((summary.domains, summary.failing_domains), (WORKING + 1, 1));
        for number in 0..FAILING + 100 {
            recent.note(&attempt(&format!("f{number}.example"), Verdict::Deferred), OffsetDateTime::UNIX_EPOCH);
        }
        let summary = recent.summary(OffsetDateTime::UNIX_EPOCH, 10);
        assert_eq!((summary.failing_domains, summary.failing.len()), (FAILING, 10));
        assert_eq!(recent.domain(&Name::parse("bad.example").unwrap()), None);
    }
}
