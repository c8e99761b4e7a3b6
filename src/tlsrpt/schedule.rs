//! Which reports are due, and which are over: one for each day, domain and address.
//!
//! A domain's record is looked up when its report is due, and then each of its addresses has a state of its own
//! (RFC 8460 §5.5). Strangers choose domains and addresses, so the reports of a day are bounded, in all and for each domain
//! that takes them.

mod lookups;
mod room;
mod untold;

pub use untold::{SummedEnd, UntoldEnds};

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use time::{Date, Duration, OffsetDateTime};

use super::document::ReportAuthor;
use super::record::ReportAddress;
use super::report_end::ReportEnd;
use super::tally::{DomainDay, TalliedDay, TalliedDomain, TlsTally};
use super::window::{ReportWindow, Tries};
use crate::name::Name;
use room::{RoomFor, TakenRoom};

/// The most reports to one domain that are under way together.
pub const TO_ONE_TOGETHER: usize = 4;
/// The most in all.
pub const MAX_UNDER_WAY: usize = 64;
/// How long an address that has refused a report is left alone: the first time, and later.
const ALONE: [Duration; 2] = [Duration::days(7), Duration::days(30)];
/// The most addresses that are left alone.
const MAX_SUPPRESSED: usize = 10_000;

/// A report; without an address, the lookup of the record that its addresses come from.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ReportKey {
    /// The domain whose record asks for it, and the day that it is about.
    pub of: DomainDay,
    /// Where it goes.
    pub address: Option<ReportAddress>,
}

/// The state of a report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReportEntry {
    /// When it was due first.
    pub first: OffsetDateTime,
    /// How often it was tried.
    pub tries: usize,
    /// When it is tried next.
    pub next: OffsetDateTime,
    /// How it ended, if it has.
    pub end: Option<ReportEnd>,
    /// The author that its first try named.
    pub author: Option<Arc<ReportAuthor>>,
}

/// An address that has refused a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReportSuppression {
    /// It gets none until then.
    pub until: OffsetDateTime,
    /// How often it has refused one in a row.
    pub level: usize,
}

/// The result of a lookup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RecordFound {
    /// The record has these addresses.
    Addresses(Vec<ReportAddress>),
    /// The domain asks for no reports.
    None,
    /// The lookup failed.
    Failed,
}

/// The result of a try.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReportTried {
    /// The receiver has the report.
    Accepted,
    /// The receiver refuses it for good.
    Refused,
    /// It may go later.
    Failed,
}

/// The first days that are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeptDays {
    /// Of the counts, and of the states of all reports.
    pub counts: Date,
    /// Of the state of one report.
    pub states: Date,
}

/// All reports of the last days.
#[derive(Debug, Default)]
pub struct ReportBook {
    entries: BTreeMap<ReportKey, ReportEntry>,
    suppressed: BTreeMap<ReportAddress, ReportSuppression>,
    /// How many reports of each day have found room.
    taken: BTreeMap<Date, TakenRoom>,
    /// The reports that are being sent.
    under_way: BTreeSet<ReportKey>,
    changed: BTreeSet<ReportKey>,
    changed_suppressions: BTreeSet<ReportAddress>,
    untold: UntoldEnds,
}

impl ReportBook {
    /// A lookup has ended.
    pub fn looked_up(&mut self, of: &DomainDay, found: RecordFound, now: OffsetDateTime) {
        let key = ReportKey { of: of.clone(), address: None };
        match found {
            RecordFound::Failed => self.fail(key, ReportEnd::Dns, now),
            RecordFound::None => self.end(key, ReportEnd::NoRecord, now),
            RecordFound::Addresses(addresses) => {
                let end = self.open(of, addresses, now);
                let entry = self.with_one_try_more(&key, now);
                self.put(key, ReportEntry { next: now, end: Some(end), ..entry });
            }
        }
    }

    /// Begins the reports to these addresses, and says how the lookup has ended. An address that gets none leaves nothing behind
    /// but the number in the log: strangers can name any number of them.
    fn open(&mut self, of: &DomainDay, addresses: Vec<ReportAddress>, now: OffsetDateTime) -> ReportEnd {
        let (mut is_any, mut left_out) = (false, ReportEnd::Found);
        for address in addresses {
            let key = ReportKey { of: of.clone(), address: Some(address) };
            if self.entries.contains_key(&key) {
                is_any = true;
            } else if let Some(end) = self.keeps_back(&key, now) {
                self.untold.add(&key, end);
                left_out = end;
            } else {
                is_any = true;
                self.take_room(&key);
                self.put(key, ReportEntry { first: now, tries: 0, next: now, end: None, author: None });
            }
        }
        if is_any { ReportEnd::Found } else { left_out }
    }

    fn keeps_back(&self, key: &ReportKey, now: OffsetDateTime) -> Option<ReportEnd> {
        let address = key.address.as_ref()?;
        if self.is_suppressed(address, now) {
            return Some(ReportEnd::Suppressed);
        }
        let taken = self.taken.get(&key.of.day)?;
        let room = RoomFor { target: address.target(), about: &key.of.domain };
        taken.is_full(room).then_some(ReportEnd::Limit)
    }

    fn is_suppressed(&self, address: &ReportAddress, now: OffsetDateTime) -> bool {
        self.suppressed_until(address, now).is_some()
    }

    /// The time until which the address gets no reports, because it has refused one.
    pub fn suppressed_until(&self, address: &ReportAddress, now: OffsetDateTime) -> Option<OffsetDateTime> {
        self.suppressed.get(address).map(|suppression| suppression.until).filter(|until| *until > now)
    }

    /// Counts a new report against the limits.
    fn take_room(&mut self, key: &ReportKey) {
        if let Some(address) = &key.address {
            let room = RoomFor { target: address.target(), about: &key.of.domain };
            self.taken.entry(key.of.day).or_default().take(room);
        }
    }

    /// The reports that are to be tried now, beside those under way. Those that are too old end, and those to addresses that
    /// have refused another one.
    pub fn due_reports(&mut self, now: OffsetDateTime) -> Vec<ReportKey> {
        self.end_old(now);
        let open = self.entries.iter().filter(|(key, entry)| entry.end.is_none() && !self.under_way.contains(key));
        let mut open: Vec<_> = open.collect();
        // Those that have waited longest come first.
        open.sort_by_key(|(_, entry)| entry.next);
        let is_suppressed = |key: &ReportKey| key.address.as_ref().is_some_and(|to| self.is_suppressed(to, now));
        let suppressed: Vec<_> = open.iter().map(|(key, _)| (*key).clone()).filter(is_suppressed).collect();
        let mut together = BTreeMap::<Name, usize>::new();
        for target in self.under_way.iter().filter_map(|key| key.address.as_ref()).map(ReportAddress::target) {
            *together.entry(target.registered()).or_default() += 1;
        }
        let room = MAX_UNDER_WAY.saturating_sub(self.under_way.len());
        let mut due = Vec::new();
        for (key, _) in open.into_iter().filter(|(key, entry)| entry.next <= now && !is_suppressed(key)) {
            let Some(target) = key.address.as_ref().map(ReportAddress::target) else { continue };
            let count = together.entry(target.registered()).or_default();
            if *count < TO_ONE_TOGETHER && due.len() < room {
                *count += 1;
                due.push(key.clone());
            }
        }
        suppressed.into_iter().for_each(|key| self.end(key, ReportEnd::Suppressed, now));
        due
    }

    /// Ends the open reports of days that are too long ago.
    fn end_old(&mut self, now: OffsetDateTime) {
        let is_old = |(key, entry): &(&ReportKey, &ReportEntry)| {
            entry.end.is_none() && !self.under_way.contains(*key) && ReportWindow::of(key.of.day).is_over(now)
        };
        let old: Vec<_> = self.entries.iter().filter(is_old).map(|(key, _)| key.clone()).collect();
        old.into_iter().for_each(|key| self.end(key, ReportEnd::Old, now));
    }

    /// The counts for a report: the domain's own, and those of other recipients under its TLSA records, if these get no report
    /// at the same address.
    pub fn content(&self, day: &TalliedDay, key: &ReportKey) -> TalliedDomain {
        let mut content = day.domains().get(&key.of.domain).cloned().unwrap_or_default();
        let leaves_out = |recipient: &Name| {
            let of = DomainDay { domain: recipient.clone(), day: key.of.day };
            *recipient == key.of.domain || self.entries.contains_key(&ReportKey { of, ..key.clone() })
        };
        for (policy, counts) in day.of_base_domain(&key.of.domain, leaves_out) {
            content.entry(policy).or_default().merge(&counts);
        }
        content
    }

    /// A try begins. Its author is that of the first try, so that each has the same id and octets, unless the domain has
    /// changed: a mail in the name of the old one could not be signed.
    pub fn begin(&mut self, key: &ReportKey, author: &ReportAuthor) -> Arc<ReportAuthor> {
        self.under_way.insert(key.clone());
        let entry = self.entries.get_mut(key);
        let kept = entry.as_ref().and_then(|entry| entry.author.clone());
        if let Some(kept) = kept.filter(|kept| kept.domain == author.domain) {
            return kept;
        }
        let author = Arc::new(author.clone());
        if let Some(entry) = entry {
            entry.author = Some(Arc::clone(&author));
            self.changed.insert(key.clone());
        }
        author
    }

    /// A report is no longer under way, whether the end of its try was told or not.
    pub fn leave(&mut self, key: &ReportKey) {
        self.under_way.remove(key);
    }

    /// A try has ended.
    pub fn tried(&mut self, key: &ReportKey, tried: ReportTried, now: OffsetDateTime) {
        match tried {
            ReportTried::Accepted => {
                self.end(key.clone(), ReportEnd::Sent, now);
                self.suppress(key, None);
            }
            ReportTried::Refused => {
                self.end(key.clone(), ReportEnd::Refused, now);
                let before = key.address.as_ref().and_then(|address| self.suppressed.get(address));
                // Reports that were tried together are refused together, and that counts once.
                if before.is_none_or(|before| before.until <= now) {
                    let level = before.map_or(0, |before| before.level) + 1;
                    let alone = ALONE.get(level - 1).unwrap_or(&ALONE[1]);
                    self.suppress(key, Some(ReportSuppression { until: now.saturating_add(*alone), level }));
                }
            }
            ReportTried::Failed => self.fail(key.clone(), ReportEnd::Tries, now),
        }
    }

    /// The report has nothing in it.
    pub fn end_as_told(&mut self, key: &ReportKey, now: OffsetDateTime) {
        self.end(key.clone(), ReportEnd::Told, now);
    }

    /// The configuration leaves out its domain by now.
    pub fn skip(&mut self, key: &ReportKey, now: OffsetDateTime) {
        self.end(key.clone(), ReportEnd::Skipped, now);
    }

    /// The reports that have ended without a try since the last call.
    pub fn take_untold(&mut self) -> UntoldEnds {
        std::mem::take(&mut self.untold)
    }

    /// It waits until then, for a reason that is not the receiver's. The 24 hours begin with the first try.
    pub fn postpone(&mut self, key: &ReportKey, until: OffsetDateTime) {
        if let Some(entry) = self.entries.get(key) {
            let first = if entry.tries == 0 { until } else { entry.first };
            self.put(key.clone(), ReportEntry { first, next: until, ..entry.clone() });
        }
    }

    /// The day on which an event of this day counts. Where the clock went back, that is a later one: the first whose reports
    /// have not begun, and the next one if that has counts already.
    pub fn day_of_counts(&self, day: Date, tally: &TlsTally) -> Date {
        let mut day = day;
        while self.entries.range(first_key(day)..).next().is_some_and(|(key, _)| key.of.day == day)
            && let Some(next) = day.next_day()
        {
            day = next;
        }
        tally.days().last().filter(|last| day.next_day() == Some(*last)).unwrap_or(day)
    }

    /// The reports that wait.
    pub fn waiting(&self) -> usize {
        self.entries.iter().filter(|(key, entry)| key.address.is_some() && entry.end.is_none()).count()
    }

    /// The state of a report.
    pub fn entry(&self, key: &ReportKey) -> Option<&ReportEntry> {
        self.entries.get(key)
    }

    /// Takes an entry of the store, in the place of the one before.
    pub fn restore(&mut self, key: ReportKey, entry: ReportEntry) {
        let is_new = !self.entries.contains_key(&key);
        if is_new && !matches!(entry.end, Some(ReportEnd::Limit | ReportEnd::Suppressed)) {
            self.take_room(&key);
        }
        self.entries.insert(key, entry);
    }

    /// Takes a suppression of the store.
    pub fn restore_suppression(&mut self, address: ReportAddress, suppression: ReportSuppression) {
        self.suppressed.insert(address, suppression);
        self.bound_suppressions();
    }

    /// Takes the state of an address of the store: it has refused a report, or not.
    pub fn learn_suppression(&mut self, address: ReportAddress, suppression: Option<ReportSuppression>) {
        match suppression {
            Some(suppression) => self.restore_suppression(address, suppression),
            None => {
                self.suppressed.remove(&address);
            }
        }
    }

    /// Forgets that addresses have refused reports: the store tells anew.
    pub fn forget_suppressions(&mut self) {
        self.suppressed.clear();
        self.changed_suppressions.clear();
    }

    /// Whether the report is being sent.
    pub fn is_under_way(&self, key: &ReportKey) -> bool {
        self.under_way.contains(key)
    }

    /// Forgets a report that is another danelaw's from now on.
    pub fn hand_over(&mut self, key: &ReportKey) {
        self.entries.remove(key);
        self.changed.remove(key);
    }

    /// Entries that have changed since they were last taken, so many at the most.
    pub fn take_changed(&mut self, most: usize) -> Vec<ReportKey> {
        std::iter::from_fn(|| self.changed.pop_first()).take(most).collect()
    }

    /// Addresses whose suppression has changed since they were last taken, so many at the most; none where it has ended.
    pub fn take_changed_suppressions(&mut self, most: usize) -> BTreeMap<ReportAddress, Option<ReportSuppression>> {
        let changed: Vec<_> = std::iter::from_fn(|| self.changed_suppressions.pop_first()).take(most).collect();
        changed.into_iter().map(|address| (address.clone(), self.suppressed.get(&address).copied())).collect()
    }

    /// These could not be written.
    pub fn put_back(&mut self, keys: impl IntoIterator<Item = ReportKey>) {
        self.changed.extend(keys);
    }

    /// This one could not be written.
    pub fn put_back_suppression(&mut self, address: ReportAddress) {
        self.changed_suppressions.insert(address);
    }

    /// Forgets the reports about days before the first of these, all of them but one: where the clock goes back, it says that the
    /// reports of its day have begun, so that the day is not reported again. Before the second one it is forgotten too.
    pub fn forget_before(&mut self, KeptDays { counts: day, states }: KeptDays) {
        let mut last = None;
        self.entries.retain(|key, _| {
            let is_first = last.replace(key.of.day) != Some(key.of.day);
            key.of.day >= day || (is_first && key.of.day >= states)
        });
        self.changed.retain(|key| self.entries.contains_key(key));
        self.taken.retain(|of, _| *of >= day);
        // An address keeps its level long enough for the next refusal to be one in a row.
        let is_over = |suppression: &ReportSuppression| suppression.until.saturating_add(ALONE[1]).date() < day;
        let over = self.suppressed.extract_if(.., |_, suppression| is_over(suppression));
        self.changed_suppressions.extend(over.map(|(address, _)| address));
    }

    fn fail(&mut self, key: ReportKey, last: ReportEnd, now: OffsetDateTime) {
        let entry = self.with_one_try_more(&key, now);
        let next = Tries { first: entry.first, count: entry.tries }.next(now);
        let end = if next.is_none() { Some(last) } else { None };
        end.into_iter().for_each(|end| self.untold.add(&key, end));
        self.put(key, ReportEntry { next: next.unwrap_or(now), end, ..entry });
    }

    fn end(&mut self, key: ReportKey, end: ReportEnd, now: OffsetDateTime) {
        let entry = self.with_one_try_more(&key, now);
        self.untold.add(&key, end);
        self.put(key, ReportEntry { next: now, end: Some(end), ..entry });
    }

    fn with_one_try_more(&self, key: &ReportKey, now: OffsetDateTime) -> ReportEntry {
        match self.entries.get(key) {
            Some(before) => ReportEntry { tries: before.tries + 1, ..before.clone() },
            None => ReportEntry { first: now, tries: 1, next: now, end: None, author: None },
        }
    }

    fn put(&mut self, key: ReportKey, entry: ReportEntry) {
        self.entries.insert(key.clone(), entry);
        self.changed.insert(key);
    }

    fn suppress(&mut self, key: &ReportKey, suppression: Option<ReportSuppression>) {
        let Some(address) = &key.address else { return };
        let before = match suppression {
            Some(suppression) => self.suppressed.insert(address.clone(), suppression),
            None => self.suppressed.remove(address),
        };
        if before != suppression {
            self.changed_suppressions.insert(address.clone());
        }
        self.bound_suppressions();
    }

    /// Where there are too many, the one that ends first is forgotten.
    fn bound_suppressions(&mut self) {
        while self.suppressed.len() > MAX_SUPPRESSED
            && let Some((first, _)) = self.suppressed.iter().min_by_key(|(_, suppression)| suppression.until)
        {
            let first = first.clone();
            self.suppressed.remove(&first);
            self.changed_suppressions.insert(first);
        }
    }
}

/// No key of the day comes before this one.
fn first_key(day: Date) -> ReportKey {
    ReportKey { of: DomainDay { day, domain: Name::root() }, address: None }
}

#[cfg(test)]
mod tests {
    use super::super::event::TlsResult;
    use super::super::event::tests::name;
    use super::super::scope::ReportScope;
    use super::super::tally::tests::{event, failure};
    use super::lookups::MAX_LOOKUPS;
    use super::room::{FEW_LEFT, MAX_IN_ALL, MAX_TO_ONE};
    use super::*;
    use crate::config::ReportExtent;
    use crate::refusal::ResultType;

    fn day() -> Date {
        Date::from_calendar_date(2026, time::Month::November, 28).unwrap()
    }

    /// So many hours after the end of the day.
    fn after(hours: i64) -> OffsetDateTime {
        day().midnight().assume_utc() + Duration::hours(24 + hours)
    }

    fn of(domain: &str) -> DomainDay {
        DomainDay { day: day(), domain: name(domain) }
    }

    fn scope(extent: ReportExtent) -> ReportScope {
        ReportScope { extent, skip: vec![".skipped.example".parse().unwrap()], own: name("own.example") }
    }

    fn address(text: &str) -> ReportAddress {
        ReportAddress::parse(text).unwrap()
    }

    fn key(domain: &str, rua: &str) -> ReportKey {
        ReportKey { of: of(domain), address: Some(address(rua)) }
    }

    /// No state of earlier days is kept.
    fn kept(day: Date) -> KeptDays {
        KeptDays { counts: day, states: day }
    }

    /// The end of the lookup for a domain.
    fn end_of(book: &ReportBook, domain: &str) -> Option<ReportEnd> {
        book.entry(&ReportKey { of: of(domain), address: None }).unwrap().end
    }

    fn summed(book: &mut ReportBook) -> Vec<(ReportEnd, &'static str, u64)> {
        let untold = book.take_untold();
        assert_eq!(untold.named, []);
        untold.summed.into_iter().map(|(of, count)| (of.end, of.way, count)).collect()
    }

    fn tally() -> TlsTally {
        let mut tally = TlsTally::default();
        for (recipient, base) in
            [("a.example", "mx.provider.example"), ("b.example", "mx.provider.example"), ("own.example", "own.example")]
        {
            tally.add(&event(recipient, base, TlsResult::Success), day());
        }
        tally.add(&event("x.skipped.example", "a.example", TlsResult::Success), day());
        tally.add(&event("b.example", "mx.provider.example", failure(ResultType::TlsaInvalid, 1)), day());
        tally
    }

    #[test]
    fn a_day_is_reported_once_and_after_its_end() {
        // O8.
        let (tally, scope) = (tally(), scope(ReportExtent::All));
        let book = ReportBook::default();
        assert_eq!(book.due_lookups(&tally, &scope, after(-1)), []);
        assert_eq!(book.due_lookups(&tally, &scope, after(0)), []);
        let domains = |book: &ReportBook, scope, at| -> Vec<String> {
            let due: BTreeSet<_> = book.due_lookups(&tally, scope, at).into_iter().map(|of| of.domain).collect();
            due.iter().map(Name::to_string).collect()
        };
        // Neither ourselves nor those that are skipped.
        assert_eq!(domains(&book, &scope, after(7)), ["a.example", "b.example"]);
        let failures = self::scope(ReportExtent::Failures);
        assert_eq!(domains(&book, &failures, after(7)), ["b.example"]);
        assert_eq!(domains(&book, &scope, after(49)), [""; 0]);
        // The provider comes behind all its recipients.
        let mut book = book;
        book.looked_up(&of("a.example"), RecordFound::None, after(1));
        assert_eq!(domains(&book, &scope, after(7)), ["b.example"]);
        book.looked_up(&of("b.example"), RecordFound::None, after(2));
        assert_eq!(domains(&book, &scope, after(3)), [""; 0]);
        assert_eq!(domains(&book, &scope, after(9)), ["mx.provider.example"]);
    }

    /// Whether the lookup of the domain is due.
    fn is_due(book: &ReportBook, tally: &TlsTally, domain: &str, at: OffsetDateTime) -> bool {
        book.due_lookups(tally, &scope(ReportExtent::All), at).contains(&of(domain))
    }

    #[test]
    fn no_recipient_holds_up_a_provider_for_long() {
        // T17, T33, T36. It waits until eight hours after the day, and not for one whose lookup has failed.
        let (tally, mut book, provider) = (tally(), ReportBook::default(), "mx.provider.example");
        assert_eq!([7, 9].map(|hours| is_due(&book, &tally, provider, after(hours))), [false, true]);
        book.looked_up(&of("a.example"), RecordFound::None, after(1));
        book.looked_up(&of("b.example"), RecordFound::Failed, after(1));
        let mut at = after(4);
        while !is_due(&book, &tally, provider, at) {
            at += Duration::minutes(10);
        }
        let due = ReportWindow::of(day()).due(&name(provider)) + Duration::hours(4);
        assert!(at - due < Duration::minutes(10), "{at} {due}");
    }

    #[test]
    fn domains_in_a_circle_wait_for_each_other_no_longer_than_their_own_time() {
        for count in 2..5 {
            let domain = |number: usize| format!("d{}.example", number % count);
            let mut tally = TlsTally::default();
            for number in 0..count {
                tally.add(&event(&domain(number), &domain(number + 1), TlsResult::Success), day());
            }
            for number in 0..count {
                let due = ReportWindow::of(day()).due(&name(&domain(number))) + Duration::hours(4);
                assert!(is_due(&ReportBook::default(), &tally, &domain(number), due), "{number} of {count}");
            }
        }
    }

    #[test]
    fn a_domain_in_a_chain_waits_for_the_one_before() {
        let (mut tally, mut book, window) = (TlsTally::default(), ReportBook::default(), ReportWindow::of(day()));
        let is_early = |domain: &String| window.due(&name(domain)) < window.end() + Duration::minutes(220);
        let chain: Vec<_> = (0..).map(|number| format!("d{number}.example")).filter(is_early).take(6).collect();
        for pair in chain.windows(2) {
            tally.add(&event(&pair[0], &pair[1], TlsResult::Success), day());
        }
        let mut order = Vec::new();
        for minutes in 0..8 * 60 {
            let at = window.end() + Duration::minutes(minutes);
            for of in book.due_lookups(&tally, &scope(ReportExtent::All), at) {
                book.looked_up(&of, RecordFound::None, at);
                order.push(of.domain.to_string());
            }
        }
        assert_eq!(order, chain);
    }

    #[test]
    fn strangers_hold_up_no_lookup_of_others() {
        // T35, O21: many names of one stranger, and lookups that have failed, whose names come first in the order of letters.
        let (mut tally, mut book) = (TlsTally::default(), ReportBook::default());
        let add = |tally: &mut TlsTally, domain: &str| {
            tally.add(&event(domain, domain, TlsResult::Success), day());
        };
        for number in 0..2 * MAX_LOOKUPS {
            let (silent, many) = (format!("a{number}.example"), format!("a{number}.stranger.example"));
            add(&mut tally, &silent);
            add(&mut tally, &many);
            book.looked_up(&of(&silent), RecordFound::Failed, after(5));
        }
        let honest: Vec<_> = (0..50).map(|number| format!("z{number}.example")).collect();
        honest.iter().for_each(|domain| add(&mut tally, domain));
        let due = book.due_lookups(&tally, &scope(ReportExtent::All), after(6));
        assert_eq!(due.len(), MAX_LOOKUPS);
        let is_honest = |of: &DomainDay| honest.contains(&of.domain.to_string());
        let first: Vec<_> = due.iter().take(51).collect();
        assert_eq!(first.iter().filter(|of| is_honest(of)).count(), 50);
        assert!(due.iter().all(|of| book.entry(&ReportKey { of: of.clone(), address: None }).is_none()));
        // Of equals, the one that was due first.
        let times: Vec<_> =
            first.iter().filter(|of| is_honest(of)).map(|of| ReportWindow::of(day()).due(&of.domain)).collect();
        assert!(times.is_sorted());
        // Those that have failed come when no other is left.
        for of in due {
            book.looked_up(&of, RecordFound::None, after(6));
        }
        for of in book.due_lookups(&tally, &scope(ReportExtent::All), after(6)) {
            book.looked_up(&of, RecordFound::None, after(6));
        }
        let due = book.due_lookups(&tally, &scope(ReportExtent::All), after(6));
        assert!(
            due.len() == MAX_LOOKUPS
                && due
                    .iter()
                    .filter(|of| book.entry(&ReportKey { of: (*of).clone(), address: None }).is_some())
                    .count()
                    == MAX_LOOKUPS - 50
        );
    }

    #[test]
    fn a_day_that_ended_during_a_stop_is_told_as_old_and_once() {
        // T38: b.example was looked up before the stop, and danelaw starts after three days.
        let (tally, scope, mut book) = (tally(), scope(ReportExtent::All), ReportBook::default());
        book.looked_up(&of("b.example"), RecordFound::Failed, after(5));
        book.close_days(&tally, &scope, after(48));
        assert_eq!(summed(&mut book), []);
        for _ in 0..2 {
            book.close_days(&tally, &scope, after(72));
        }
        // Neither ourselves nor those that are skipped.
        assert_eq!(summed(&mut book), [(ReportEnd::Old, "none", 3)]);
        for domain in ["a.example", "b.example", "mx.provider.example"] {
            assert_eq!(end_of(&book, domain), Some(ReportEnd::Old), "{domain}");
        }
        // Nor again after a restart.
        let mut again = ReportBook::default();
        book.entries.iter().for_each(|(key, entry)| again.restore(key.clone(), entry.clone()));
        again.close_days(&tally, &scope, after(73));
        assert_eq!(summed(&mut again), []);
    }

    #[test]
    fn a_report_tells_a_provider_of_the_others_alone() {
        let tally = tally();
        let (mut book, to) = (ReportBook::default(), "mailto:r@provider.example");
        let summed = |book: &ReportBook| -> Vec<u64> {
            let content = book.content(tally.day(day()).unwrap(), &key("mx.provider.example", to));
            content.values().map(|counts| counts.success + counts.failed()).collect()
        };
        assert_eq!(summed(&book), [3]);
        book.looked_up(&of("b.example"), RecordFound::Addresses(vec![address(to)]), after(5));
        assert_eq!(summed(&book), [1]);
        book.looked_up(&of("a.example"), RecordFound::Addresses(vec![address(to)]), after(5));
        assert_eq!(summed(&book), [0; 0]);
    }

    #[test]
    fn each_address_has_tries_of_its_own_for_a_day() {
        // O16.
        let mut book = ReportBook::default();
        let (mail, https) = ("mailto:r@example.org", "https://r.example/");
        let addresses = vec![address(mail), address(https)];
        book.looked_up(&of("a.example"), RecordFound::Addresses(addresses), after(5));
        assert_eq!((book.due_reports(after(5)).len(), book.waiting()), (2, 2));
        book.tried(&key("a.example", mail), ReportTried::Accepted, after(5));
        let mut tries = 0;
        for minutes in 0..48 * 60 {
            let now = after(5) + Duration::minutes(minutes);
            for due in book.due_reports(now) {
                assert_eq!(due, key("a.example", https));
                tries += 1;
                book.tried(&due, ReportTried::Failed, now);
            }
        }
        let end = |book: &ReportBook, rua| book.entry(&key("a.example", rua)).unwrap().end;
        assert_eq!((tries, end(&book, mail), end(&book, https)), (8, Some(ReportEnd::Sent), Some(ReportEnd::Tries)));
    }

    #[test]
    fn a_report_under_way_is_not_begun_again_and_counts_against_the_limits() {
        // O21.
        let mut book = ReportBook::default();
        let rua = "mailto:r@example.org";
        let domains = ["a.example", "b.example", "c.example", "d.example", "e.example"];
        for domain in domains {
            book.looked_up(&of(domain), RecordFound::Addresses(vec![address(rua)]), after(5));
        }
        let slow = key("a.example", rua);
        for key in book.due_reports(after(5)) {
            book.begin(&key, &author("Example Ltd", "tls@own.example"));
        }
        assert_eq!(book.due_reports(after(5)), []);
        for domain in &domains[1..4] {
            book.leave(&key(domain, rua));
        }
        let due = book.due_reports(after(6));
        assert_eq!(due, domains[1..4].iter().map(|domain| key(domain, rua)).collect::<Vec<_>>());
        // It does not end for its age while its try goes on.
        assert!(book.due_reports(after(60)).is_empty() && book.waiting() == 1);
        book.leave(&slow);
        assert!(book.due_reports(after(60)).is_empty() && book.waiting() == 0);
    }

    fn author(organization: &str, contact: &str) -> ReportAuthor {
        ReportAuthor::of(organization, contact).unwrap()
    }

    #[test]
    fn each_try_names_the_author_of_the_first() {
        // O20.
        let (mut book, rua) = (ReportBook::default(), "mailto:r@example.org");
        book.looked_up(&of("a.example"), RecordFound::Addresses(vec![address(rua)]), after(5));
        let (key, first) = (key("a.example", rua), author("Example Ltd", "tls@own.example"));
        assert_eq!(*book.begin(&key, &first), first);
        assert_eq!(book.take_changed(9).len(), 2);
        book.tried(&key, ReportTried::Failed, after(5));
        let renamed = author("Example Inc", "reports@own.example");
        assert_eq!(*book.begin(&key, &renamed), first);
        // Also after a restart.
        let mut again = ReportBook::default();
        again.restore(key.clone(), book.entry(&key).unwrap().clone());
        assert_eq!(*again.begin(&key, &renamed), first);
        // The key of another domain cannot sign in the name of this one.
        let moved = author("Example Ltd", "tls@other.example");
        assert_eq!((&*again.begin(&key, &moved), &*again.begin(&key, &renamed)), (&moved, &renamed));
    }

    #[test]
    fn a_report_that_had_to_wait_has_its_pauses_all_the_same() {
        let mut book = ReportBook::default();
        let rua = "mailto:r@example.org";
        book.looked_up(&of("a.example"), RecordFound::Addresses(vec![address(rua)]), after(5));
        let key = key("a.example", rua);
        for hours in 5..20 {
            assert_eq!(book.due_reports(after(hours)), std::slice::from_ref(&key));
            book.postpone(&key, after(hours + 1));
        }
        book.tried(&key, ReportTried::Failed, after(20));
        let entry = book.entry(&key).unwrap();
        assert_eq!((entry.first, entry.next), (after(20), after(20) + Duration::minutes(5)));
    }

    #[test]
    fn an_event_of_a_day_that_is_being_reported_belongs_to_the_next() {
        let (mut book, mut counts) = (ReportBook::default(), TlsTally::default());
        assert_eq!(book.day_of_counts(day(), &counts), day());
        book.looked_up(&of("a.example"), RecordFound::None, after(5));
        let (before, next) = (day().previous_day().unwrap(), day().next_day().unwrap());
        assert_eq!((book.day_of_counts(day(), &counts), book.day_of_counts(next, &counts)), (next, next));
        assert_eq!(book.day_of_counts(before, &counts), before);
        // The clock went back over midnight, and the day that has begun goes on. A day further back is one of its own.
        counts.add(&event("a.example", "mx.example", TlsResult::Success), next.next_day().unwrap());
        assert_eq!(book.day_of_counts(day(), &counts), next.next_day().unwrap());
        assert_eq!(book.day_of_counts(before, &counts), before);
    }

    #[test]
    fn a_day_that_was_reported_is_known_for_a_month() {
        // T24, T29, H10: the clock goes back by weeks, and the day is not reported again under the same id.
        let (mut book, counts) = (ReportBook::default(), TlsTally::default());
        for domain in ["a.example", "b.example", "c.example"] {
            let found = RecordFound::Addresses(vec![address("mailto:r@example.org")]);
            book.looked_up(&of(domain), found, after(5));
        }
        let days = |counts: i64, states: i64| KeptDays {
            counts: day() + Duration::days(counts),
            states: day() + Duration::days(states),
        };
        book.forget_before(days(0, -26));
        assert_eq!(book.entries.len(), 6);
        for passed in 1..=26 {
            book.forget_before(days(passed, passed - 26));
            assert_eq!((book.entries.len(), book.changed.len(), book.waiting()), (1, 1, 0), "{passed}");
            assert_ne!(book.day_of_counts(day(), &counts), day(), "{passed}");
        }
        book.forget_before(days(27, 1));
        assert_eq!((book.entries.len(), book.changed.len(), book.day_of_counts(day(), &counts)), (0, 0, day()));
    }

    #[test]
    fn an_address_that_refuses_is_left_alone_for_longer() {
        let mut book = ReportBook::default();
        let rua = "mailto:r@example.org";
        let mut now = after(5);
        for days in [7, 30, 30] {
            let until = now + Duration::days(days);
            book.tried(&key("a.example", rua), ReportTried::Refused, now);
            book.looked_up(&of("b.example"), RecordFound::Addresses(vec![address(rua)]), until - Duration::HOUR);
            assert_eq!(end_of(&book, "b.example"), Some(ReportEnd::Suppressed), "{days}");
            book.forget_before(kept(day().next_day().unwrap()));
            now = until + Duration::HOUR;
            book.looked_up(&of("b.example"), RecordFound::Addresses(vec![address(rua)]), now);
            assert_eq!(book.entry(&key("b.example", rua)).unwrap().end, None, "{days}");
            book.forget_before(kept(day().next_day().unwrap()));
        }
        assert_eq!(book.take_changed_suppressions(9).len(), 1);
    }

    #[test]
    fn reports_that_are_refused_together_are_one_refusal() {
        let mut book = ReportBook::default();
        let rua = "mailto:r@example.org";
        for domain in ["a.example", "b.example", "c.example"] {
            book.looked_up(&of(domain), RecordFound::Addresses(vec![address(rua)]), after(5));
        }
        for domain in ["a.example", "b.example"] {
            book.tried(&key(domain, rua), ReportTried::Refused, after(5));
        }
        let suppression = ReportSuppression { until: after(5) + Duration::days(7), level: 1 };
        assert_eq!(book.suppressed[&address(rua)], suppression);
        // The third one is not tried any more, and that is told.
        assert_eq!(book.due_reports(after(6)), []);
        assert_eq!(summed(&mut book), [(ReportEnd::Suppressed, "mail", 1)]);
        // Its level is forgotten once a further refusal would not be one in a row.
        let gone = |book: &mut ReportBook, days| {
            book.forget_before(kept((suppression.until + Duration::days(days)).date()));
            book.suppressed.is_empty()
        };
        assert!(!gone(&mut book, 30) && gone(&mut book, 32));
        assert_eq!(book.take_changed_suppressions(9), [(address(rua), None)].into());
    }

    #[test]
    fn one_owner_has_a_share_of_the_reports() {
        // The hosts below one registered domain that take reports count together.
        let mut book = ReportBook::default();
        for number in 0..150 {
            let rua = address(&format!("https://r{number}.victim.example/"));
            book.looked_up(&of(&format!("d{number}.example")), RecordFound::Addresses(vec![rua]), after(5));
        }
        assert_eq!(book.waiting(), MAX_TO_ONE);
        assert_eq!(summed(&mut book), [(ReportEnd::Limit, "https", 50)]);
    }

    #[test]
    fn the_domains_below_one_have_a_share_where_few_reports_are_left() {
        // T39: below a suffix that is not known there may be many owners; one stranger takes no report from others.
        let report = |book: &mut ReportBook, domain: &str| {
            let rua = address(&format!("https://{}.example/", domain.replace('.', "-")));
            book.looked_up(&of(domain), RecordFound::Addresses(vec![rua]), after(5));
            end_of(book, domain)
        };
        let mut book = ReportBook::default();
        for number in 0..FEW_LEFT {
            assert_eq!(report(&mut book, &format!("d{number}.kommune.no")), Some(ReportEnd::Found));
        }
        assert_eq!(report(&mut book, "one-more.kommune.no"), Some(ReportEnd::Limit));
        for number in 0..MAX_TO_ONE {
            assert_eq!(report(&mut book, &format!("d{number}.stranger.example")), Some(ReportEnd::Found));
        }
        assert_eq!(report(&mut book, "one-more.stranger.example"), Some(ReportEnd::Limit));
        assert_eq!(report(&mut book, "honest.example"), Some(ReportEnd::Found));
        assert_eq!(summed(&mut book), [(ReportEnd::Limit, "https", 2)]);
    }

    #[test]
    fn an_address_that_gets_no_report_leaves_no_row_and_no_line() {
        //
        let mut book = ReportBook::default();
        let refused = address("mailto:refused@example.org");
        book.tried(&key("a.example", "mailto:refused@example.org"), ReportTried::Refused, after(5));
        let full = |number: usize| address(&format!("https://r{number}.victim.example/"));
        for number in 0..MAX_TO_ONE {
            book.looked_up(&of(&format!("d{number}.example")), RecordFound::Addresses(vec![full(number)]), after(5));
        }
        let known = book.entries.len();
        for number in 200..300 {
            let addresses = vec![full(number), full(number + 100), refused.clone()];
            book.looked_up(&of(&format!("d{number}.example")), RecordFound::Addresses(addresses), after(5));
        }
        // The lookup itself, which is not made again.
        assert_eq!((book.entries.len() - known, book.waiting()), (100, MAX_TO_ONE));
        assert_eq!(end_of(&book, "d200.example"), Some(ReportEnd::Suppressed));
        assert_eq!(summed(&mut book), [(ReportEnd::Limit, "https", 200), (ReportEnd::Suppressed, "mail", 100)]);
        // One that has a place for a report beside them has that one.
        let addresses = vec![address("mailto:r@example.org"), refused, full(400)];
        book.looked_up(&of("e.example"), RecordFound::Addresses(addresses), after(5));
        assert_eq!((end_of(&book, "e.example"), book.waiting()), (Some(ReportEnd::Found), MAX_TO_ONE + 1));
    }

    #[test]
    fn suppressions_are_bounded_and_those_that_last_stay() {
        let mut book = ReportBook::default();
        let rua = |number: usize| address(&format!("mailto:r{number}@example.org"));
        let suppression = |number: usize| ReportSuppression {
            until: after(5) + Duration::seconds(i64::try_from(number).unwrap()),
            level: 1,
        };
        for number in 0..MAX_SUPPRESSED + 2 {
            book.restore_suppression(rua(number), suppression(number));
        }
        assert_eq!(book.suppressed.len(), MAX_SUPPRESSED);
        // The store forgets the others too.
        assert_eq!(book.take_changed_suppressions(9), [(rua(0), None), (rua(1), None)].into());
    }

    #[test]
    fn no_domain_is_flooded() {
        // T19, T39, A-112.
        let mut book = ReportBook::default();
        for number in 0..2150 {
            let rua = match number {
                0..150 => "mailto:r@victim.example".to_owned(),
                _ => format!("https://r{number}.example/"),
            };
            book.looked_up(&of(&format!("d{number}.example")), RecordFound::Addresses(vec![address(&rua)]), after(5));
        }
        let to_victim = book.entries.iter().filter(|(key, entry)| {
            entry.end.is_none() && key.address.as_ref().is_some_and(|to| to.target() == &name("victim.example"))
        });
        assert_eq!((to_victim.count(), book.waiting()), (MAX_TO_ONE, MAX_IN_ALL));
        // A restart forgets none of them.
        let mut again = ReportBook::default();
        book.entries.iter().for_each(|(key, entry)| again.restore(key.clone(), entry.clone()));
        again.looked_up(
            &of("one-more.example"),
            RecordFound::Addresses(vec![address("https://more.example/")]),
            after(5),
        );
        assert_eq!(again.waiting(), MAX_IN_ALL);
        let due = book.due_reports(after(5));
        let to_victim = due.iter().filter(|key| key.address == Some(address("mailto:r@victim.example")));
        assert!(to_victim.count() <= TO_ONE_TOGETHER && due.len() == MAX_UNDER_WAY);
        assert!(book.due_reports(after(60)).is_empty() && book.waiting() == 0);
    }
}
